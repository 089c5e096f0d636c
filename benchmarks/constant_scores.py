"""Twelve scores that cost nothing, so that what is measured is the engine."""

from __future__ import annotations

import pyarrow as pa

import fdf


def _ones(batch: pa.RecordBatch) -> pa.Array:
    return pa.repeat(pa.scalar(1.0, pa.float32()), batch.num_rows)


@fdf.score(reads=[], writes={"one_00": "float32"})
def one_00(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_00": _ones(batch)}


@fdf.score(reads=[], writes={"one_01": "float32"})
def one_01(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_01": _ones(batch)}


@fdf.score(reads=[], writes={"one_02": "float32"})
def one_02(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_02": _ones(batch)}


@fdf.score(reads=[], writes={"one_03": "float32"})
def one_03(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_03": _ones(batch)}


@fdf.score(reads=[], writes={"one_04": "float32"})
def one_04(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_04": _ones(batch)}


@fdf.score(reads=[], writes={"one_05": "float32"})
def one_05(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_05": _ones(batch)}


@fdf.score(reads=[], writes={"one_06": "float32"})
def one_06(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_06": _ones(batch)}


@fdf.score(reads=[], writes={"one_07": "float32"})
def one_07(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_07": _ones(batch)}


@fdf.score(reads=[], writes={"one_08": "float32"})
def one_08(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_08": _ones(batch)}


@fdf.score(reads=[], writes={"one_09": "float32"})
def one_09(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_09": _ones(batch)}


@fdf.score(reads=[], writes={"one_10": "float32"})
def one_10(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_10": _ones(batch)}


@fdf.score(reads=[], writes={"one_11": "float32"})
def one_11(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Write 1."""
    return {"one_11": _ones(batch)}
