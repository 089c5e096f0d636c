"""Makes batches have the wanted columns and types. Only widening is done; rows whose values do not fit are rejected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import BadFile, PlanError
from fdf.schema import decoded, plain_type, row_bytes
from fdf.sources.base import Reject, SourceBatch
from fdf.sources.stored_files import BYTES, bytes_of, holds_files, is_bytes, may_give_bytes

BATCH_BYTES = 16 << 20
RAW_BYTES = 4096


def conform(
    batch: pa.RecordBatch,
    *,
    schema: pa.Schema,
    positions: pa.Array,
    rejects: tuple[Reject, ...] = (),
    max_row_bytes: int | None = None,
    from_text: bool = False,
) -> SourceBatch:
    """Return the batch with exactly these columns and types.

    A missing column is null, a column that is not asked for is left out and named in `extra_columns`. A row with a
    value that does not fit its type, or that is heavier than `max_row_bytes`, becomes a `Reject`. Where bytes are
    wanted they are taken from files as `datasets` stores them. With `from_text` strings are read as numbers, booleans
    or dates where such are wanted (CSV).
    """
    rows = batch.num_rows
    bad: dict[int, str] = {}
    columns: list[pa.Array] = []
    present = set(batch.schema.names)
    distinct_columns(batch.schema)
    for field in schema:
        if field.name not in present:
            columns.append(pa.nulls(rows, field.type))
            continue
        columns.append(_fit(batch.column(field.name), field, bad, from_text=from_text))
    out = pa.RecordBatch.from_arrays(columns, schema=schema) if len(schema) else batch.select([])
    if max_row_bytes is not None and len(schema):
        weights = row_bytes(out)
        for row in np.flatnonzero(weights > max_row_bytes):
            bad.setdefault(int(row), f"the row holds {weights[row]} bytes, more than max_row_bytes ({max_row_bytes})")
    extra = tuple(n for n in batch.schema.names if n not in schema.names)
    if not bad:
        return SourceBatch(out, positions, rejects, extra)
    where = np.array(sorted(bad), dtype=np.int64)
    kept = np.ones(rows, dtype=bool)
    kept[where] = False
    more = tuple(Reject(position=positions[int(i)].as_py(), error=bad[int(i)], raw=_raw(batch, int(i))) for i in where)
    mask = pa.array(kept)
    kept_rows = out.filter(mask) if len(schema) else out.slice(0, int(kept.sum()))
    return SourceBatch(kept_rows, positions.filter(mask), rejects + more, extra)


def distinct_columns(schema: pa.Schema) -> None:
    """Raise BadFile where two columns of a file share a name, so that the name does not say which is meant."""
    names = schema.names
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise BadFile(
            f"it has more than one column `{'`, `'.join(twice)}`", help="write the file with distinct column names"
        )


def in_batches(batch: pa.RecordBatch, positions: pa.Array) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
    """Cut a batch into parts of at most about 16 MiB, without copying."""
    if batch.num_rows == 0:
        return
    if batch.num_columns == 0 or batch.nbytes <= BATCH_BYTES:
        yield batch, positions
        return
    ends = np.cumsum(row_bytes(batch))
    start = 0
    while start < batch.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        yield batch.slice(start, stop - start), positions.slice(start, stop - start)
        start = stop


def in_order(batches: Iterable[SourceBatch], rejects: Iterable[Reject], *, schema: pa.Schema) -> Iterator[SourceBatch]:
    """Give each batch the rejects that stand before its last row, and the rest to a batch of their own."""
    left = sorted(rejects, key=lambda r: r.position)
    extra: tuple[str, ...] = ()
    for batch in batches:
        extra = batch.extra_columns
        last = batch.positions[-1].as_py() if len(batch.positions) else -1
        here = [r for r in left if r.position <= last]
        left = left[len(here) :]
        yield SourceBatch(batch.rows, batch.positions, (*batch.rejects, *here), extra)
    if left:
        none = pa.RecordBatch.from_pylist([], schema=schema)
        yield SourceBatch(none, pa.array([], pa.int64()), tuple(left), extra)


def _raw(batch: pa.RecordBatch, row: int) -> bytes:
    values = {name: _python(column[row]) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    return str(values).encode(errors="replace")[:RAW_BYTES]


def _python(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError:  # text that is not UTF-8, which may be why the row is rejected
        return value.as_buffer().to_pybytes() if hasattr(value, "as_buffer") else "(not UTF-8)"


def _fit(array: pa.Array, field: pa.Field, bad: dict[int, str], *, from_text: bool) -> pa.Array:
    wanted = field.type
    array = decoded(array)
    if may_give_bytes(array.type, wanted):
        array = bytes_of(array)
    have = array.type
    if have.equals(wanted):
        return _check_text(array, field, bad) if _holds_text(wanted) else array
    if pa.types.is_null(have):
        return pa.nulls(len(array), wanted)
    if not _may_widen(have, wanted, from_text=from_text):
        for i in np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False)):
            bad.setdefault(int(i), f"column `{field.name}` holds {have}, which does not fit {wanted}")
        return pa.nulls(len(array), wanted)
    if from_text and not _is_text(wanted):
        array = _empty_is_null(array)
    return _cast(array, field, bad)


def _cast(array: pa.Array, field: pa.Field, bad: dict[int, str]) -> pa.Array:
    """Cast the column; where that fails, find the rows that do not fit by bisection and null them."""
    try:
        return pc.cast(array, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        failed = error
    misfits: dict[int, str] = {}
    _bisect(array, field.type, 0, failed, misfits)
    for row, why in misfits.items():
        bad.setdefault(row, f"column `{field.name}`: {why}")
    keep = np.ones(len(array), dtype=bool)
    keep[list(misfits)] = False
    cleaned = pc.if_else(pa.array(keep), array, pa.scalar(None, array.type))
    return pc.cast(cleaned, field.type)


def _bisect(array: pa.Array, wanted: pa.DataType, offset: int, error: Exception, out: dict[int, str]) -> None:
    if len(array) == 1:
        out[offset] = str(error).splitlines()[0][:200]
        return
    half = len(array) // 2
    for part, start in ((array.slice(0, half), offset), (array.slice(half), offset + half)):
        try:
            pc.cast(part, wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as failed:
            _bisect(part, wanted, start, failed, out)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _holds_text(kind: pa.DataType) -> bool:
    return _is_text(kind) or any(_holds_text(kind.field(i).type) for i in range(kind.num_fields))


def _check_text(array: pa.Array, field: pa.Field, bad: dict[int, str]) -> pa.Array:
    """Reject rows whose text is not UTF-8: parquet and Arrow files may hold such, and kernels would fail later."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        keep = np.ones(len(array), dtype=bool)
        _mark_not_utf8(array, keep)
        for row in np.flatnonzero(~keep):
            bad.setdefault(int(row), f"column `{field.name}` is not UTF-8")
        return array.take(pa.array(np.where(keep, np.arange(len(array)), 0), mask=~keep))
    return array


def _mark_not_utf8(array: pa.Array, keep: npt.NDArray[np.bool_]) -> None:
    try:
        # A copy: the check of a slice looks at all values of the lists and structs that it is cut from.
        array.take(pa.array(np.arange(len(array)))).validate(full=True)
    except pa.ArrowInvalid:
        if len(array) == 1:
            keep[0] = False
            return
        half = len(array) // 2
        _mark_not_utf8(array.slice(0, half), keep[:half])
        _mark_not_utf8(array.slice(half), keep[half:])


def _empty_is_null(array: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(array)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, array.type), trimmed)


def _may_widen(have: pa.DataType, wanted: pa.DataType, *, from_text: bool) -> bool:
    """Say whether values of one type may become the other; single values may still not fit (1.5 as an integer)."""
    t = pa.types
    if t.is_map(have):
        # A map is a list of pairs with another name.
        pairs = plain_type(have)
        return bool(pairs.equals(wanted) or _may_widen(pairs, wanted, from_text=False))
    number = t.is_integer(have) or t.is_floating(have)
    if number and (t.is_integer(wanted) or t.is_floating(wanted)):
        return True
    if t.is_decimal(have) or t.is_decimal(wanted):
        return bool((number or t.is_decimal(have)) and (t.is_decimal(wanted) or t.is_floating(wanted)))
    text = (t.is_string, t.is_large_string, t.is_string_view)
    data = (t.is_binary, t.is_large_binary, t.is_binary_view, t.is_fixed_size_binary)
    if any(f(have) for f in text):
        return from_text or any(f(wanted) for f in (*text, *data))
    if any(f(have) for f in data):
        return any(f(wanted) for f in (*text, *data))
    if t.is_list(have) or t.is_large_list(have) or t.is_fixed_size_list(have) or t.is_list_view(have):
        lists = t.is_list(wanted) or t.is_large_list(wanted)
        return bool(
            lists
            and (
                have.value_type.equals(wanted.value_type)
                or t.is_null(have.value_type)
                or _may_widen(have.value_type, wanted.value_type, from_text=False)
            )
        )
    if t.is_struct(have) and t.is_struct(wanted):
        return True
    if t.is_temporal(have) and t.is_temporal(wanted):
        return bool(t.is_date(have) == t.is_date(wanted) or t.is_timestamp(wanted))
    return bool(t.is_dictionary(have))


def widest(have: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that both widen to without loss, or None."""
    t = pa.types
    if have.equals(other) or t.is_null(other):
        return have
    if t.is_null(have):
        return other
    try:
        return (
            pa.unify_schemas([pa.schema([("x", have)]), pa.schema([("x", other)])], promote_options="permissive")
            .field(0)
            .type
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def _as_bytes(have: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    for one, two in ((have, other), (other, have)):
        if is_bytes(one) and holds_files(two):
            return widest(one, two.field(BYTES).type)
    return None


def unify(schemas: list[tuple[str, pa.Schema]], *, of_files: bool = False) -> pa.Schema:
    """Return one schema for the files (name, schema), widening where that is safe.

    With `of_files` the types are as files have them, where a column of bytes in one and of files as `datasets` stores
    them in another is one of bytes.

    Raises PlanError naming both files, the column and both types where it is not.
    """
    types: dict[str, pa.DataType] = {}
    owner: dict[str, str] = {}
    for name, schema in schemas:
        for field in schema:
            kind = field.type
            if field.name not in types:
                types[field.name], owner[field.name] = kind, name
                continue
            both = widest(types[field.name], kind)
            if both is None and of_files:
                both = _as_bytes(types[field.name], kind)
            if both is None:
                raise PlanError(
                    f"column `{field.name}` is {types[field.name]} in {owner[field.name]} and {kind} in {name}",
                    help=f"declare what it should be: schema: {{ {field.name}: string }}",
                )
            if not both.equals(types[field.name]):
                types[field.name], owner[field.name] = both, name
    return pa.schema(list(types.items()))


def positions_from(start: int, rows: int) -> pa.Array:
    """Return consecutive row numbers (int64)."""
    numbers: npt.NDArray[np.int64] = np.arange(start, start + rows, dtype=np.int64)
    return pa.array(numbers)
