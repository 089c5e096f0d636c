"""Rewrite texts line by line, as published filters do before they judge what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from fdf.operator import Columns, Context, Refiner
from fdf_ops_text.c4_quality import C4_PRESETS, line_rules
from fdf_ops_text.text_filter import Bound, warm
from fdf_ops_text.words import require_text


@dataclass(frozen=True, kw_only=True)
class RemoveLines(Refiner):
    r"""Drop lines, and cut marks out of lines, by C4's rules; join what is left with line feeds.

    Which lines go, and in what order, is told at `C4QualityFilter`, which drops the texts of which too little is left:
    put it before this, with the same parameters, and both share the work. A text without any line left is empty. A
    null text stays null.

    Source: Raffel et al. 2020 (JMLR 21-074), section 2.2; datatrove 0.10.1, C4QualityFilter.

    >>> batch = pa.record_batch({"text": ["Home\nA sentence to be kept.[1]\nPlease enable JavaScript now."]})
    >>> RemoveLines(terminal_punct=False).refine(batch)["text"].to_pylist()
    ['A sentence to be kept.']
    """

    field: str = "text"
    """The column of text."""
    preset: Literal["datatrove", "t5"] = "datatrove"
    """Whose numbers hold."""
    min_words_per_line: Bound = None
    """The fewest words of a line that is kept (datatrove 3, t5 5)."""
    max_word_length: Bound = None
    """The most characters of a word in a line that is kept (1,000)."""
    terminal_punct: bool = True
    """Whether lines that do not end in a punctuation mark are dropped."""
    citations: bool = True
    """Whether citation marks are cut out."""
    lorem_ipsum: bool = True
    """As in `C4QualityFilter`; no line is dropped for it."""
    javascript: bool = True
    """Whether lines that say "javascript" are dropped."""
    curly_bracket: bool = True
    """As in `C4QualityFilter`; no line is dropped for it."""
    policy: bool = True
    """Whether lines that speak of cookies, privacy or terms of use are dropped."""

    version = "1.0.0"
    modality = "text"
    PRESETS = C4_PRESETS

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column, of the type it has. Raises PlanError where it is no text."""
        return {self.field: require_text(schema, self.field, operator="RemoveLines")}

    def setup(self, context: Context) -> None:
        """Load the kernels, compiled by the first worker of this version that needs them."""
        warm(self, self.refine)

    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Rewrite the column."""
        from fdf_ops_text.analysis.c4 import rewritten

        column = batch.column(self.field)
        return {self.field: rewritten(column, line_rules(self)).column(column.type)}
