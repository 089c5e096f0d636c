"""Characters of a text that several rules count, found in one pass over its bytes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pyarrow as pa

from fdf.sharing import shared
from fdf_ops_text.analysis.texts import Integers, Texts
from fdf_ops_text.kernels.lines import text_marks


@dataclass(frozen=True, eq=False)
class Marks:
    """Per row: characters, line feeds, ``#``, ``...`` (not overlapping), ``…``, and the fewest words it may have."""

    chars: Integers
    line_feeds: Integers
    hashes: Integers
    dots: Integers
    ellipses: Integers
    fewest_words: Integers

    def take(self, rows: Integers) -> Marks:
        """Return the marks of these rows only."""
        return Marks(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def marks_of(column: pa.Array) -> Marks:
    """Return the marks of a text column, shared within a batch."""
    texts = Texts.of(column)
    return shared(column, "marks", lambda: Marks(*text_marks(texts.data, texts.starts, texts.ends)))
