"""Keep texts whose lines read like prose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from fdf.verdict import Rule
from fdf_ops_text.text_filter import Bound, TextFilter, Tokenizer, share
from fdf_ops_text.utf8 import valid_text

AT_LEAST_RUNS = frozenset({"whitespace", "dolma", "datatrove"})
"""The tokenizers that make at least a word of each run of characters that are not whitespace."""
_SHARED = {"tokenizer": "datatrove", "line_punct_ratio": 0.12, "short_line_ratio": 0.67, "list_ratio": 0.3}


@dataclass(frozen=True, kw_only=True)
class FineWebQualityFilter(TextFilter):
    r"""Drop texts with few lines that end a sentence, many short lines, repeated lines, or many lines for their words.

    By `preset: datatrove` the decisions and reasons are those of datatrove 0.10.1's filter of this name. Lines are
    separated by line feeds; those of nothing but whitespace do not count, the others are taken as they are, so that a
    line with whitespace after its full stop does not end in one. `preset: paper` has the published threshold for
    repeated characters, 0.1, where datatrove's code has 0.01.

    Source: Penedo et al. 2024 (arXiv 2406.17557), section 3.6. A null text is kept.

    >>> batch = pa.record_batch({"text": ["home\nabout\ncontact", "A sentence of more than thirty characters.", " "]})
    >>> judged = FineWebQualityFilter(tokenizer="whitespace").verdict(batch)
    >>> [judged.reasons[code - 1] if code else "keep" for code in judged.codes]
    ['line_punct_ratio', 'keep', 'empty']
    """

    field: str = "text"
    """The column of text."""
    preset: Literal["datatrove", "paper"] = "datatrove"
    """Whose thresholds hold."""
    tokenizer: Tokenizer | None = None
    """What a word is; null: the preset's, `datatrove`."""
    line_punct_ratio: Bound = None
    """The lowest share of lines that end with a mark that ends a sentence that is kept (0.12)."""
    line_punct_exclude_zero: bool = False
    """Whether texts without any such line are kept."""
    short_line_ratio: Bound = None
    """The highest share of short lines that is kept (0.67)."""
    short_line_length: int = 30
    """The most characters of a short line."""
    char_dup_ratio: Bound = None
    """The highest share of characters in repeated lines that is kept (datatrove 0.01, paper 0.1)."""
    list_ratio: Bound = None
    """The highest number of line feeds per word that is kept (0.3)."""

    version = "1.0.0"
    extras = ("spacy",)
    reasons = ("empty", "line_punct_ratio", "short_line_ratio", "char_dup_ratio", "list_ratio")
    PRESETS: ClassVar = {
        "datatrove": {"char_dup_ratio": 0.01, **_SHARED},
        "paper": {"char_dup_ratio": 0.1, **_SHARED},
    }

    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        from fdf_ops_text.analysis.marks import marks_of
        from fdf_ops_text.analysis.texts import Texts
        from fdf_ops_text.analysis.words import known_words, words_of
        from fdf_ops_text.characters import TERMINAL, table
        from fdf_ops_text.kernels.fineweb import line_shares

        texts, marks = Texts.of(column), marks_of(column)
        lines, terminal, short, repeated_chars = line_shares(
            texts.data, texts.starts, texts.ends, table(), TERMINAL, self.short_line_length
        )
        ended = share(terminal, lines)
        if self.line_punct_exclude_zero:
            ended[terminal == 0] = 1
        per_word = None
        bound = self.bound("list_ratio")
        if bound is not None:
            counts = marks.fewest_words.copy()
            if self.words not in AT_LEAST_RUNS or known_words(column, self.words) is not None:
                counts = words_of(column, self.words).counts
            else:
                # Few texts are so full of line feeds that their words must be counted exactly.
                close = np.flatnonzero(marks.line_feeds > bound * counts)
                counts[close] = words_of(valid_text(column).take(pa.array(close)), self.words).counts
            per_word = self.too_high(share(marks.line_feeds, counts), "list_ratio")
        return {
            "empty": Rule(lines == 0),
            "line_punct_ratio": self.too_low(ended, "line_punct_ratio"),
            "short_line_ratio": self.too_high(share(short, lines), "short_line_ratio"),
            "char_dup_ratio": self.too_high(share(repeated_chars, marks.chars - marks.line_feeds), "char_dup_ratio"),
            "list_ratio": per_word,
        }
