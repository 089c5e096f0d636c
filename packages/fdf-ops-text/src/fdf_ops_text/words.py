"""Words and characters of a text column, counted on Arrow's own bytes without one Python object per row.

A word is a maximal run of characters that are not whitespace; whitespace is what `str.isspace` says, so a row has
exactly the words of Python's ``text.split()``. NumPy over the buffers was chosen because Arrow's and Polars' regular
expressions disagree about Unicode whitespace, and splitting into lists costs several times the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf_ops_text.utf8 import valid_text

_ASCII_SPACE = np.zeros(256, dtype=bool)
_ASCII_SPACE[[0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x1F, 0x20]] = True


def _wide_space_table(lead: int) -> npt.NDArray[np.bool_]:
    """Mark the whitespace characters of three UTF-8 bytes with this first byte, by their other two as one number."""
    table = np.zeros(1 << 16, dtype=bool)
    for character in map(chr, range(0x800, 0x10000)):
        if character.isspace() and (encoded := character.encode())[0] == lead:
            table[int.from_bytes(encoded[1:])] = True
    return table


# U+1680, U+2000..U+205F and U+3000: no other three-byte character is whitespace.
_THREE_BYTE_SPACE = {lead: _wide_space_table(lead) for lead in (0xE1, 0xE2, 0xE3)}


def _offsets(text: pa.LargeStringArray) -> npt.NDArray[np.int64]:
    """Return where each row starts in a column's bytes, and where the last one ends."""
    starts = text.buffers()[1]
    if len(text) == 0 or starts is None:
        return np.zeros(len(text) + 1, np.int64)
    return np.frombuffer(starts, np.int64)[text.offset : text.offset + len(text) + 1]


@dataclass(frozen=True, eq=False)
class TextBytes:
    """The UTF-8 bytes of a text column: `data`, and where each row starts in it (`offsets`, one more than rows)."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, column: pa.Array) -> TextBytes:
        """View a string column; only views and dictionaries are copied. Null rows count as empty.

        Raises ValueError on invalid UTF-8.
        """
        text = valid_text(column)
        valid = text.is_valid().to_numpy(zero_copy_only=False)
        offsets = _offsets(text)
        # A null may hide bytes that nobody wrote as text.
        if (np.diff(offsets)[~valid] > 0).any():
            text = text.fill_null("")
            offsets = _offsets(text)
        data = text.buffers()[2]
        first, last = int(offsets[0]), int(offsets[-1])
        held = np.frombuffer(data, np.uint8)[first:last] if data is not None else np.empty(0, np.uint8)
        return cls(held, offsets - first, valid)

    @cached_property
    def space(self) -> npt.NDArray[np.bool_]:
        """Per byte: whether it belongs to a whitespace character."""
        data = self.data
        space = _ASCII_SPACE[data]
        if data.size == 0 or data.max() < 0x80:
            return space
        # U+0085 and U+00A0 are the whitespace characters of two bytes.
        at = np.flatnonzero(data[:-1] == 0xC2)
        at = at[(data[at + 1] == 0x85) | (data[at + 1] == 0xA0)]
        space[at] = space[at + 1] = True
        for lead, table in _THREE_BYTE_SPACE.items():
            at = np.flatnonzero(data[:-2] == lead)
            at = at[table[(data[at + 1].astype(np.uint16) << 8) | data[at + 2]]]
            space[at] = space[at + 1] = space[at + 2] = True
        return space

    @cached_property
    def heads(self) -> npt.NDArray[np.int64]:
        """Where the rows that are not empty start."""
        starts = self.offsets[:-1]
        return starts[starts < self.offsets[1:]]

    @cached_property
    def word_starts(self) -> npt.NDArray[np.int64]:
        """Where each word starts, in order."""
        starts = ~self.space
        starts[1:] &= self.space[:-1]
        # A row begins a word of its own even where the row before ended in the middle of one.
        starts[self.heads] = ~self.space[self.heads]
        return np.flatnonzero(starts)

    @cached_property
    def word_ends(self) -> npt.NDArray[np.int64]:
        """Where each word ends (the byte after it), in order."""
        last = ~self.space
        last[:-1] &= self.space[1:]
        tails = self.offsets[1:][self.offsets[:-1] < self.offsets[1:]] - 1
        last[tails] = ~self.space[tails]
        return np.flatnonzero(last) + 1

    @cached_property
    def n_words(self) -> npt.NDArray[np.int64]:
        """Per row: how many words it has."""
        return self.count(self.word_starts)

    @cached_property
    def n_lines(self) -> npt.NDArray[np.int64]:
        """Per row: how many lines it has. A line ends with a line feed or with the text."""
        breaks = self.per_row(self.data == 0x0A)
        filled = self.offsets[:-1] < self.offsets[1:]
        breaks[filled] += self.data[self.offsets[1:][filled] - 1] != 0x0A
        return breaks

    @cached_property
    def n_chars(self) -> npt.NDArray[np.int64]:
        """Per row: how many characters (code points) it has."""
        return self.n_bytes - self.per_row(self.continuation)

    @cached_property
    def n_space_chars(self) -> npt.NDArray[np.int64]:
        """Per row: how many of its characters are whitespace."""
        return self.per_row(self.space & ~self.continuation)

    @property
    def n_bytes(self) -> npt.NDArray[np.int64]:
        """Per row: how many bytes it has in UTF-8."""
        return np.diff(self.offsets)

    @cached_property
    def continuation(self) -> npt.NDArray[np.bool_]:
        """Per byte: whether it continues a character."""
        marks: npt.NDArray[np.bool_] = (self.data & 0xC0) == 0x80
        return marks

    def per_row(self, marks: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Count the marked bytes of each row."""
        return self.count(np.flatnonzero(marks))

    def count(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Count the places (rising byte positions) that lie in each row."""
        return np.diff(np.searchsorted(places, self.offsets))

    def column(self, values: npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
        """Return one value per row as an Arrow column, null where the text is null."""
        return pa.array(values, kind, mask=~self.valid)


def word_counts(column: pa.Array) -> pa.Array:
    r"""Count the words of each text; null where the text is null.

    >>> word_counts(pa.array(["two words", " ", None, "a\u3000b"])).to_pylist()
    [2, 0, None, 2]
    """
    text = TextBytes.of(column)
    return text.column(text.n_words, pa.int64())


def require_text(schema: pa.Schema, field: str, *, operator: str) -> pa.DataType:
    """Return the type of a text column. Raises PlanError where the column holds something else."""
    kind = schema.field(field).type
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(test(values) for test in tests):
        raise PlanError(
            Problem(
                code="FDF225",
                message=f"{operator} reads text, and the column `{field}` is {kind}",
                help="set `field` to a column of text, or change this one with CastColumns first",
            )
        )
    return kind
