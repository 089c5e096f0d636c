"""Mixes pieces, words and lines into documents at random, from a seed: near the thresholds, where rules meet."""

from __future__ import annotations

import random
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

SEED = 20241130
EACH = 500

PIECES = tomllib.loads(Path(__file__).with_name("edge_pieces.toml").read_text(encoding="utf-8"))
COMMON = PIECES["common_words"]
RARER = PIECES["rarer_words"]
ALL = tuple(piece for group in PIECES["groups"].values() for piece in group)
RARE_GAPS = ("\n\n", "  ", "\t", ", ", ". ", ".\n", "; ", "-", "", "\r\n", "\u00a0", " \n ", "\u2028", "…\n")
GAPS = (" ",) * 12 + ("\n",) * 3 + RARE_GAPS
ENDS = (".", ".", ".", ".", "!", "?", ".”", ".)", "...", "…", "", ". [1]")
FORBIDDEN = (" javascript.", " Cookie Policy.", " {", " lorem ipsum.", " [edit]")


def mixtures(seed: int = SEED, each: int = EACH) -> Iterator[tuple[str, str]]:
    """Yield `each` documents of every kind of mixture, with names."""
    for kind in (of_pieces, of_prose, of_lines, of_phrases):
        draw = random.Random(f"{seed} {kind.__name__}")
        yield from ((f"{kind.__name__} {number}", kind(draw)) for number in range(each))


def of_pieces(draw: random.Random) -> str:
    """Join pieces of every group, and a few characters from anywhere, by gaps of every kind."""
    usual = draw.random()
    parts: list[str] = []
    for _ in range(draw.randrange(1, 120)):
        chance = draw.random()
        if chance < usual:
            parts.append(draw.choice(COMMON))
        elif chance < 0.98:
            parts.append(draw.choice(ALL))
        else:
            parts.append("".join(any_character(draw) for _ in range(draw.randrange(1, 8))))
        parts.append(draw.choice(GAPS))
    return "".join(parts)


def any_character(draw: random.Random) -> str:
    """Return a character that Unicode 3.2 knew: every version of Python that FDF runs on knows what it is."""
    while True:
        character = chr(draw.randrange(draw.choice((0x80, 0x500, 0x3100, 0x10000, 0x30000))))
        if unicodedata.ucd_3_2_0.category(character) not in {"Cs", "Cn"}:
            return character


def of_prose(draw: random.Random) -> str:
    """Write paragraphs of sentences, with as many odd tokens as rules on letters and symbols bear, more or less."""
    odd = draw.choice((0.0, 0.05, 0.1, 0.15, 0.2))
    paragraphs = []
    for _ in range(draw.randrange(1, 6)):
        paragraphs.append(" ".join(sentence(draw, odd=odd) for _ in range(draw.randrange(1, 6))))
        if draw.random() < 0.15:
            paragraphs.append(draw.choice(paragraphs))
    return draw.choice(("\n", "\n\n", "\r\n")).join(paragraphs)


def sentence(draw: random.Random, *, odd: float = 0.03) -> str:
    """Return a sentence of common words, rarer ones and odd tokens."""
    said = []
    for _ in range(draw.randrange(3, 25)):
        said.append(draw.choice(ALL) if draw.random() < odd else draw.choice(draw.choice((COMMON, RARER))))
        if draw.random() < 0.08:
            said[-1] += draw.choice((",", ";", ":", " -", " …", "..."))
    return " ".join(said).capitalize() + draw.choice(ENDS)


def of_lines(draw: random.Random) -> str:
    """Write lines, some short, some with bullets, some repeated, some with what C4 forbids."""
    begin = draw.choice(("", "", "- ", "• ", "* ", "1. "))
    repeated = draw.choice((0.0, 0.02, 0.1, 0.3))
    ends = draw.choice((0.1, 0.3, 0.9))
    lines: list[str] = []
    for _ in range(draw.randrange(3, 40)):
        chance = draw.random()
        if lines and chance < repeated:
            lines.append(draw.choice(lines))
        elif chance < 0.5:
            said = sentence(draw)
            lines.append(begin + (said if draw.random() < ends else said.rstrip(".!?…”)")))
        elif chance < 0.9:
            lines.append(begin + " ".join(draw.choice(COMMON) for _ in range(draw.randrange(1, 8))))
        elif chance < 0.93:
            lines.append(sentence(draw) + draw.choice(FORBIDDEN))
        else:
            lines.append(draw.choice(("", " ", "…", "---", "\t", "\u00a0")))
    return draw.choice(("\n", "\n", "\n", "\n\n", "\r\n")).join(lines)


def of_phrases(draw: random.Random) -> str:
    """Repeat phrases of a few words between other words, about as often as Gopher's repetition rules bear."""
    phrase = [draw.choice((*COMMON, *RARER, *ALL)) for _ in range(draw.randrange(2, 12))]
    often = draw.choice((0.02, 0.04, 0.08))
    said: list[str] = []
    for _ in range(draw.randrange(20, 150)):
        said += phrase if draw.random() < often else [draw.choice(draw.choice((COMMON, RARER)))]
        if draw.random() < 0.05:
            said[-1] += draw.choice((".", ".\n", ",", ".\n\n"))
    return " ".join(said)
