"""What stands at the ends of words and lines of a text column, found on Arrow's own bytes.

A line holds the words between two line feeds; a line without words is blank and does not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from fdf_ops_text.words import TextBytes

_Places = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]

BULLETS = "-*•●"
SENTENCE_ENDS = ".!?…。！？｡؟۔।॥"  # noqa: RUF001 (that they look alike is why all are listed)
# What may stand between the end of a sentence and the end of its line.
CLOSING = "\"'”’»)]）」』"  # noqa: RUF001
_LINE_FEED = 0x0A
_ASCII_LETTER = np.array([code < 0x80 and chr(code).isalpha() for code in range(256)])


@dataclass(frozen=True, eq=False)
class WordLines:
    """Words and lines of some texts; every count is per text."""

    text: TextBytes

    @cached_property
    def n_lines(self) -> _Places:
        """How many lines with words there are."""
        return self.text.count(self._line_starts)

    @cached_property
    def n_bulleted(self) -> _Places:
        """How many lines start with a bullet."""
        starts = self._line_starts
        return self.text.count(starts[np.isin(self._characters(starts), _codes(BULLETS))])

    @cached_property
    def n_trailing_off(self) -> _Places:
        """How many lines end in an ellipsis."""
        ends = self._line_ends
        return self.text.count(ends[self._ends_with(ends, b"...") | self._ends_with(ends, "…".encode())] - 1)

    @cached_property
    def n_sentence_ends(self) -> _Places:
        """How many lines end like a sentence."""
        at = self._last_characters(self._line_ends)
        first = self._line_last_word_starts
        closing, ending = _codes(CLOSING), _codes(SENTENCE_ENDS)
        # Few lines end in several closing marks; each round looks one character further back, within the last word.
        for _ in range(3):
            back = np.isin(self._characters(at), closing) & (at > first)
            if not back.any():
                break
            at = np.where(back, self._last_characters(at), at)
        return self.text.count(at[np.isin(self._characters(at), ending)])

    @cached_property
    def n_ellipses(self) -> _Places:
        """How many ellipses there are: `…`, and runs of dots at three dots each."""
        data = self.text.data
        written = np.flatnonzero(data[:-2] == 0xE2) if data.size > 2 else np.empty(0, np.int64)
        written = written[(data[written + 1] == 0x80) & (data[written + 2] == 0xA6)]
        dots = np.flatnonzero(data == ord("."))
        if dots.size == 0:
            return self.text.count(written)
        opens = np.ones(dots.size, dtype=bool)
        opens[1:] = np.diff(dots) != 1
        opens |= np.isin(dots, self.text.heads)
        first = np.flatnonzero(opens)
        runs = np.diff(np.append(first, dots.size)) // 3
        # Prefix sums over the runs give the sum of each text.
        total = np.concatenate([[0], np.cumsum(runs)])
        spelled = np.diff(total[np.searchsorted(dots[first], self.text.offsets)])
        return self.text.count(written) + spelled

    @cached_property
    def n_words_with_letters(self) -> _Places:
        """How many words hold a letter (`str.isalpha`)."""
        starts = self.text.word_starts
        if starts.size == 0:
            return self.text.count(starts)
        # Between two word starts there is nothing but one word and whitespace.
        return self.text.count(starts[np.logical_or.reduceat(self._letters, starts)])

    def different_words(self, words: Iterable[str]) -> _Places:
        """Count which of these ASCII words occur, in any case, with or without punctuation after them."""
        data, starts, ends = self.text.data, self.text.word_starts, self._stripped_ends
        found = np.zeros(len(self.text.offsets) - 1, dtype=np.int64)
        for word in words:
            at = starts[ends - starts == len(word)]
            for step, byte in enumerate(word.encode()):
                at = at[(data[at + step] | 0x20) == byte]
            found += self.text.count(at) > 0
        return found

    @cached_property
    def _stripped_ends(self) -> _Places:
        ends, starts = self.text.word_ends.copy(), self.text.word_starts
        punctuation = np.zeros(256, dtype=bool)
        punctuation[[*b".,;:!?)\"'"]] = True
        for _ in range(3):
            trailing = punctuation[self.text.data[ends - 1]] & (ends > starts + 1)
            if not trailing.any():
                break
            ends -= trailing
        return ends

    @cached_property
    def _opens_line(self) -> _Mask:
        """Per word: whether it is the first of its line."""
        borders = self.text.data == _LINE_FEED
        borders[self.text.heads] = True
        # Two words stand on one line if no border was passed between them.
        passed = np.cumsum(borders, dtype=np.int64)[self.text.word_starts]
        opens = np.ones(passed.size, dtype=bool)
        opens[1:] = passed[1:] != passed[:-1]
        return opens

    @cached_property
    def _line_starts(self) -> _Places:
        return self.text.word_starts[self._opens_line]

    @cached_property
    def _closes_line(self) -> _Mask:
        closes = np.ones(self._opens_line.size, dtype=bool)
        closes[:-1] = self._opens_line[1:]
        return closes

    @cached_property
    def _line_ends(self) -> _Places:
        return self.text.word_ends[self._closes_line]

    @cached_property
    def _line_last_word_starts(self) -> _Places:
        return self.text.word_starts[self._closes_line]

    def _ends_with(self, ends: _Places, tail: bytes) -> _Mask:
        # `tail` holds no whitespace and no part of a longer character, but the text before a line may end in dots.
        held = ends - self._line_last_word_starts >= len(tail)
        for back, byte in enumerate(reversed(tail), start=1):
            held &= self.text.data[np.maximum(ends - back, 0)] == byte
        return held

    def _last_characters(self, ends: _Places) -> _Places:
        """Return where the character before each of these places starts."""
        at = ends - 1
        for _ in range(3):
            at = at - self.text.continuation[at]
        return at

    def _characters(self, at: _Places) -> _Places:
        """Return the code points that start at these bytes."""
        data, size = self.text.data, self.text.data.size
        codes = data[at].astype(np.int64)
        for length, lead, bits in ((2, 0xC0, 0x1F), (3, 0xE0, 0x0F), (4, 0xF0, 0x07)):
            wide = np.flatnonzero(codes >= lead) if length == 2 else np.flatnonzero(data[at] >= lead)
            value = data[at[wide]].astype(np.int64) & bits
            for step in range(1, length):
                value = (value << 6) | (data[np.minimum(at[wide] + step, size - 1)] & 0x3F)
            codes[wide] = value
        return codes

    @cached_property
    def _letters(self) -> _Mask:
        data = self.text.data
        letters = _ASCII_LETTER[data]
        wide = np.flatnonzero(data >= 0xC0)
        letters[wide] = _is_letter()[self._characters(wide)]
        return letters


def _codes(characters: str) -> _Places:
    return np.array([ord(c) for c in characters], dtype=np.int64)


@cache
def _is_letter() -> _Mask:
    return np.fromiter((chr(code).isalpha() for code in range(0x110000)), dtype=bool, count=0x110000)
