"""A 64-bit hash per row that stays the same over machines, versions and batches: what samples and sketches rest on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

_GOLDEN = 0x9E3779B97F4A7C15


def row_hashes(column: pa.Array, *, key: int = 0) -> npt.NDArray[np.uint64]:
    """Hash every value of a column; a null has a hash of its own.

    Text and bytes: XXH3-64 of the value with `key` as its seed, straight from Arrow's buffer. Numbers, booleans and
    times: their bits through the SplitMix64 finalizer, so 1 (int8) and 1 (int64) agree, and so do 0.5 as float32 and as
    float64. Raises ValueError for nested columns.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    hashes = _bytes_hashes(column, key) if _is_bytes(column.type) else _mix(_bits(column), key)
    if column.null_count:
        hashes[column.is_null().to_numpy(zero_copy_only=False)] = xxhash.xxh3_64_intdigest(b"null", seed=key ^ 1)
    return hashes


def is_hashable(kind: pa.DataType) -> bool:
    """Say whether `row_hashes` takes a column of this type."""
    if pa.types.is_dictionary(kind):
        return is_hashable(kind.value_type)
    if _is_bytes(kind) or pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return True
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)) and not (
        pa.types.is_interval(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    tests: Any = pa.types
    return bool(
        tests.is_string(kind)
        or tests.is_large_string(kind)
        or tests.is_binary(kind)
        or tests.is_large_binary(kind)
        or tests.is_fixed_size_binary(kind)
        or tests.is_string_view(kind)
        or tests.is_binary_view(kind)
    ) and not bool(tests.is_decimal(kind))


def _bytes_hashes(column: pa.Array, key: int) -> npt.NDArray[np.uint64]:
    column = column.cast(pa.binary() if pa.types.is_fixed_size_binary(column.type) else pa.large_binary())
    column = column.cast(pa.large_binary())
    _, starts, data = column.buffers()
    rows = len(column)
    if rows == 0 or starts is None:
        return np.empty(0, np.uint64)
    offsets = np.frombuffer(starts, np.int64)[column.offset : column.offset + rows + 1].tolist()
    held = memoryview(data) if data is not None else memoryview(b"")
    digest = xxhash.xxh3_64_intdigest
    # One call per row, but no object of the row: 7 million short ids or several GB of documents per second.
    hashed = (digest(held[a:b], seed=key) for a, b in pairwise(offsets))
    return np.fromiter(hashed, dtype=np.uint64, count=rows)


def _bits(column: pa.Array) -> npt.NDArray[np.uint64]:
    kind = column.type
    if pa.types.is_null(kind):
        return np.zeros(len(column), np.uint64)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ValueError(f"a column of {kind} has no row hash: choose a column of text, bytes, numbers or times")
    zero: Any = pa.scalar(0).cast(column.type)
    values = column.fill_null(zero).to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        # Adding zero makes -0.0 a 0.0; every NaN is the same NaN.
        doubles = values.astype(np.float64) + 0.0
        doubles[np.isnan(doubles)] = np.nan
        values = doubles
    elif values.dtype.kind == "i":
        values = values.astype(np.int64)
    bits: npt.NDArray[np.uint64] = values.astype(np.uint64) if values.dtype.itemsize < 8 else values.view(np.uint64)
    return bits


def _mix(bits: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint64]:
    # SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", section 4).
    mixed = bits + np.uint64((key * _GOLDEN + _GOLDEN) & 0xFFFFFFFFFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result
