"""A text as C4 would rewrite it, line by line, and what its filter asks of the lines that are left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.sharing import shared
from fdf_ops_text.analysis.texts import Integers, Texts
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.characters import CLOSING, SENTENCE_END, table
from fdf_ops_text.kernels.c4 import c4_lines, gathered, plain_sentences, spacy_sentences
from fdf_ops_text.text_filter import Tokenizer

POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_PHRASES = ("[edit]", "[citation needed]", "lorem ipsum", "javascript", *POLICIES)


@dataclass(frozen=True, kw_only=True)
class LineRules:
    """Which lines are dropped and what is cut out of them; numbers are bounds, None switches a rule off."""

    citations: bool = True
    terminal_punct: bool = True
    single_quote_ends: bool = True
    """Whether ``'`` ends a line like ``"`` does."""
    words_after_citations: bool = False
    """Whether words are counted when citations have been cut out."""
    min_words: int | None
    max_word_length: int | None
    lorem_ipsum: bool = True
    javascript: bool = True
    curly_bracket: bool = True
    policy: bool = True
    whole_lines: bool = False
    """Whether lines are those between line feeds, kept with the whitespace around them, empty ones too."""


@dataclass(frozen=True, eq=False)
class Rewritten:
    """Texts with only the lines that are kept. Row r is ``data[starts[r]:ends[r]]``.

    `reasons` is per row 0, or which phrase condemns the whole text. Lines are numbered through all rows: line l belongs
    to row ``line_row[l]``, lies at ``line_start[l]`` of the new bytes and ``old_start[l]`` of the old ones, and had a
    citation cut out where ``line_cut[l]``.
    """

    texts: Texts
    data: npt.NDArray[np.uint8]
    starts: Integers
    ends: Integers
    reasons: npt.NDArray[np.int8]
    lines: tuple[Any, ...]
    old_start: Integers
    old_end: Integers
    rows: Integers

    def take(self, rows: Integers) -> Rewritten:
        """Return these rows only. Their lines keep their numbers."""
        return replace(
            self,
            texts=self.texts.take(rows),
            starts=self.starts[rows],
            ends=self.ends[rows],
            reasons=self.reasons[rows],
            rows=self.rows[rows],
        )

    def column(self, kind: pa.DataType) -> pa.Array:
        """Return the new texts as an Arrow column of this type, null where the old text is null."""
        return column_of(self.texts, self.data, self.starts, self.ends, kind)


def column_of(
    texts: Texts, data: npt.NDArray[np.uint8], starts: Integers, ends: Integers, kind: pa.DataType
) -> pa.Array:
    """Return pieces of bytes as an Arrow column of this type, null where the row of `texts` is null."""
    held, borders = gathered(data, starts, ends)
    valid = pa.array(texts.valid).buffers()[1] if not texts.valid.all() else None
    buffers = [valid, pa.py_buffer(borders), pa.py_buffer(held)]
    return pa.Array.from_buffers(pa.large_string(), len(starts), buffers).cast(kind)


def rewritten(column: pa.Array, rules: LineRules) -> Rewritten:
    """Return a column as C4 would rewrite it, shared within a batch."""
    return shared(column, ("c4", rules), lambda: _rewrite(column, rules))


def _rewrite(column: pa.Array, rules: LineRules) -> Rewritten:
    words = words_of(column, "whitespace")
    texts = words.texts
    phrases = [phrase.encode() for phrase in _PHRASES]
    switches = (
        rules.citations,
        rules.terminal_punct,
        rules.single_quote_ends,
        rules.lorem_ipsum,
        rules.javascript,
        rules.curly_bracket,
        rules.policy,
        rules.words_after_citations,
        rules.whole_lines,
    )
    data, starts, ends, reasons, lines, old_start, old_end = c4_lines(
        texts.data,
        texts.starts,
        texts.ends,
        table(),
        words.first,
        words.last,
        words.at_byte,
        words.n_chars,
        np.frombuffer(b"".join(phrases), np.uint8),
        np.array(list(accumulate(len(phrase) for phrase in phrases)), np.int64),
        switches,
        2**31 - 1 if rules.max_word_length is None else rules.max_word_length,
        -1 if rules.min_words is None else rules.min_words,
    )
    return Rewritten(texts, data, starts, ends, reasons, lines, old_start, old_end, np.arange(len(starts)))


def sentence_counts(column: pa.Array, rewritten: Rewritten, tokenizer: Tokenizer) -> Integers:
    """Count the sentences of each row's kept lines, line by line.

    With words that punctuation is cut off (`datatrove`, `unicode`) they are counted as spaCy's sentencizer does. With
    others, a whitespace-separated word that ends in a sentence's mark, closing quotes and brackets aside, ends one, if
    another word follows in the line.
    """
    row, cut, start, end = rewritten.lines
    if tokenizer not in {"datatrove", "unicode"}:
        per_line = plain_sentences(rewritten.data, start, end, table(), CLOSING, SENTENCE_END)
    else:
        per_line = np.empty(len(row), np.int64)
        words = words_of(column, tokenizer)
        held = (words.first, words.last, words.at_byte, words.n_bytes, words.flags)
        whole = np.flatnonzero(~cut)
        at = (rewritten.old_start[whole], rewritten.old_end[whole], row[whole].astype(np.int64))
        per_line[whole] = spacy_sentences(rewritten.texts.data, *at, *held)
        # A citation that was cut out of a word has left another word: such lines are cut into words by themselves.
        changed = np.flatnonzero(cut)
        if len(changed):
            per_line[changed] = _sentences_alone(rewritten.data, start[changed], end[changed], tokenizer)
    rows = max(int(row.max()) + 1 if len(row) else 0, int(rewritten.rows.max()) + 1 if len(rewritten.rows) else 0)
    total = np.bincount(row, weights=per_line, minlength=rows).astype(np.int64)
    counted: Integers = total[rewritten.rows]
    return counted


def _sentences_alone(data: npt.NDArray[np.uint8], starts: Integers, ends: Integers, tokenizer: Tokenizer) -> Integers:
    held, borders = gathered(data, starts, ends)
    buffers = [None, pa.py_buffer(borders), pa.py_buffer(held)]
    words = words_of(pa.Array.from_buffers(pa.large_string(), len(starts), buffers), tokenizer)
    texts = words.texts
    rows = np.arange(len(starts))
    counted: Integers = spacy_sentences(
        texts.data, texts.starts, texts.ends, rows, words.first, words.last, words.at_byte, words.n_bytes, words.flags
    )
    return counted
