"""A text column as kernels see it: valid UTF-8 bytes, and where each row starts and ends in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.sharing import shared

Integers = npt.NDArray[np.int64]
MOST_BYTES = 2**31 - 1


def _read_only(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    array.flags.writeable = False
    return array


# Of the same type as a view of Arrow's buffers, so that no kernel is compiled twice.
_NOTHING = _read_only(np.empty(0, np.uint8))


class NotUnicode(ValueError):
    """A text is not valid UTF-8: Arrow does not check what it reads, and kernels rely on it."""


@dataclass(frozen=True, eq=False)
class Texts:
    """The bytes of a column (`data`), each row's first byte and the byte after its last, and which rows are no nulls.

    A null row is empty.
    """

    data: npt.NDArray[np.uint8]
    starts: Integers
    ends: Integers
    valid: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, column: pa.Array) -> Texts:
        """View a string column; only views and dictionaries are copied. Raises NotUnicode on invalid UTF-8."""
        return shared(column, "texts", lambda: cls._view(column))

    @classmethod
    def _view(cls, column: pa.Array) -> Texts:
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            column = column.cast(pa.large_string())
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise NotUnicode(f"a text is not valid UTF-8 ({error})") from error
        rows = len(column)
        valid: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
        width = np.int64 if pa.types.is_large_string(column.type) else np.int32
        _, borders, data = column.buffers()
        if rows == 0 or borders is None or data is None:
            nowhere = np.zeros(rows, np.int64)
            return cls(_NOTHING, nowhere, nowhere, valid)
        at = np.frombuffer(borders, width)[column.offset : column.offset + rows + 1].astype(np.int64)
        # Kernels keep positions in 32 bits: cutting the batch is what the engine does when memory runs out.
        if at[-1] - at[0] > MOST_BYTES:
            raise MemoryError(f"a batch of {at[-1] - at[0]:,} bytes of text is too large to analyse in one piece")
        held = np.frombuffer(data, np.uint8)[at[0] : at[-1]]
        at -= at[0]
        # A null may hide bytes that nobody wrote as text.
        ends = at[1:] if valid.all() else np.where(valid, at[1:], at[:-1])
        return cls(held, np.ascontiguousarray(at[:-1]), np.ascontiguousarray(ends), valid)

    def take(self, rows: Integers) -> Texts:
        """Return the view of these rows only."""
        return replace(self, starts=self.starts[rows], ends=self.ends[rows], valid=self.valid[rows])

    @property
    def n_bytes(self) -> Integers:
        """Per row: its length in bytes."""
        return self.ends - self.starts

    def column(self, values: npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
        """Return one value per row as an Arrow column, null where the text is null."""
        return pa.array(values, kind, mask=~self.valid)


def lengths(column: pa.Array) -> Integers:
    """Return the characters of each text; 0 for null."""
    measured = pc.fill_null(pc.utf8_length(column.cast(pa.large_string())), 0)
    return np.asarray(measured.to_numpy(zero_copy_only=False), dtype=np.int64)
