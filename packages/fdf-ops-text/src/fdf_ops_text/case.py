"""Says of every Unicode character what it is in lower case, and whether it is a digit to `str.isdigit`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fdf_ops_text.characters import CODE_POINTS, kept

CaseTable: TypeAlias = npt.NDArray[np.uint32]
LOWER = 0x1FFFFF
"""The bits that hold the code point in lower case."""
DIGIT = 0x200000
"""`str.isdigit`: also superscripts and circled digits, which are no decimals."""


@cache
def case_table() -> CaseTable:
    """Return the table, made once per user and version of Python.

    U+0130, the one character that `str.lower` makes two of, stays as it is; a final sigma becomes one like any other.
    """
    from fdf_ops_text.kernels.compiling import digest, folder

    return kept(folder() / f"case-{digest(Path(__file__))}.npy", _build)


def _build() -> CaseTable:
    table = np.arange(CODE_POINTS, dtype=np.uint32)
    for code in range(CODE_POINTS):
        character = chr(code)
        lower = character.lower()
        if len(lower) == 1:
            table[code] = ord(lower)
        if character.isdigit():
            table[code] |= np.uint32(DIGIT)
    return table
