"""How lines begin and end, by the conventions of one tool or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from fdf.sharing import shared
from fdf_ops_text.analysis.texts import Integers, Texts
from fdf_ops_text.characters import table
from fdf_ops_text.kernels.lines import ONE_CHARACTER, SPACED_DOTS, THREE_DOTS, line_marks

Convention = Literal["datatrove", "dolma", "dclm", "paper"]


@dataclass(frozen=True)
class _Lines:
    """Which lines there are, what opens a bulleted one, and what an ellipsis is."""

    bullets: str
    ellipses: int
    universal: bool
    trim: bool
    skip_blank: bool


_CONVENTIONS: dict[str, _Lines] = {
    # `str.splitlines`, stripped; blank lines count.
    "datatrove": _Lines("•-", THREE_DOTS | ONE_CHARACTER, universal=True, trim=True, skip_blank=False),
    # Between line feeds, as they are: blank lines count, and whitespace hides a bullet or an ellipsis (gopher_v1).
    "dolma": _Lines("*-", ONE_CHARACTER, universal=False, trim=False, skip_blank=False),
    # Between line feeds, stripped; blank lines do not count.
    "dclm": _Lines("●•*-", THREE_DOTS | ONE_CHARACTER | SPACED_DOTS, universal=False, trim=True, skip_blank=True),
    # The paper says "line", "bullet point" and "ellipsis": the usual marks, in lines that are not blank.
    "paper": _Lines("●•*-", THREE_DOTS | ONE_CHARACTER, universal=False, trim=True, skip_blank=True),
}


@dataclass(frozen=True, eq=False)
class LineMarks:
    """Per row: lines, lines that start with a bullet, lines that end in an ellipsis."""

    count: Integers
    bullets: Integers
    ellipses: Integers

    def take(self, rows: Integers) -> LineMarks:
        """Return the marks of these rows only."""
        return LineMarks(self.count[rows], self.bullets[rows], self.ellipses[rows])


def line_marks_of(column: pa.Array, convention: Convention) -> LineMarks:
    """Return how the lines of a text column begin and end, shared within a batch."""
    kind = _CONVENTIONS[convention]
    texts = Texts.of(column)
    bullets = np.array([ord(bullet) for bullet in kind.bullets], np.int64)
    return shared(
        column,
        ("line marks", convention),
        lambda: LineMarks(
            *line_marks(
                texts.data,
                texts.starts,
                texts.ends,
                table(),
                bullets,
                kind.ellipses,
                kind.universal,
                kind.trim,
                kind.skip_blank,
            )
        ),
    )
