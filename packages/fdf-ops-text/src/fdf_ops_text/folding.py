"""Says of every Unicode character what lower case and canonical decomposition (NFD) make of it, as tables for kernels.

The tables hold what `str.lower` and `unicodedata.normalize` of the running Python say, so that kernels agree with plain
Python. Two things depend on what stands around a character and are left to the kernel: a capital sigma at the end of
a word, and the order of several marks on one letter. What decides them is in the table of traits.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from fdf_ops_text.characters import CODE_POINTS, Table, kept

CLASS = 255
"""The bits of a trait that hold the canonical combining class: by it marks are put in order, 0 is no mark."""
IGNORABLE = 256
"""Passed over when `str.lower` looks for letters around a capital sigma."""
CASED = 512
"""A letter with case to `str.lower` when it looks around a capital sigma."""
UNCAPITAL = 1024
"""A word that has it is not `str.isupper`: lower case and title case."""
ENTRY = 16
"""Numbers of an entry: its bytes, how many of its characters are numeric, then the bytes themselves."""


@dataclass(frozen=True, eq=False)
class Folding:
    """`traits` per code point; `index` per code point, 0 where it stays as it is, else 1 + its row of `entries`.

    The trait of a code point that does not stay tells the combining class of the first character put in its place.
    """

    traits: Table
    index: Table
    entries: Table


def build_traits() -> Table:
    """Make the table of traits."""
    table = np.zeros(CODE_POINTS, np.uint16)
    for code, character in _characters():
        trait = unicodedata.combining(unicodedata.normalize("NFD", character.lower())[0])
        # What stands before a capital sigma decides how it is written in lower case; that tells the two traits.
        if f"{character}\u03a3".lower()[-1] == "\u03c2":
            trait |= CASED
        elif f"A{character}\u03a3".lower()[-1] == "\u03c2":
            trait |= IGNORABLE
        if character.islower() or (character.istitle() and not character.isupper()):
            trait |= UNCAPITAL
        table[code] = trait
    return table


def build_index() -> Table:
    """Make the table of rows of entries."""
    table = np.zeros(CODE_POINTS, np.uint16)
    for number, (code, _) in enumerate(_changing()):
        table[code] = number + 1
    return table


def build_entries() -> Table:
    """Make the table of what is written in place of characters."""
    changing = _changing()
    table = np.zeros((len(changing), ENTRY), np.uint16)
    for number, (_, written) in enumerate(changing):
        data = written.encode()
        table[number, : 2 + len(data)] = [len(data), sum(map(str.isnumeric, written)), *data]
    return table


def _characters() -> list[tuple[int, str]]:
    # Surrogates are no characters: valid UTF-8 has none.
    return [(code, chr(code)) for code in range(CODE_POINTS) if not 0xD800 <= code < 0xE000]


def _changing() -> list[tuple[int, str]]:
    """Return the code points that do not stay as they are, with what is put in their place."""
    folded = ((code, c, unicodedata.normalize("NFD", c.lower())) for code, c in _characters())
    return [(code, written) for code, character, written in folded if written != character]


@cache
def folding() -> Folding:
    """Return the tables, made once per user and version and then read from the cache folder."""
    from fdf_ops_text.kernels.compiling import digest, folder

    builders = {"traits": build_traits, "index": build_index, "entries": build_entries}
    version = digest(Path(__file__))
    return Folding(**{name: kept(folder() / f"folding-{name}-{version}.npy", make) for name, make in builders.items()})
