"""The properties by which Unicode finds words, as a table for the kernel: those of uniseg, which DCLM finds words with.

uniseg 0.10 holds Unicode 16.0. Its own table decides, whatever Unicode Python knows, so that words stay the same.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from fdf_ops_text.characters import CODE_POINTS, Table, kept
from fdf_ops_text.kernels.compiling import digest, folder
from fdf_ops_text.kernels.uax29 import (
    ALETTER,
    CR,
    DOUBLE_QUOTE,
    EXTEND,
    EXTEND_NUM_LET,
    FORMAT,
    HEBREW_LETTER,
    KATAKANA,
    LF,
    MID_LETTER,
    MID_NUM,
    MID_NUM_LET,
    NEWLINE,
    NUMERIC,
    OTHER,
    PICTOGRAPHIC,
    REGIONAL_INDICATOR,
    SINGLE_QUOTE,
    WSEG_SPACE,
    ZWJ,
)

_VALUES = {
    "Other": OTHER,
    "CR": CR,
    "LF": LF,
    "Newline": NEWLINE,
    "Extend": EXTEND,
    "Format": FORMAT,
    "ZWJ": ZWJ,
    "ALetter": ALETTER,
    "Hebrew_Letter": HEBREW_LETTER,
    "Numeric": NUMERIC,
    "Katakana": KATAKANA,
    "ExtendNumLet": EXTEND_NUM_LET,
    "Single_Quote": SINGLE_QUOTE,
    "Double_Quote": DOUBLE_QUOTE,
    "MidNumLet": MID_NUM_LET,
    "MidLetter": MID_LETTER,
    "MidNum": MID_NUM,
    "Regional_Indicator": REGIONAL_INDICATOR,
    "WSegSpace": WSEG_SPACE,
}


@cache
def break_table() -> Table:
    """Return Word_Break and Extended_Pictographic of every code point, made once per user and version of uniseg.

    Raises ModuleNotFoundError where uniseg is not installed, also if its table has been kept.
    """
    name = f"wordbreaks-{version('uniseg')}-{digest(Path(__file__))}.npy"
    return kept(folder() / name, _build)


def _build() -> Table:
    from uniseg.emoji import extended_pictographic
    from uniseg.wordbreak import word_break

    characters = map(chr, range(CODE_POINTS))
    values = (
        _VALUES[word_break(character).value] | (PICTOGRAPHIC if extended_pictographic(character) else 0)
        for character in characters
    )
    return np.fromiter(values, np.uint16, CODE_POINTS)
