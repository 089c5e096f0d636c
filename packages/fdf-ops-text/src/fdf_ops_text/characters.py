"""Says of every Unicode character what rules and kernels ask of it, as one table of bits by code point.

`str.isspace`, `str.isalpha` and the like decide as the running Python does, so that kernels agree with plain Python;
what tools define by lists of their own is written here as code points.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Table: TypeAlias = npt.NDArray[np.uint16]
A = TypeVar("A", bound=npt.NDArray[np.generic])

SPACE = 1
"""`str.isspace`: what `str.split()` and `str.strip()` go by."""
LETTER = 2
"""`str.isalpha`."""
ALNUM = 4
"""`str.isalnum`."""
SYMBOL = 8
"""In datatrove's set of punctuation: a word of nothing else is no word to Gopher's counts."""
PUNCTUATION = 16
"""General category P, as spaCy's `is_punct` asks."""
SENTENCE_END = 32
"""Ends a sentence to spaCy's sentencizer."""
TERMINAL = 64
"""Ends a line to FineWeb."""
LINE_BREAK = 128
"""Where `str.splitlines` breaks (a carriage return and a line feed break once)."""
UPPER = 256
"""`str.isupper`."""
NUMERIC = 512
"""`str.isnumeric`."""
WORD = 1024
"""``\\w`` of Python's regular expressions: `str.isalnum` or the underscore."""

DECIMAL = 2048
"""``\\d`` of Python's regular expressions: `str.isdecimal`."""
CLOSING = 4096
"""A quote or a bracket that may stand behind the end of a sentence."""

# datatrove 0.10.1, utils/text.py: the characters that end a line to FineWeb (TERMINAL_PUNCTUATION).
_TERMINAL = (
    "21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6 "
    "17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 "
    "2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB "
    "FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 "
    "111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 "
    "1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 "
    "16B44 16E98 1BC9F 1DA88"
)
# The same module's PUNCTUATION; together with the above its PUNCTUATION_SET.
_SYMBOLS = (
    "0-8 B-1F 21-2F 3A-40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001-3002 3008-300D "
    "3010-3011 FF01 FF05 FF08-FF09 FF0C FF0E FF11 FF1A-FF1B FF1F FF5E"
)
# spaCy 3.8, pipeline/sentencizer.pyx: default_punct_chars is the list above without these, which came later.
_NO_SENTENCE_END = (
    "61D-61E 837 839 83D-83E 17D4-17D6 17D9-17DA 1B7D-1B7E 2E53-2E54 10F55-10F59 10F86-10F89 11944 11946 11EF7-11EF8 "
    "11F43-11F44 16E98"
)
_CLOSING = "\"'”’»›)]}」』）】》〉"  # noqa: RUF001 (that they look alike is why all are listed)
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
CODE_POINTS = 0x110000


def code_points(written: str) -> frozenset[int]:
    """Read a list of hexadecimal code points and ranges.

    >>> sorted(code_points("21 2E-30"))
    [33, 46, 47, 48]
    """
    found: set[int] = set()
    for part in written.split():
        first, _, last = part.partition("-")
        found.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(found)


def terminal_punctuation() -> frozenset[int]:
    """Return the code points that end a line to FineWeb."""
    return code_points(_TERMINAL)


def symbols() -> frozenset[int]:
    """Return the code points of datatrove's PUNCTUATION_SET."""
    return code_points(_SYMBOLS) | code_points(_TERMINAL)


def sentence_ends() -> frozenset[int]:
    """Return the code points that end a sentence to spaCy's sentencizer."""
    return code_points(_TERMINAL) - code_points(_NO_SENTENCE_END)


def build_table() -> Table:
    """Make the table: an array of one number per code point, the sum of the bits that are true of it."""
    table = np.zeros(CODE_POINTS, dtype=np.uint16)
    predicates: dict[int, Callable[[str], bool]] = {
        SPACE: str.isspace,
        LETTER: str.isalpha,
        ALNUM: str.isalnum,
        UPPER: str.isupper,
        NUMERIC: str.isnumeric,
        DECIMAL: str.isdecimal,
        WORD: lambda character: character.isalnum() or character == "_",
        PUNCTUATION: lambda character: unicodedata.category(character)[0] == "P",
    }
    # Surrogates are no characters: valid UTF-8 has none.
    characters = [(code, chr(code)) for code in range(CODE_POINTS) if not 0xD800 <= code < 0xE000]
    for bit, holds in predicates.items():
        table[[code for code, character in characters if holds(character)]] |= np.uint16(bit)
    listed: dict[int, Iterable[int]] = {
        SYMBOL: symbols(),
        SENTENCE_END: sentence_ends(),
        TERMINAL: terminal_punctuation(),
        LINE_BREAK: map(ord, LINE_BREAKS),
        CLOSING: map(ord, _CLOSING),
    }
    for bit, codes in listed.items():
        table[list(codes)] |= np.uint16(bit)
    table.flags.writeable = False
    return table


@cache
def table() -> Table:
    """Return the table, made once per user and version and then read from the cache folder."""
    from fdf_ops_text.kernels.compiling import digest, folder

    return kept(folder() / f"characters-{digest(Path(__file__))}.npy", build_table)


def kept(path: Path, build: Callable[[], A]) -> A:
    """Return an array that is kept in a file, and made where the file is missing. It cannot be written to."""
    try:
        held: A = np.load(path)
    except (OSError, ValueError, EOFError):
        held = build()
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        with aside.open("wb") as file:
            np.save(file, held)
        aside.replace(path)
    held.flags.writeable = False
    return held
