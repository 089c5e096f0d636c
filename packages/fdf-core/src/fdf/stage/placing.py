"""Columns around one operator: what it gets to see, and how what it returns is put in place.

An operator is held to what it declares. Rows that it does not touch take the same shape, with nulls where it would
have written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import OperatorMisbehaved
from fdf.operator import Columns
from fdf.plan.job import Step
from fdf.schema import ID
from fdf.stage.rows import Booleans, Rows


def view(step: Step, rows: Rows) -> pa.RecordBatch:
    """Return what the operator gets to see: the user columns, and the id where it asks for it."""
    if ID not in step.reads:
        return rows.data
    return rows.data.append_column(ID, rows.id_array())


def placed(step: Step, data: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Put returned columns in place, holding the operator to what it declared."""
    if not columns and not step.writes and data.schema.equals(step.schema_out):
        return data
    wanted = dict(step.writes)
    for name in columns:
        if name not in wanted and step.use.write_fields is None:
            raise OperatorMisbehaved(f"`{step.id}` returned the column `{name}`, which it does not declare in writes()")
    arrays = dict(zip(data.schema.names, data.columns, strict=True))
    for name, kind in wanted.items():
        if kind is None:
            arrays.pop(name, None)
            continue
        if name not in columns:
            if name in arrays and step.use.kind == "refiner":
                continue
            raise OperatorMisbehaved(f"`{step.id}` did not return the column `{name}`, which it declares in writes()")
        arrays[name] = _checked(step, name, columns[name], kind, data.num_rows)
    if not step.schema_out.names:
        return data.select([])
    return pa.RecordBatch.from_arrays([arrays[n] for n in step.schema_out.names], schema=step.schema_out)


def _checked(step: Step, name: str, values: Any, kind: pa.DataType, rows: int) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pa.Array):
        values = pa.array(values, kind)
    if len(values) != rows:
        raise OperatorMisbehaved(f"`{step.id}` returned {len(values)} values in `{name}` for {rows} rows")
    if values.type != kind:
        raise OperatorMisbehaved(f"`{step.id}` returned {values.type} in `{name}`, but declares {kind}")
    return values


def with_missing(rows: Rows, step: Step) -> Rows:
    """Return rows that the operator did not touch in the shape of those that it did: new columns are null."""
    if rows.data.schema.equals(step.schema_out):
        return rows
    if not step.schema_out.names:
        return replace(rows, data=rows.data.select([]))
    arrays = [_as_type(rows.data, f.name, f.type, step) for f in step.schema_out]
    return replace(rows, data=pa.RecordBatch.from_arrays(arrays, schema=step.schema_out))


def _as_type(data: pa.RecordBatch, name: str, kind: pa.DataType, step: Step) -> pa.Array:
    if name not in data.schema.names:
        return pa.nulls(data.num_rows, kind)
    values = data.column(name)
    if values.type == kind:
        return values
    try:
        return pc.cast(values, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        # Null would lose the value without a word, and for some batches only.
        raise OperatorMisbehaved(
            f"`{step.id}` turns column `{name}` from {values.type} into {kind}, and a row that it leaves as it is does "
            f"not fit: {error}",
            help=f"drop `when` from `{step.id}`, or let it write a column of another name",
        ) from error


def passed_on(row: Rows, step: Step) -> Rows:
    """Return a failed row that goes on (`on_error: null`): as it was, but null where it does not fit the new type."""
    try:
        return with_missing(row, step)
    except OperatorMisbehaved:
        untouched = [n for n in row.data.schema.names if n not in dict(step.writes)]
        return with_missing(replace(row, data=row.data.select(untouched)), step)


def as_batch(children: Rows, inherited: dict[str, pa.Array]) -> pa.RecordBatch:
    """Return what new rows have from their parents, as a batch; without columns it still has its length."""
    if not inherited:
        return children.data.select([])
    return pa.RecordBatch.from_arrays(list(inherited.values()), names=list(inherited))


def changed_rows(step: Step, before: pa.RecordBatch, after: pa.RecordBatch) -> Booleans:
    """Say for each row whether a refiner changed it."""
    changed = np.zeros(after.num_rows, dtype=bool)
    for name, kind in step.writes:
        old = before.column(name) if name in before.schema.names else None
        if kind is None or old is None:
            changed[:] = True
        else:
            changed |= _differs(old, after.column(name))
    return changed


def _differs(old: pa.Array, new: pa.Array) -> Booleans:
    """Say for each row whether its value changed; null equals null."""
    if new is old:
        return np.zeros(len(new), dtype=bool)
    if old.type != new.type:
        return np.ones(len(new), dtype=bool)
    if pa.types.is_nested(new.type):
        return np.array([a != b for a, b in zip(old.to_pylist(), new.to_pylist(), strict=True)], dtype=bool)
    unequal = pc.fill_null(pc.not_equal(old, new), True).to_numpy(zero_copy_only=False)
    both_null = pc.and_(pc.is_null(old), pc.is_null(new)).to_numpy(zero_copy_only=False)
    changed: Booleans = unequal & ~both_null
    return changed
