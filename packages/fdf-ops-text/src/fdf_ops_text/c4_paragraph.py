"""Keep texts with a few long lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from fdf.verdict import Rule
from fdf_ops_text.text_filter import TextFilter


@dataclass(frozen=True, kw_only=True)
class C4ParagraphFilter(TextFilter):
    r"""Drop texts of which fewer than three lines have 200 characters, as mC4 did with pages of most languages.

    Lines are what stands between line feeds, whitespace and all. The decisions are those of datatrove 0.10.1's filter
    of this name, whose reason reads ``< 3 paragraphs``; it always asks of the three longest lines, which is the same at
    its fixed numbers.

    Source: Xue et al. 2021 (arXiv 2010.11934), section 3.1; tensorflow_datasets, text/c4_utils.py. A null text is kept.

    >>> line = "A line of a text, to be repeated until it is a paragraph. " * 4
    >>> batch = pa.record_batch({"text": ["\n".join([line] * 3), "\n".join([line] * 2), None]})
    >>> C4ParagraphFilter().verdict(batch).codes.tolist()
    [0, 1, 0]
    """

    field: str = "text"
    """The column of text."""
    min_paragraphs: int = 3
    """The fewest long lines that a text is kept with."""
    min_paragraph_chars: int = 200
    """The fewest characters of a long line."""

    version = "1.0.0"
    reasons = ("too_few_paragraphs",)
    PRESETS: ClassVar = {"": {}}

    def __post_init__(self) -> None:
        """Refuse numbers that every text, or no line, has."""
        if self.min_paragraphs < 1 or self.min_paragraph_chars < 0:
            raise ValueError(
                f"min_paragraphs {self.min_paragraphs}, min_paragraph_chars {self.min_paragraph_chars}: no text has "
                "fewer, so set 1 or more and 0 or more, or leave the filter out"
            )

    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        from fdf_ops_text.analysis.texts import Texts
        from fdf_ops_text.kernels.paragraphs import long_lines

        texts = Texts.of(column)
        found = long_lines(texts.data, texts.starts, texts.ends, self.min_paragraph_chars)
        return {"too_few_paragraphs": self.too_low(found, "min_paragraphs")}
