"""Keep texts that do not repeat themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.verdict import Rule
from fdf_ops_text.text_filter import Bound, TextFilter, Tokenizer

if TYPE_CHECKING:
    from fdf_ops_text.analysis.words import Words

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

_TABLE_A1 = dict(
    zip(_MEASURED, (0.3, 0.2, 0.3, 0.2, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True)
)
_DCLM_FIRST = ("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")
"""The rules that DCLM tries first, in its order."""


@dataclass(frozen=True, kw_only=True)
class GopherRepetitionFilter(TextFilter):
    r"""Drop texts with too many repeated paragraphs, lines and n-grams of words.

    - `preset: datatrove`: the decisions and reasons of datatrove 0.10.1's filter of this name. A paragraph, line or
      n-gram is repeated where the same one stood before it. The most frequent 2- to 4-gram counts with all its
      occurrences, also if it occurs once; 5- to 10-grams are looked for greedily from the left. Shares of characters
      are of the whole text, whitespace included.
    - `preset: dolma`: dolma 1.2.1's tagger gopher_v1 with the bounds of its mix for the web (Dolma 1.5, cc-head). What
      occurs more than once is repeated with all its occurrences. Lines are taken as they are, blank ones too; their
      characters, and those of the most frequent n-gram (also if it occurs once), are a share of the words' characters.
      5- to 10-grams that occur more than once are a share of the characters of all such n-grams. No rule for
      paragraphs, and 0.3 for the characters of lines.
    - `preset: dclm`: DCLM's massive_web_repetition_filters (commit 361714b). All occurrences count, in lines and
      paragraphs (cut at ``\n\n``) without the whitespace around them, blank ones left out, of whose characters the
      shares are. The longest of the most frequent n-grams counts, if it occurs twice; of 5- to 10-grams, every word
      that a repeated one covers, once. A text without a line is `empty`. Lines, paragraphs, then their characters.

    Parameters bear the names of the reasons; rules are tried in this order, but for dclm's.

    Source: Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1, table A1. A null text is kept.

    >>> batch = pa.record_batch({"text": ["one\ntwo\none\none", "every line of these\nis another one, so it stays"]})
    >>> judged = GopherRepetitionFilter(tokenizer="whitespace", top_2_gram=0.5, top_3_gram=0.5, top_4_gram=0.5)
    >>> judged = judged.verdict(batch)
    >>> [judged.reasons[code - 1] if code else "keep" for code in judged.codes]
    ['dup_line_frac', 'keep']
    """

    field: str = "text"
    """The column of text."""
    preset: Literal["datatrove", "dolma", "dclm"] = "datatrove"
    """Whose definitions and thresholds hold."""
    tokenizer: Tokenizer | None = None
    """What a word is; null: the preset's, which is of its name."""
    dup_para_frac: Bound = None
    """The highest share of repeated paragraphs that is kept (0.3; dolma: off)."""
    dup_para_char_frac: Bound = None
    """The highest share of characters in repeated paragraphs that is kept (0.2; dolma: off)."""
    dup_line_frac: Bound = None
    """The highest share of repeated lines that is kept (0.3)."""
    dup_line_char_frac: Bound = None
    """The highest share of characters in repeated lines that is kept (0.2; dolma 0.3)."""
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

    version = "1.1.0"
    extras = ("spacy", "unicode")
    reasons = ("empty", *_MEASURED)
    PRESETS: ClassVar = {
        "datatrove": {"tokenizer": "datatrove", **_TABLE_A1},
        "dolma": {
            "tokenizer": "dolma",
            **_TABLE_A1,
            "dup_para_frac": None,
            "dup_para_char_frac": None,
            "dup_line_char_frac": 0.3,
        },
        "dclm": {"tokenizer": "dclm", **_TABLE_A1},
    }

    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        from fdf_ops_text.analysis.marks import marks_of
        from fdf_ops_text.analysis.words import words_of

        words, chars = words_of(column, self.words), marks_of(column).chars
        # The kernels stop at the first rule that a text breaks: what they did not measure is NaN, which breaks none.
        bounds = np.array([np.inf if (bound := self.bound(name)) is None else bound for name in _MEASURED])
        if self.preset == "datatrove":
            measured = self._measured_from_the_left(words, chars, bounds)
        else:
            measured = self._measured_by_count(words, bounds)
        shares = {name: self.too_high(measured[:, i], name) for i, name in enumerate(_MEASURED)}
        if self.preset == "dolma":
            return shares
        if self.preset == "datatrove":
            return {"empty": Rule(chars == 0), **shares}
        no_line = np.isposinf(measured[:, _MEASURED.index("dup_line_frac")])
        return {"empty": Rule(no_line), **{name: shares[name] for name in (*_DCLM_FIRST, *shares)}}

    def _measured_from_the_left(
        self, words: Words, chars: npt.NDArray[np.int64], bounds: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        from fdf_ops_text.characters import table
        from fdf_ops_text.kernels.repetition import repetition

        texts = words.texts
        measured: npt.NDArray[np.float64] = repetition(
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
            bounds,
        )
        return measured

    def _measured_by_count(self, words: Words, bounds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        from fdf_ops_text.characters import table
        from fdf_ops_text.kernels.counted_repetition import counted_repetition

        texts = words.texts
        measured: npt.NDArray[np.float64] = counted_repetition(
            texts.data,
            texts.starts,
            texts.ends,
            table(),
            words.first,
            words.last,
            words.n_chars,
            words.hashes,
            bounds,
            self.preset == "dclm",
        )
        return measured
