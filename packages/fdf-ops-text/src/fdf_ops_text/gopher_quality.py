"""Keep texts that keep Gopher's rules of quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.verdict import Rule
from fdf_ops_text.text_filter import Bound, TextFilter, Tokenizer, share

if TYPE_CHECKING:
    from fdf_ops_text.analysis.words import Words

Measured: TypeAlias = dict[str, npt.NDArray[Any]]
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")

_BOUNDS = {
    "min_words": 50,
    "max_words": 100_000,
    "min_word_length": 3,
    "max_word_length": 10,
    "max_symbols": 0.1,
    "max_bullet_lines": 0.9,
    "max_ellipsis_lines": 0.3,
    "min_letter_words": 0.8,
    "min_stop_words": 2,
}


@dataclass(frozen=True, kw_only=True)
class GopherQualityFilter(TextFilter):
    """Keep texts of a useful length, of ordinary words, with few symbols, bullets and lines that trail off.

    - `preset: datatrove`: the decisions and reasons of datatrove 0.10.1's filter of this name. A word counts for the
      length rules if a character of it is no punctuation; symbols and letters are counted against all words, so that
      text full of punctuation is dropped. Stop words are counted once each.
    - `preset: dolma`: dolma 1.2.1's tagger gopher_v1 with the bounds of its mix for the web (Dolma 1.5, cc-head), but
      for repetition, which is `GopherRepetitionFilter`'s. The median length of words counts, not the mean; a word that
      holds ``#`` or ``…`` is a symbol, ``...`` is none; bullets are ``*`` and ``-``, only ``…`` ends a line in an
      ellipsis; stop words count as often as they occur.
    - `preset: dclm`: DCLM's steps (commit 361714b, dclm_baseline_refinedweb.yaml from page_length_filter to
      stop_word_filter). `tokenizer` is for the number of words alone; all else is counted in whitespace words. Symbols
      are ``#``, ``...``, ``. . .`` and ``…`` together; stop words count in lower case, as often as they occur.
    - `preset: paper`: the rules as the paper words them, over whitespace words. It leaves open what a bullet is (here
      ``● • * -``) and whether stop words are told apart by case (here they are; each counts once).

    Rules are tried in the order of the reasons; by dolma, letters and stop words before bullets and ellipses, as its
    configuration lists them. `gopher_too_many_symbols` is said where hashes and ellipses count
    together (dolma, dclm), the two reasons before it where each counts alone.

    Source: Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1. A null text is kept.

    >>> batch = pa.record_batch({"text": ["Too short.", "The cat and the dog sat " * 20, None]})
    >>> judged = GopherQualityFilter(tokenizer="whitespace").verdict(batch)
    >>> [judged.reasons[code - 1] if code else "keep" for code in judged.codes]
    ['gopher_short_doc', 'keep', 'keep']
    """

    field: str = "text"
    """The column of text."""
    preset: Literal["datatrove", "dolma", "dclm", "paper"] = "datatrove"
    """Whose definitions and thresholds hold."""
    tokenizer: Tokenizer | None = None
    """What a word is; null: the preset's (datatrove `datatrove`, dolma `dolma`, dclm `fasttext`, paper `whitespace`).
    Other words than the preset's give other decisions."""
    min_words: Bound = None
    """The fewest words that are kept (50)."""
    max_words: Bound = None
    """The most words that are kept (100,000)."""
    min_word_length: Bound = None
    """The lowest mean (dolma: median) number of characters of a word that is kept (3)."""
    max_word_length: Bound = None
    """The highest mean (dolma: median) number of characters of a word that is kept (10)."""
    max_symbols: Bound = None
    """The highest number of ``#``, and of ellipses, per word that is kept (0.1); dolma and dclm: of both together."""
    max_bullet_lines: Bound = None
    """The highest share of lines that start with a bullet that is kept (0.9)."""
    max_ellipsis_lines: Bound = None
    """The highest share of lines that end in an ellipsis that is kept (0.3)."""
    min_letter_words: Bound = None
    """The lowest share of words with a letter that is kept (0.8)."""
    min_stop_words: Bound = None
    """The fewest stop words that are kept (2)."""
    stop_words: tuple[str, ...] = STOP_WORDS
    """The stop words, compared as they are written; under dclm with the lower case of a text's words."""

    version = "1.1.0"
    extras = ("spacy", "unicode")
    reasons = (
        "gopher_short_doc",
        "gopher_long_doc",
        "gopher_below_avg_threshold",
        "gopher_above_avg_threshold",
        "gopher_too_many_hashes",
        "gopher_too_many_ellipsis",
        "gopher_too_many_symbols",
        "gopher_too_many_bullets",
        "gopher_too_many_end_ellipsis",
        "gopher_below_alpha_threshold",
        "gopher_enough_stop_words",
    )
    PRESETS: ClassVar = {
        "datatrove": {"tokenizer": "datatrove", **_BOUNDS},
        "dolma": {"tokenizer": "dolma", **_BOUNDS},
        "dclm": {"tokenizer": "fasttext", **_BOUNDS},
        "paper": {"tokenizer": "whitespace", **_BOUNDS},
    }

    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        from fdf_ops_text.analysis.lines import line_marks_of
        from fdf_ops_text.analysis.words import words_of

        words = words_of(column, self.words)
        measured = {
            "datatrove": self._measured_by_datatrove,
            "dolma": self._measured_by_dolma,
            "dclm": self._measured_by_dclm,
            "paper": self._measured_by_the_paper,
        }[self.preset](column, words)
        lines = line_marks_of(column, self.preset)
        rules = {
            "gopher_short_doc": self.too_low(measured["words"], "min_words"),
            "gopher_long_doc": self.too_high(measured["words"], "max_words"),
            "gopher_below_avg_threshold": self.too_low(measured["length"], "min_word_length"),
            "gopher_above_avg_threshold": self.too_high(measured["length"], "max_word_length"),
        }
        for name in ("hashes", "ellipsis", "symbols"):
            if name in measured:
                rules[f"gopher_too_many_{name}"] = self.too_high(measured[name], "max_symbols")
        in_lines = {
            "gopher_too_many_bullets": self.too_high(share(lines.bullets, lines.count), "max_bullet_lines"),
            "gopher_too_many_end_ellipsis": self.too_high(share(lines.ellipses, lines.count), "max_ellipsis_lines"),
        }
        in_words = {
            "gopher_below_alpha_threshold": self.too_low(measured["letters"], "min_letter_words"),
            "gopher_enough_stop_words": self.too_low(measured["stop_words"], "min_stop_words"),
        }
        return {**rules, **in_words, **in_lines} if self.preset == "dolma" else {**rules, **in_lines, **in_words}

    def _measured_by_datatrove(self, column: pa.Array, words: Words) -> Measured:
        from fdf_ops_text.analysis.marks import marks_of
        from fdf_ops_text.kernels.gopher import word_marks
        from fdf_ops_text.kernels.hashing import hashes_of

        marks, n = marks_of(column), words.counts
        plain, plain_chars, letters, stop_words = word_marks(
            words.first, words.last, words.n_chars, words.flags, words.hashes, hashes_of(self.stop_words)
        )
        return {
            "words": plain,
            "length": share(plain_chars, plain),
            "hashes": share(marks.hashes, n),
            "ellipsis": share(marks.dots + marks.ellipses, n),
            "letters": share(letters, n),
            "stop_words": stop_words,
        }

    def _measured_by_the_paper(self, column: pa.Array, words: Words) -> Measured:
        from fdf_ops_text.kernels.wordtypes import word_totals

        chars, _ = word_totals(words.first, words.last, words.n_chars, words.flags)
        return {
            **self._measured_by_datatrove(column, words),
            "words": words.counts,
            "length": share(chars, words.counts),
        }

    def _measured_by_dolma(self, column: pa.Array, words: Words) -> Measured:
        from fdf_ops_text.analysis.marks import marks_of
        from fdf_ops_text.kernels.wordtypes import median_lengths, word_totals, words_with_symbols

        marks = marks_of(column)
        _, letters = word_totals(words.first, words.last, words.n_chars, words.flags)
        symbols = words_with_symbols(
            words.texts.data, words.first, words.last, words.at_byte, words.n_bytes, marks.hashes + marks.ellipses
        )
        # As dolma has it: of no words, no share.
        n = np.maximum(words.counts, 1)
        return {
            "words": words.counts,
            "length": median_lengths(words.first, words.last, words.n_chars),
            "symbols": symbols / n,
            "letters": letters / n,
            "stop_words": self._stop_words(words, lower=False),
        }

    def _measured_by_dclm(self, column: pa.Array, words: Words) -> Measured:
        from fdf_ops_text.analysis.marks import marks_of
        from fdf_ops_text.analysis.words import words_of
        from fdf_ops_text.kernels.wordtypes import spaced_ellipses, word_totals

        marks, split = marks_of(column), words_of(column, "whitespace")
        texts, n = split.texts, split.counts
        chars, letters = word_totals(split.first, split.last, split.n_chars, split.flags)
        symbols = marks.hashes + marks.dots + marks.ellipses
        symbols += spaced_ellipses(texts.data, texts.starts, texts.ends)
        # DCLM drops a text without words at each of these rules.
        none = n == 0
        return {
            "words": words.counts,
            "length": np.where(none, 0, share(chars, n)),
            "symbols": np.where(none, np.inf, share(symbols, n)),
            "letters": np.where(none, 0, share(letters, n)),
            "stop_words": self._stop_words(split, lower=True),
        }

    def _stop_words(self, words: Words, *, lower: bool) -> npt.NDArray[Any]:
        """Count the stop words of each row, as often as they occur."""
        from fdf_ops_text.case import case_table
        from fdf_ops_text.kernels.hashing import hashes_of
        from fdf_ops_text.kernels.wordtypes import listed_words

        longest = max(map(len, self.stop_words), default=0)
        found: npt.NDArray[Any] = listed_words(
            words.texts.data,
            words.first,
            words.last,
            words.at_byte,
            words.n_bytes,
            words.n_chars,
            words.hashes,
            hashes_of(self.stop_words),
            longest,
            case_table(),
            lower,
        )
        return found
