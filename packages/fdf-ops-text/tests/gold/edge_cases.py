"""Makes the documents on which FDF's text filters are compared with other tools: thresholds, odd texts, mixtures.

    python edge_cases.py > edge_cases.jsonl

Every text is made here, the same on each run. For each rule of Gopher quality and repetition, C4 and FineWeb there are
texts at its threshold, just below and just above, which the rules before it let pass. Pieces of text are in
edge_pieces.toml, mixtures of them in edge_mixtures.py. What other tools decide on the texts lies beside this file, by
the SHA-256 of the text.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import edge_mixtures

Case = tuple[str, str]

# No "b", "h", "t": none of the words that are made of these letters is a stop word.
CONSONANTS = "dfgklmnprsvz"
VOWELS = "aeiou"
PIECES = tomllib.loads(Path(__file__).with_name("edge_pieces.toml").read_text(encoding="utf-8"))
SPLITLINES = ("\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def cases() -> Iterator[Case]:
    """Yield every document with its name: those of the rules, the odd ones, and the mixtures."""
    for rule in RULES:
        yield from ((f"{rule.__name__}/{name}", text) for name, text in rule())
    yield from ((f"odd/{name}", text) for name, text in odd())
    yield from ((f"mixture/{name}", text) for name, text in edge_mixtures.mixtures())


# --- words of which nothing is special --------------------------------------------------------------------------------


def word(number: int, length: int = 5) -> str:
    """Return a lower-case word; two numbers below 12 * 5 * 12 ... (`length` factors) give two words."""
    letters = []
    for place in range(length):
        alphabet = VOWELS if place % 2 else CONSONANTS
        number, digit = divmod(number, len(alphabet))
        letters.append(alphabet[digit])
    return "".join(letters)


def words(count: int, length: int = 5, *, start: int = 0) -> list[str]:
    """Return `count` different words of one length."""
    return [word(number, length) for number in range(start, start + count)]


def sized(characters: int, count: int, *, start: int = 0) -> list[str]:
    """Return `count` words that hold `characters` letters in all, as evenly as can be."""
    short, longer = divmod(characters, count)
    return [word(start + number, short + (number < longer)) for number in range(count)]


def padded(text: str, length: int, *, start: int = 0, separator: str = " ") -> str:
    """Return the text with different words behind it, as long as was asked for."""
    parts = [text]
    missing = length - len(text)
    number = start
    while missing:
        step = 8 if missing >= 16 else missing - len(separator) + 1
        parts.append(word(number, step - 1))
        missing -= step - 1 + len(separator)
        number += 1
    return separator.join(parts)


def prose(count: int, length: int = 5, *, start: int = 0) -> str:
    """Return `count` words, two of them stop words."""
    return " ".join(["the", "of", *words(count - 2, length, start=start)])


def sentence(number: int, count: int = 6, end: str = ".") -> str:
    """Return a sentence of `count` words of its own."""
    return " ".join(words(count, 6, start=number * 40)).capitalize() + end


def sentences(count: int, *, separator: str = "\n") -> str:
    """Return sentences, one to a line."""
    return separator.join(sentence(number) for number in range(count))


# --- Gopher quality ---------------------------------------------------------------------------------------------------


def gopher_words() -> Iterator[Case]:
    """Yield texts around the rules on how many words there are, and how long."""
    for count in (1, 2, 48, 49, 50, 51, 99_999, 100_000, 100_001):
        yield f"words/{count}", prose(count) if count > 2 else "the of"[: 3 * count]
    for extra in PIECES["no_words"]:
        yield f"49 words and {extra!a}", prose(49) + f" {extra}"
        yield f"49 words that hold {extra!a}", prose(48) + f" de{extra}fi"
    for letters in (145, 149, 150, 151, 499, 500, 501, 600):
        yield f"mean length {letters}/50", " ".join(["the", "of", *sized(letters - 5, 48)])
    for length in (2, 3, 4, 9, 10, 11):
        yield f"every word of {length}", " ".join([*words(60, length), "to be"])


def gopher_shares() -> Iterator[Case]:
    """Yield texts around the rules on shares of words: symbols, letters, stop words."""
    for symbol in PIECES["symbols"]:
        for count in (4, 5, 6, 9, 10, 11, 12):
            plain = prose(100 - count).split(" ")
            yield f"{count} of {symbol} alone", " ".join([*plain[:40], *[symbol] * count, *plain[40:]])
            yield f"{count} of {symbol} before words", " ".join([*(symbol + w for w in plain[:count]), *plain[count:]])
            held = [f"la{symbol}{w}" for w in plain[:count]]
            yield f"{count} of {symbol} in words", " ".join([*held, *plain[count:]])
    for token in PIECES["letterless"]:
        for count in (19, 20, 21, 30):
            plain = prose(100 - count).split(" ")
            yield f"{count} % of {token!a}", " ".join([*plain[:30], *[token] * count, *plain[30:]])
    for count in (0, 1, 2, 3):
        for chosen in list(combinations(STOP_WORDS, count))[:12]:
            yield f"stop words {'+'.join(chosen)}", " ".join([*chosen, *words(60)])
    for held in PIECES["stop_words_in"]:
        yield f"stop words in {held}", " ".join([held, *words(60)])


def gopher_lines() -> Iterator[Case]:
    """Yield texts around the rules on bullets and on lines that end with an ellipsis."""
    plain = [" ".join(["the", "of", *words(10, 5, start=40 * number)]) for number in range(20)]
    for bullet in PIECES["bullets"]:
        for count in (8, 9, 10):
            lines = [f"{bullet} {line}" if n < count else line for n, line in enumerate(plain[:10])]
            yield f"bullets {bullet!a} {count}/10", "\n".join(lines)
    for separator in SPLITLINES:
        for count in (9, 10):
            lines = [f"- {line}" if n < count else line for n, line in enumerate(plain[:10])]
            yield f"bullets {count}/10 between {separator!a}", separator.join(lines) + separator
    for count in (17, 18, 19, 20):
        yield f"bullets {count}/20", "\n".join(f"• {ln}" if n < count else ln for n, ln in enumerate(plain))
        yield f"bullets {count} and blank lines", "\n\n".join(f"- {ln}" for ln in plain[:count]) + "\n" * (20 - count)
    for end in PIECES["ellipses"]:
        for count in (2, 3, 4):
            lines = [f"{line} {end}" if n < count else line for n, line in enumerate(plain[:10])]
            yield f"ends {end!a} {count}/10", "\n".join(lines)
    for separator in SPLITLINES:
        for count in (3, 4):
            lines = [f"{line}…" if n < count else line for n, line in enumerate(plain[:10])]
            yield f"ends {count}/10 between {separator!a}", separator.join(lines)


# --- Gopher repetition ------------------------------------------------------------------------------------------------


def gopher_repeated_blocks() -> Iterator[Case]:
    """Yield texts around the rules on repeated paragraphs and lines: their share, and their characters' share."""
    for name, separator in (
        ("paragraphs", "\n\n"),
        ("paragraphs far apart", "\n\n\n\n"),
        ("lines", "\n"),
        ("lines CRLF", "\r\n"),
        ("paragraphs CRLF", "\r\n\r\n"),
        ("paragraphs with a space between", "\n \n"),
        ("lines CR", "\r"),
        ("lines LS", "\u2028"),
    ):
        for count in (2, 3, 4, 5):
            blocks = [*(["da"] * (count + 1)), *words(9 - count, 60)]
            yield f"{name} {count}/10", separator.join(blocks)
            yield f"{name} {count}/10 and more around", separator + separator.join(blocks) + separator
        for length in (980, 999, 1000, 1001, 1009, 1010, 1020):
            between = [separator.join([word(1, 100), *words(4, 14, start=start)]) for start in (0, 4, 8)]
            text = padded(separator.join(between), length, start=9, separator=separator)
            yield f"{name}, 200 characters of {length}", text
        yield f"{name} that differ in spaces", separator.join(["da da ", "da da", " da da", "da  da"])
    for text in PIECES["repetition_texts"]:
        yield f"text {text!a}", text


def gopher_n_grams() -> Iterator[Case]:
    """Yield texts around the rules on the most frequent and on repeated n-grams."""
    for n, letters in ((2, 19), (3, 16), (4, 13)):
        gram = " ".join(sized(letters, n, start=30))
        for length in (995, 999, 1000, 1001, 1005):
            start = " ".join(f"{word(number, 7)} {gram}" for number in range(100, 110))
            yield f"top {n}-gram, length {length}", padded(start, length, start=300)
    for n, letters in ((5, 75), (6, 70), (7, 65), (8, 60), (9, 55), (10, 50)):
        # Long words at both ends of five: so no four of them are frequent enough to be a top 4-gram.
        gram = " ".join([word(3, 27), *words(3, 7), word(4, 27)] if n == 5 else sized(letters, n, start=30))
        for length in (995, 999, 1000, 1001, 1005):
            start = " ".join(f"{word(number, 7)} {gram}" for number in (100, 101, 102))
            yield f"{n}-gram twice more, length {length}", padded(start, length, start=300)
    for count in (1, 2, 3, 4, 5, 6, 9, 10, 11, 20, 21):
        yield f"one word {count} times", " ".join(["mana"] * count)
        yield f"two words {count} times", " ".join(["mana felo"] * count)
        yield f"{count} different words", " ".join(words(count))
        yield f"five words {count} times", " ".join(["mana felo kida rusa nilo"] * count)
    for first, second in (("da fe", "dagakama fegakama"), ("dagakama fegakama", "da fe")):
        text = " ".join(f"{word(n, 6)} {first} {word(n + 50, 6)} {second}" for n in range(8))
        yield f"tie, {first} first", f"{text} {word(70, 6)}"
    whole = "".join(words(5, 20))
    for cuts in ((20, 40, 60, 80), (10, 40, 60, 85), (1, 2, 3, 4)):
        again = " ".join(whole[begin:end] for begin, end in pairwise((0, *cuts, 100)))
        for name, tail in (("", again), (", one letter else", again[:-1] + "x")):
            begin = padded(" ".join(words(5, 20)), 400, start=300)
            yield f"five-gram cut at {cuts}{name}", padded(f"{begin} {tail}", 640, start=500)
    yield "repeats that overlap", " ".join(["ma ne ki lo ru"] * 3 + ["ma ne ki"] + words(40, 7))


# --- C4 ---------------------------------------------------------------------------------------------------------------


def c4_lines() -> Iterator[Case]:
    """Yield texts whose fifth line decides: its end, its words, what it holds."""
    four = sentences(4)
    for end in PIECES["line_ends"]:
        yield f"line ends {end!a}", f"{four}\n{sentence(9, end=end)}"
    for count in (1, 2, 3, 4):
        yield f"line of {count} words", f"{four}\n{sentence(9, count)}"
        yield f"line of {count} words in two pieces", f"{four}\n{sentence(9, count - 1, '')} mina-foki."
        yield f"line of {count} words and a citation", f"{four}\n{sentence(9, count - 1, '')} [1]."
    for space in PIECES["spaces"]:
        yield f"words between {space!a}", f"{four}\n{space}{sentence(9).replace(' ', space)}{space}"
    for length in (999, 1000, 1001):
        yield f"word of {length}", f"{four}\n{word(3, length)} {sentence(9)}"
        yield f"word of {length} and its full stop", f"{four}\n{sentence(9, end='')} {word(3, length)}."
    for held in PIECES["citations"]:
        yield f"citation {held} inside", f"{four}\n{sentence(9, end='')} {held} {sentence(10)}"
        yield f"citation {held} before the end", f"{four}\n{sentence(9, end='')}{held}."
        yield f"citation {held} behind the end", f"{four}\n{sentence(9)}{held}"
        yield f"citation {held} apart, behind the end", f"{four}\n{sentence(9)} {held}"
    for held in (*POLICY, "lorem ipsum", "javascript", "{", "}", "{}"):
        for name, written in (("", held), (" in capitals", held.upper()), (" in a word", f"xx{held}xx")):
            yield f"{held}{name}", f"{four}\n{sentence(9, end='')} {written} {sentence(10)}"
        yield f"{held} in a sixth line", f"{sentences(5)}\n{held} {sentence(9)}"
        yield f"{held} in a line without end", f"{sentences(5)}\n{sentence(9, end='')} {held}"
        yield f"{held} in a short line", f"{sentences(5)}\n{held}."
        yield f"{held} behind a long word", f"{sentences(5)}\n{word(3, 1001)} {held} {sentence(9)}"
        yield f"{held} by another space", f"{sentences(5)}\nMina {held.replace(' ', chr(0xA0))} {sentence(9)}"
    for held in PIECES["folded"]:
        yield f"folded {held!a}", f"{four}\n{sentence(9, end='')} {held} {sentence(10)}"
    yield "bracket, then lorem ipsum", f"{sentence(1)}\nMina {{ kelo fira.\nLorem ipsum dolor fira."
    yield "lorem ipsum, then bracket", f"{sentence(1)}\nLorem ipsum dolor fira.\nMina {{ kelo fira."
    yield "javascript and bracket in a line", f"{sentences(5)}\nMina javascript {{ kelo fira."


def c4_document() -> Iterator[Case]:
    """Yield texts around the number of sentences, and texts that C4 rewrites."""
    for count in (0, 1, 3, 4, 5, 6):
        yield f"{count} sentences, a line each", sentences(count)
        yield f"{count} sentences in a line", sentences(count, separator=" ")
        yield f"{count} sentences and lines without end", sentences(count) + "\nmina kelo fira\n" * 3
    for separator in SPLITLINES:
        yield f"lines between {separator!a}", sentences(5, separator=separator)
    for text in PIECES["sentences"]:
        for count in (1, 2, 4):
            line = f"{' '.join(words(3, 6))} {text}"
            yield f"{count} sentences and {text!a}", f"{sentences(count)}\n{line}"
        yield f"five times {text!a}", " ".join([text] * 5)
    for end in PIECES["ends"]:
        for name, written in (("", end), (" apart", f" {end}")):
            joined = " ".join(f"Mina kelo{written}" for _ in range(4))
            yield f"five sentences that end {end!a}{name}", f"{joined} Mina kelo fira."
    yield "indented, blank lines, ends trimmed", "\n\n  ".join(["\t", *sentences(6).split("\n"), " \u00a0\n"])
    yield "every line dropped", "mina kelo fira\n" * 10


# --- FineWeb ----------------------------------------------------------------------------------------------------------


def fineweb() -> Iterator[Case]:
    """Yield texts around FineWeb's rules on lines: how they end, short ones, repeated ones, newlines to words."""
    plain = [" ".join(words(9, 6, start=40 * number)) for number in range(100)]
    for total, counts in ((25, (2, 3, 4)), (100, (11, 12, 13)), (8, (0, 1)), (9, (1, 2))):
        for count in counts:
            lines = [f"{line}." if n < count else line for n, line in enumerate(plain[:total])]
            yield f"{count}/{total} lines end", "\n".join(lines)
            yield f"{count}/{total} lines end, blank lines between", "\n \n\n".join(lines)
    for end in PIECES["ends"]:
        yield f"one of eight lines ends {end!a}", "\n".join([*plain[:7], plain[7] + end])
    for count in (66, 67, 68):
        for length in (29, 30, 31):
            lines = [f"{line[: length - 1]}." if n < count else line for n, line in enumerate(plain)]
            yield f"{count}/100 lines of {length}", "\n".join(lines)
    for length in (980, 999, 1000, 1001, 1020):
        for name, separator in (("", "\n"), (", blank lines", "\n\n"), (", CR", "\r\n")):
            lines = ["Mina kelo.", padded(word(5, 9), 400, start=20), "Mina kelo."]
            blank = (len(separator) - 1) * 3 if "\r" in separator else 0
            last = padded(word(6, 9), length - 420 - blank, start=90)
            yield f"10 characters of {length} again{name}", separator.join([*lines, last])
    for newlines in (29, 30, 31):
        yield f"{newlines} newlines, 100 words", sentence(1, 99) + "\n" * newlines
        lines = "\n".join(" ".join(words(4, 9, start=9 * number)) + "." for number in range(20))
        yield f"{newlines} newlines, 100 words in lines", lines + "\n" * (newlines - 19)
    for text in ("\n" * 10, " \n\t\n\u00a0\n", "\n.\n", ".", "a.", " a. ", "a.\r", "a.\r\n" * 10):
        yield f"text {text!a}", text


# --- odd texts --------------------------------------------------------------------------------------------------------


def odd() -> Iterator[Case]:
    """Yield texts that are empty, huge, of one character, of spaces, or in other scripts, and each piece in prose."""
    yield "empty", ""
    yield "5 MB in one line", " ".join(words(833_334, 5))
    yield "5 MB in one word", "a" * 5_000_000
    yield "1 MB of ideographs", "中" * 333_333
    for character in PIECES["characters"]:
        for count in (1, 2, 60, 3000):
            yield f"{count} of {character!a}", character * count
        yield f"60 of {character!a} apart", " ".join([character] * 60)
    for space in PIECES["spaces"]:
        yield f"prose between {space!a}", prose(60).replace(" ", space)
        yield f"prose between two {space!a}", prose(60).replace(" ", space * 2)
        yield f"sentences between {space!a}", sentences(6).replace("\n", space)
        yield f"mixed with {space!a}", prose(60).replace(" ", f" {space}", 20)
    for name, group in PIECES["groups"].items():
        yield f"{name}, one to a line", "\n".join(group)
        yield f"{name} in a line", " ".join(group)
        for number, piece in enumerate(group):
            yield f"{name} {number} alone", piece
            yield f"{name} {number} in prose", f"{prose(30)} {piece} {prose(30, start=200)}."
            yield (
                f"{name} {number} among brackets",
                f"{prose(25)} ({piece}), “{piece}”; '{piece}': {piece}. {prose(25)}",
            )
    for name, text in PIECES["texts"].items():
        yield name, text
        yield f"{name}, four times", "\n\n".join([text] * 4)


RULES = (
    gopher_words,
    gopher_shares,
    gopher_lines,
    gopher_repeated_blocks,
    gopher_n_grams,
    c4_lines,
    c4_document,
    fineweb,
)


def main() -> None:
    """Write the cases to stdout as JSON lines, each text once."""
    for text, name in {text: name for name, text in cases()}.items():
        sys.stdout.write(json.dumps({"id": name, "text": text}) + "\n")


if __name__ == "__main__":
    main()
