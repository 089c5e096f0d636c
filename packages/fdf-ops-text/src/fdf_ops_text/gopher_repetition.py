"""Keep texts that do not repeat themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from fdf.verdict import Rule
from fdf_ops_text.text_filter import Bound, TextFilter, Tokenizer

_MEASURED = (
    "dup_para_frac",
    "dup_para_char_frac",
    "dup_line_frac",
    "dup_line_char_frac",
    "top_2_gram",
    "top_3_gram",
    "top_4_gram",
    "duplicated_5_n_grams",
    "duplicated_6_n_grams",
    "duplicated_7_n_grams",
    "duplicated_8_n_grams",
    "duplicated_9_n_grams",
    "duplicated_10_n_grams",
)


@dataclass(frozen=True, kw_only=True)
class GopherRepetitionFilter(TextFilter):
    r"""Drop texts with too many repeated paragraphs, lines and n-grams of words.

    By `preset: datatrove` the decisions and reasons are those of datatrove 0.10.1's filter of this name. A paragraph,
    line or n-gram is repeated where the same one stood before it. The most frequent 2- to 4-gram counts with all its
    occurrences, also if it occurs once; 5- to 10-grams are looked for greedily from the left. Shares of characters are
    of the whole text, whitespace included. Parameters bear the names of the reasons; rules are tried in this order.

    Source: Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1, table A1. A null text is kept.

    >>> batch = pa.record_batch({"text": ["one\ntwo\none\none", "every line of these\nis another one, so it stays"]})
    >>> judged = GopherRepetitionFilter(tokenizer="whitespace", top_2_gram=0.5, top_3_gram=0.5, top_4_gram=0.5)
    >>> judged = judged.verdict(batch)
    >>> [judged.reasons[code - 1] if code else "keep" for code in judged.codes]
    ['dup_line_frac', 'keep']
    """

    field: str = "text"
    """The column of text."""
    preset: Literal["datatrove"] = "datatrove"
    """Whose definitions and thresholds hold."""
    tokenizer: Tokenizer | None = None
    """What a word is; null: the preset's."""
    dup_para_frac: Bound = None
    """The highest share of repeated paragraphs that is kept (0.3)."""
    dup_para_char_frac: Bound = None
    """The highest share of characters in repeated paragraphs that is kept (0.2)."""
    dup_line_frac: Bound = None
    """The highest share of repeated lines that is kept (0.3)."""
    dup_line_char_frac: Bound = None
    """The highest share of characters in repeated lines that is kept (0.2)."""
    top_2_gram: Bound = None
    """The highest share of characters in the most frequent pair of words that is kept (0.20)."""
    top_3_gram: Bound = None
    """The same for three words (0.18)."""
    top_4_gram: Bound = None
    """The same for four words (0.16)."""
    duplicated_5_n_grams: Bound = None
    """The highest share of characters in repeated runs of five words that is kept (0.15)."""
    duplicated_6_n_grams: Bound = None
    """The same for six words (0.14)."""
    duplicated_7_n_grams: Bound = None
    """The same for seven words (0.13)."""
    duplicated_8_n_grams: Bound = None
    """The same for eight words (0.12)."""
    duplicated_9_n_grams: Bound = None
    """The same for nine words (0.11)."""
    duplicated_10_n_grams: Bound = None
    """The same for ten words (0.10)."""

    version = "1.0.0"
    extras = ("spacy",)
    reasons = ("empty", *_MEASURED)
    PRESETS: ClassVar = {
        "datatrove": dict(
            zip(_MEASURED, (0.3, 0.2, 0.3, 0.2, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True)
        ),
    }

    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        from fdf_ops_text.analysis.marks import marks_of
        from fdf_ops_text.analysis.words import words_of
        from fdf_ops_text.characters import table
        from fdf_ops_text.kernels.repetition import repetition

        words, chars = words_of(column, self.tokenizer or "datatrove"), marks_of(column).chars
        texts = words.texts
        # The kernel stops at the first rule that a text breaks: what it did not measure is NaN, which breaks none.
        bounds = [self.bound(name) for name in _MEASURED]
        measured = repetition(
            texts.data,
            texts.starts,
            texts.ends,
            chars,
            table(),
            words.first,
            words.last,
            words.at_byte,
            words.n_bytes,
            words.n_chars,
            words.hashes,
            np.array([np.inf if bound is None else bound for bound in bounds]),
        )
        shares = {name: self.too_high(measured[:, i], name) for i, name in enumerate(_MEASURED)}
        return {"empty": Rule(chars == 0), **shares}
