"""Keep texts of a useful length."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fdf.operator import Filter
from fdf.verdict import Verdict, above, below
from fdf_ops_text.words import require_text, word_counts


@dataclass(frozen=True, kw_only=True)
class WordCountFilter(Filter):
    """Keep documents whose word count lies within bounds: by default Gopher's.

    A word is a maximal run of characters that are not whitespace, as in Python's ``text.split()``. A bound of null
    (None) is switched off. A null text is kept: a row without text is none of this filter's business.

    Source: Gopher, Rae et al. 2021 (arXiv 2112.11446), appendix A, table A1.

    >>> batch = pa.record_batch({"text": ["too short", "just long enough", None]})
    >>> WordCountFilter(min_words=3).verdict(batch).codes.tolist()
    [1, 0, 0]
    """

    field: str = "text"
    """The column of text."""
    min_words: int | None = 50
    """The fewest words that are kept; null: no lower bound."""
    max_words: int | None = 100_000
    """The most words that are kept; null: no upper bound."""

    version = "1.0.0"
    modality = "text"
    reasons = ("too_few_words", "too_many_words")

    def __post_init__(self) -> None:
        """Refuse bounds that no document can meet, or none at all."""
        if self.min_words is None and self.max_words is None:
            raise ValueError("WordCountFilter has both bounds switched off: set min_words, max_words, or leave it out")
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}: no document has both")

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return no columns. Raises PlanError where `field` is no text."""
        require_text(schema, self.field, operator="WordCountFilter")
        return {}

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Drop texts of too few or too many words."""
        n = word_counts(batch.column(self.field))
        return Verdict.first(
            too_few_words=None if self.min_words is None else below(n, self.min_words),
            too_many_words=None if self.max_words is None else above(n, self.max_words),
        )
