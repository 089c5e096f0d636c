"""A text without the lines that RefinedWeb takes out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.sharing import shared
from fdf_ops_text.analysis.c4 import column_of
from fdf_ops_text.analysis.texts import Integers, Texts
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.case import case_table
from fdf_ops_text.characters import table
from fdf_ops_text.kernels.refinedweb import corrected_lines
from fdf_ops_text.text_filter import Tokenizer

COUNTED = (
    "likes",
    "shares",
    "comments",
    "retweets",
    "reposts",
    "quotes",
    "bookmarks",
    "upvotes",
    "downvotes",
    "downloads",
    "views",
    "followers",
)
PHRASES = ("items in cart", "read more", "sign-in")
"""What is cut out anywhere in a line, at its end (with three characters more) and at its start."""


@dataclass(frozen=True, kw_only=True)
class LineCorrections:
    """The bounds of each rule; None switches it off."""

    max_line_feeds: float | None
    max_uppercase: float | None
    max_numeric: float | None
    counters: bool
    min_words_per_line: float | None
    phrases: bool
    max_phrase_words: float | None


@dataclass(frozen=True, eq=False)
class Corrected:
    """Texts without such lines. Row r is ``data[starts[r]:ends[r]]``."""

    texts: Texts
    data: npt.NDArray[np.uint8]
    starts: Integers
    ends: Integers

    def take(self, rows: Integers) -> Corrected:
        """Return these rows only."""
        return replace(self, texts=self.texts.take(rows), starts=self.starts[rows], ends=self.ends[rows])

    def column(self, kind: pa.DataType) -> pa.Array:
        """Return the new texts as an Arrow column of this type, null where the old text is null."""
        return column_of(self.texts, self.data, self.starts, self.ends, kind)

    @property
    def n_bytes(self) -> Integers:
        """Per row: the length in bytes of what is left."""
        return self.ends - self.starts


def corrected(column: pa.Array, rules: LineCorrections) -> Corrected:
    """Return a column without the lines that break a rule, shared within a batch."""
    return shared(column, ("refinedweb lines", rules), lambda: _correct(column, rules))


def word_counts(column: pa.Array, corrected: Corrected, tokenizer: Tokenizer) -> tuple[Integers, Integers]:
    """Count the words of each row before and after."""
    before = words_of(column, tokenizer).counts
    after = before.copy()
    # Lines only lose bytes: a text of the same length is the same text.
    changed = np.flatnonzero(corrected.n_bytes != corrected.texts.n_bytes)
    if len(changed):
        after[changed] = words_of(corrected.take(changed).column(pa.large_string()), tokenizer).counts
    return before, after


def _correct(column: pa.Array, rules: LineCorrections) -> Corrected:
    texts = Texts.of(column)
    nouns, noun_ends = _joined(COUNTED)
    phrases, phrase_ends = _joined(PHRASES)
    arrays = corrected_lines(
        texts.data,
        texts.starts,
        texts.ends,
        table(),
        case_table(),
        nouns,
        noun_ends,
        phrases,
        phrase_ends,
        np.inf if rules.max_line_feeds is None else float(rules.max_line_feeds),
        np.inf if rules.max_uppercase is None else float(rules.max_uppercase),
        np.inf if rules.max_numeric is None else float(rules.max_numeric),
        rules.counters,
        0 if rules.min_words_per_line is None else int(rules.min_words_per_line),
        rules.phrases,
        2**31 if rules.max_phrase_words is None else int(rules.max_phrase_words),
    )
    return Corrected(texts, *arrays)


def _joined(words: tuple[str, ...]) -> tuple[npt.NDArray[np.uint8], Integers]:
    borders = np.array(list(accumulate(map(len, words))), np.int64)
    return np.frombuffer("".join(words).encode(), np.uint8), borders
