"""Keep texts that keep Gopher's rules of quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from fdf.verdict import Rule
from fdf_ops_text.text_filter import Bound, TextFilter, Tokenizer, share

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


@dataclass(frozen=True, kw_only=True)
class GopherQualityFilter(TextFilter):
    """Keep texts of a useful length, of ordinary words, with few symbols, bullets and lines that trail off.

    By `preset: datatrove` the decisions and reasons are those of datatrove 0.10.1's filter of this name. A word counts
    for the length rules if a character of it is no punctuation; symbols and letters are counted against all words, so
    that text full of punctuation is dropped. Rules are tried in the order of the reasons.

    Source: Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1. A null text is kept.

    >>> batch = pa.record_batch({"text": ["Too short.", "The cat and the dog sat " * 20, None]})
    >>> judged = GopherQualityFilter(tokenizer="whitespace").verdict(batch)
    >>> [judged.reasons[code - 1] if code else "keep" for code in judged.codes]
    ['gopher_short_doc', 'keep', 'keep']
    """

    field: str = "text"
    """The column of text."""
    preset: Literal["datatrove"] = "datatrove"
    """Whose definitions and thresholds hold."""
    tokenizer: Tokenizer | None = None
    """What a word is; null: the preset's. Other words than the preset's give other decisions."""
    min_words: Bound = None
    """The fewest words that are kept (50)."""
    max_words: Bound = None
    """The most words that are kept (100,000)."""
    min_word_length: Bound = None
    """The lowest mean number of characters of a word that is kept (3)."""
    max_word_length: Bound = None
    """The highest mean number of characters of a word that is kept (10)."""
    max_symbols: Bound = None
    """The highest number of ``#``, and of ellipses, per word that is kept (0.1)."""
    max_bullet_lines: Bound = None
    """The highest share of lines that start with a bullet that is kept (0.9)."""
    max_ellipsis_lines: Bound = None
    """The highest share of lines that end in an ellipsis that is kept (0.3)."""
    min_letter_words: Bound = None
    """The lowest share of words with a letter that is kept (0.8)."""
    min_stop_words: Bound = None
    """The fewest different stop words that are kept (2)."""
    stop_words: tuple[str, ...] = STOP_WORDS
    """The stop words, compared as they are written."""

    version = "1.0.0"
    extras = ("spacy",)
    reasons = (
        "gopher_short_doc",
        "gopher_long_doc",
        "gopher_below_avg_threshold",
        "gopher_above_avg_threshold",
        "gopher_too_many_hashes",
        "gopher_too_many_ellipsis",
        "gopher_too_many_bullets",
        "gopher_too_many_end_ellipsis",
        "gopher_below_alpha_threshold",
        "gopher_enough_stop_words",
    )
    PRESETS: ClassVar = {
        "datatrove": {
            "min_words": 50,
            "max_words": 100_000,
            "min_word_length": 3,
            "max_word_length": 10,
            "max_symbols": 0.1,
            "max_bullet_lines": 0.9,
            "max_ellipsis_lines": 0.3,
            "min_letter_words": 0.8,
            "min_stop_words": 2,
        },
    }

    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        from fdf_ops_text.analysis.lines import line_marks_of
        from fdf_ops_text.analysis.marks import marks_of
        from fdf_ops_text.analysis.words import words_of
        from fdf_ops_text.kernels.gopher import word_marks
        from fdf_ops_text.kernels.hashing import hashes_of

        words = words_of(column, self.tokenizer or "datatrove")
        marks, lines = marks_of(column), line_marks_of(column, "datatrove")
        plain, plain_chars, letters, stop_words = word_marks(
            words.first, words.last, words.n_chars, words.flags, words.hashes, hashes_of(self.stop_words)
        )
        n = words.counts
        length = share(plain_chars, plain)
        return {
            "gopher_short_doc": self.too_low(plain, "min_words"),
            "gopher_long_doc": self.too_high(plain, "max_words"),
            "gopher_below_avg_threshold": self.too_low(length, "min_word_length"),
            "gopher_above_avg_threshold": self.too_high(length, "max_word_length"),
            "gopher_too_many_hashes": self.too_high(share(marks.hashes, n), "max_symbols"),
            "gopher_too_many_ellipsis": self.too_high(share(marks.dots + marks.ellipses, n), "max_symbols"),
            "gopher_too_many_bullets": self.too_high(share(lines.bullets, lines.count), "max_bullet_lines"),
            "gopher_too_many_end_ellipsis": self.too_high(share(lines.ellipses, lines.count), "max_ellipsis_lines"),
            "gopher_below_alpha_threshold": self.too_low(share(letters, n), "min_letter_words"),
            "gopher_enough_stop_words": self.too_low(stop_words.astype(np.int64), "min_stop_words"),
        }
