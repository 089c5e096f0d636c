"""Tensors in record batches: one row of a batch is one row of each tensor. Nothing is copied either way.

A column is of Arrow's canonical type `arrow.fixed_shape_tensor`, which says the shape of a row, and is stored as a
fixed-size list: it crosses a process border as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def tensor_batch(tensors: Mapping[str, npt.NDArray[Any]]) -> pa.RecordBatch:
    """Return a record batch with one column per tensor, whose first dimension counts the rows.

    >>> tensor_batch({"x": np.zeros((2, 3, 4), dtype=np.uint8)}).schema.field("x").type.shape
    [3, 4]
    """
    columns = {name: _column(np.ascontiguousarray(values)) for name, values in tensors.items()}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def tensor(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
    """Return a column as one tensor, without copying it; it is read-only.

    >>> tensor(tensor_batch({"x": np.arange(6).reshape(2, 3)}), "x").tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    column = batch.column(name)
    if not isinstance(column.type, pa.FixedShapeTensorType):
        return np.asarray(column.to_numpy(zero_copy_only=True))
    # Of a slice, the storage's own buffers begin earlier: `flatten` starts at its first row.
    flat = column.storage.flatten().to_numpy(zero_copy_only=True)
    return np.asarray(flat.reshape(len(column), *column.type.shape))


def _column(values: npt.NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    shape = values.shape[1:]
    width = int(np.prod(shape))
    flat = pa.array(values.reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, width)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, shape), storage)
