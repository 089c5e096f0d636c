"""Statistics of columns that add up: what evaluators keep per split and fold over a dataset, in 64 KiB at most."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.exactsum import ExactSum
from fdf.fingerprint import canonical_json
from fdf.rowhash import is_hashable, row_hashes
from fdf.sketch import Registers, estimate, sketch

MAX_STATE = 64 << 10
MAX_COLUMNS = 40
STATISTICS = ("null_rate", "nan_rate", "distinct", "min", "max", "mean")
# The most that a column needs beside its registers: an exact sum over the whole range of doubles, and its names.
_HEADER = 900
_FINEST = 12


@dataclass(frozen=True, kw_only=True)
class ColumnState:
    """One column. `low` and `high` are numbers, or text for times; `count` is of the finite values that were added."""

    nulls: int
    nans: int | None = None
    count: int | None = None
    low: float | str | None = None
    high: float | str | None = None
    total: ExactSum | None = None
    registers: Registers | None = None

    def merge(self, other: ColumnState) -> ColumnState:
        """Add two; the order does not matter."""
        return ColumnState(
            nulls=self.nulls + other.nulls,
            nans=None if self.nans is None or other.nans is None else self.nans + other.nans,
            count=None if self.count is None or other.count is None else self.count + other.count,
            low=min(_known(self.low, other.low), default=None),
            high=max(_known(self.high, other.high), default=None),
            total=None if self.total is None or other.total is None else self.total + other.total,
            registers=None
            if self.registers is None or other.registers is None
            else np.maximum(self.registers, other.registers),
        )


@dataclass(frozen=True, kw_only=True)
class ColumnsState:
    """Several columns of the same rows."""

    rows: int
    columns: Mapping[str, ColumnState]

    @classmethod
    def of(cls, columns: Mapping[str, pa.Array], *, rows: int) -> ColumnsState:
        """Look at columns of one batch."""
        precision = _precision(len(columns))
        return cls(rows=rows, columns={n: _observe(c, precision=precision) for n, c in columns.items()})

    def merge(self, other: ColumnsState) -> ColumnsState:
        """Add the statistics of other rows of the same columns."""
        if list(self.columns) != list(other.columns):
            raise ValueError(f"statistics of {list(self.columns)} and of {list(other.columns)} cannot be added")
        merged = {name: column.merge(other.columns[name]) for name, column in self.columns.items()}
        return ColumnsState(rows=self.rows + other.rows, columns=merged)

    def report(self) -> dict[str, Any]:
        """Return the figures as JSON values; a column stands only where it has the figure."""
        told = self.columns.items()
        rows = self.rows
        return {
            "rows": rows,
            "null_rate": {n: c.nulls / rows if rows else None for n, c in told},
            "nan_rate": {n: c.nans / rows if rows else None for n, c in told if c.nans is not None},
            "distinct": {n: estimate(c.registers) for n, c in told if c.registers is not None},
            "min": {n: c.low for n, c in told if c.low is not None},
            "max": {n: c.high for n, c in told if c.high is not None},
            "mean": {n: _mean(c.total, c.count) for n, c in told if c.total is not None and c.count},
        }

    def to_bytes(self) -> bytes:
        """Return a line of JSON and the registers after it. Raises ValueError above 64 KiB."""
        told = {
            name: {
                "nulls": c.nulls,
                "nans": c.nans,
                "count": c.count,
                "low": c.low,
                "high": c.high,
                "total": None if c.total is None else c.total.to_json(),
                "registers": 0 if c.registers is None else len(c.registers),
            }
            for name, c in self.columns.items()
        }
        # As a list, because canonical JSON sorts keys and the order of columns is part of the state.
        head = canonical_json({"rows": self.rows, "columns": list(told.items())}).encode()
        registers = b"".join(c.registers.tobytes() for c in self.columns.values() if c.registers is not None)
        state = head + b"\n" + registers
        if len(state) > MAX_STATE:
            raise ValueError(f"statistics of {len(told)} columns take {len(state)} bytes, over {MAX_STATE}: name fewer")
        return state

    @classmethod
    def from_bytes(cls, state: bytes) -> ColumnsState:
        """Read what `to_bytes` wrote."""
        head, _, tail = state.partition(b"\n")
        told = json.loads(head)
        columns: dict[str, ColumnState] = {}
        at = 0
        for name, c in told["columns"]:
            length = c.pop("registers")
            total = c.pop("total")
            column = ColumnState(**c, total=None if total is None else ExactSum.from_json(total))
            if length:
                column = replace(column, registers=np.frombuffer(tail, np.uint8, length, at))
                at += length
            columns[name] = column
        return cls(rows=told["rows"], columns=columns)


def _precision(columns: int) -> int:
    room = MAX_STATE // max(1, columns) - _HEADER
    return max(4, min(_FINEST, math.floor(math.log2(max(room, 16)))))


def _observe(column: pa.Array, *, precision: int) -> ColumnState:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    state = ColumnState(nulls=column.null_count)
    if not is_hashable(kind):
        return state
    present = pc.drop_null(column)
    state = replace(state, registers=sketch(row_hashes(present), precision=precision))
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _with_numbers(state, present)
    if pa.types.is_decimal(kind):
        return _with_numbers(state, present.cast(pa.float64()))
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        # Arrow writes times of one type in one width, so that in UTC their text sorts as they do.
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            present = present.cast(pa.timestamp(kind.unit, "UTC"))
        ends = pc.min_max(present)
        low, high = (e.cast(pa.string()).as_py() for e in (ends["min"], ends["max"]))
        return replace(state, low=low, high=high)
    return state


def _with_numbers(state: ColumnState, present: pa.Array) -> ColumnState:
    values = present.to_numpy(zero_copy_only=False)
    nans = None
    if values.dtype.kind == "f":
        nans = int(np.isnan(values).sum())
        # Adding zero makes -0.0 a 0.0: which of the two came first must not show.
        values = values[np.isfinite(values)].astype(np.float64) + 0.0
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return replace(
        state,
        nans=nans,
        count=len(values),
        low=values.min().item() if len(values) else None,
        high=values.max().item() if len(values) else None,
        total=ExactSum.of(values),
    )


def _known(*values: Any) -> list[Any]:
    return [v for v in values if v is not None]


def _mean(total: ExactSum, count: int) -> float | None:
    mean = total.mean(count)
    return mean if mean is not None and math.isfinite(mean) else None
