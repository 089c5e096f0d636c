"""RedPajama-v2's signals of a text column, as the columns that are published.

Each function measures what one analysis tells, and gives the signals that follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf_ops_text.analysis.marks import marks_of
from fdf_ops_text.analysis.rpv2 import Lines, normalized_of, raw_lines_of
from fdf_ops_text.analysis.texts import Integers, Texts
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.kernels.hashing import hashes_of
from fdf_ops_text.kernels.rpv2 import SHORTEST_TOP, TOPS, lorem_ipsum, raw_words, rounded, word_statistics
from fdf_ops_text.text_filter import Numbers, share

Signals = dict[str, pa.Array]
_LOREM, _IPSUM = (np.frombuffer(word, np.uint8) for word in (b"lorem", b"ipsum"))


@lru_cache(maxsize=16)
def _hashed(words: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    return hashes_of(words)


def of_raw_words(column: pa.Array, stop_words: tuple[str, ...]) -> Signals:
    """Return the signals of raw words."""
    words, marks = words_of(column, "rpv2"), marks_of(column)
    lettered, capital, stopped = raw_words(words.first, words.last, words.flags, words.hashes, _hashed(stop_words))
    some = normalized_of(column).words.counts > 0
    n, valid = words.counts, words.texts.valid
    return {
        "rps_doc_frac_all_caps_words": _shares(share(capital, n), valid),
        "rps_doc_frac_no_alph_words": _shares(1.0 - share(lettered, n), valid),
        "rps_doc_stop_word_fraction": _shares(np.where(some, share(stopped, n), 0.0), valid),
        "rps_doc_symbol_to_word_ratio": _shares(share(marks.hashes + marks.dots + marks.ellipses, n), valid),
    }


def of_raw_text(column: pa.Array) -> Signals:
    """Return the signals of characters and lines as they stand."""
    text, chars, valid = raw_lines_of(column), marks_of(column).chars, Texts.of(column).valid
    start, end, terminal, bulleted, upper = text.lines.values
    spans = Spans.of(text.lines, valid)
    return {
        "rps_doc_curly_bracket": _shares(_share_or_0(text.curly, chars), valid),
        "rps_doc_frac_lines_end_with_ellipsis": _shares(share(text.ellipses, text.lines.counts), valid),
        "rps_doc_num_sentences": pa.array(text.sentences.astype(np.float64), mask=~valid),
        "rps_lines_ending_with_terminal_punctution_mark": spans.column(terminal),
        "rps_lines_start_with_bulletpoint": spans.column(bulleted, empty=True),
        "rps_lines_uppercase_letter_fraction": spans.column(rounded(upper / (end - start))),
    }


def of_normal_lines(column: pa.Array) -> Signals:
    """Return the signals of the lines of normalised text."""
    words, chars, numeric, scripts = normalized_of(column).lines.values
    spans = Spans.of(raw_lines_of(column).lines, Texts.of(column).valid)
    # One space stands between the words of a line.
    length = chars + np.maximum(words - 1, 0)
    return {
        "rps_lines_javascript_counts": spans.column(scripts),
        "rps_lines_num_words": spans.column(words),
        "rps_lines_numerical_chars_fraction": spans.column(rounded(_share_or_0(numeric, length))),
    }


def of_lorem_ipsum(column: pa.Array) -> Signals:
    """Return the share of ``lorem ipsum`` in normalised text."""
    normal = normalized_of(column)
    words, lines, texts = normal.words, normal.lines, normal.words.texts
    found = lorem_ipsum(texts.data, words.first, words.last, words.at_byte, words.n_bytes, _LOREM, _IPSUM)
    chars = np.concatenate([np.zeros(1, np.int64), np.cumsum(lines.values[1])])
    length = np.diff(chars[lines.borders]) + np.maximum(words.counts - 1, 0)
    return {"rps_doc_lorem_ipsum": _shares(_share_or_0(found, length), texts.valid)}


def of_normal_words(column: pa.Array, longest: int) -> Signals:
    """Return the signals of normalised words, of n-grams up to `longest` words; those of longer ones are not to be
    used.
    """
    words = normalized_of(column).words
    chars, different, entropy, repeated = word_statistics(words.first, words.last, words.n_chars, words.hashes, longest)
    n, valid = words.counts, words.texts.valid
    names = [f"top_{i + SHORTEST_TOP}gram" if i < TOPS else f"dupe_{i + SHORTEST_TOP}grams" for i in range(9)]
    shares = {f"rps_doc_frac_chars_{name}": _shares(repeated[:, i], valid) for i, name in enumerate(names)}
    return {
        "rps_doc_frac_unique_words": _shares(share(different, n), valid),
        "rps_doc_mean_word_length": _shares(share(chars, n), valid),
        "rps_doc_unigram_entropy": _shares(np.where(n > 0, entropy, np.nan), valid),
        "rps_doc_word_count": pa.array(n.astype(np.float64), mask=~valid),
        **shares,
    }


@dataclass(frozen=True, eq=False)
class Spans:
    """Lists with one span per line. Lists of several signals share their places in memory."""

    borders: Integers
    start: Integers
    end: Integers
    texts: npt.NDArray[np.bool_]
    """Per row: whether there is a text; if not, its list is null."""

    @classmethod
    def of(cls, lines: Lines, texts: npt.NDArray[np.bool_]) -> Spans:
        """Take the places of lines whose values begin with them."""
        return cls(lines.borders, lines.values[0], lines.values[1], texts)

    def column(self, values: npt.NDArray[Any], *, empty: bool = False) -> pa.Array:
        """Return these values of lines as an Arrow column.

        With `empty`, a text without a line has one span, from 0 to 0, that has no value.
        """
        borders, fields = self.borders, [self.start, self.end, values.astype(np.float64, copy=False)]
        nothing = None
        without = np.flatnonzero(self.texts & (np.diff(borders) == 0)) if empty else ()
        if len(without):
            places = borders[without]
            nothing = np.insert(np.zeros(len(values), np.bool_), places, True)
            fields = [np.insert(held, places, 0) for held in fields]
            borders = borders + np.searchsorted(without, np.arange(len(borders)))
        start, end, value = fields
        spans = pa.StructArray.from_arrays([start, end, pa.array(value, mask=nothing)], ["start", "end", "value"])
        nulls = None if self.texts.all() else pa.array(~self.texts)
        return pa.ListArray.from_arrays(borders.astype(np.int32), spans, mask=nulls)


def _share_or_0(part: Integers, whole: Integers) -> Numbers:
    return part / np.maximum(whole, 1)


def _shares(values: Numbers, valid: npt.NDArray[np.bool_]) -> pa.Array:
    """Return one number per row, rounded as published; null where the text is null or the number is NaN."""
    return pa.array(rounded(np.ascontiguousarray(values)), mask=~valid | np.isnan(values))
