"""A text column as kernels see it: valid UTF-8 bytes, and where each row starts and ends in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.sharing import shared
from fdf_ops_text.utf8 import valid_text

Integers = npt.NDArray[np.int64]
MOST_BYTES = 2**31 - 1


def _read_only(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    array.flags.writeable = False
    return array


# Of the same type as a view of Arrow's buffers, so that no kernel is compiled twice.
_NOTHING = _read_only(np.empty(0, np.uint8))


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
        """View a string column; only views and dictionaries are copied. Raises ValueError on invalid UTF-8."""
        return shared(column, "texts", lambda: cls._view(valid_text(column)))

    @classmethod
    def _view(cls, column: pa.LargeStringArray) -> Texts:
        rows = len(column)
        valid: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
        _, borders, data = column.buffers()
        if rows == 0 or borders is None or data is None:
            nowhere = np.zeros(rows, np.int64)
            return cls(_NOTHING, nowhere, nowhere, valid)
        at = np.frombuffer(borders, np.int64)[column.offset : column.offset + rows + 1].copy()
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
