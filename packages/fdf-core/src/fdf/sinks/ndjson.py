"""Turns rows into JSON lines without a Python object per row."""

from __future__ import annotations

import io

import pyarrow as pa

from fdf.errors import PlanError
from fdf.schema import plain_schema

_BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)


def is_bytes(kind: pa.DataType) -> bool:
    """Say whether a column holds bytes (which JSON holds as base64 text)."""
    return any(check(kind) for check in _BINARY)


def json_schema(schema: pa.Schema) -> pa.Schema:
    """Return the plain schema of rows that can become JSON. Raises PlanError for bytes within lists or structs, and for
    two columns of one name."""
    stored = plain_schema(schema)
    twice = sorted({n for n in stored.names if stored.names.count(n) > 1})
    if twice:
        raise PlanError(f"the columns {twice} stand twice in the output", help="rename one with RenameColumns")
    fields = []
    for field in stored:
        kind = pa.binary() if is_bytes(field.type) else field.type
        if not is_bytes(kind) and _holds_bytes(kind):
            raise PlanError(
                f"column `{field.name}` ({kind}) holds bytes within a list or struct, which JSON lines cannot hold",
                help="leave it out with SelectColumns, or write parquet",
            )
        fields.append(pa.field(field.name, kind, field.nullable))
    return pa.schema(fields)


def to_json_lines(batch: pa.RecordBatch) -> bytes:
    """Return one JSON object per row, each ended by a line feed.

    Null is null, and so are NaN and infinities, which JSON lacks; bytes are base64; dates and times are ISO 8601 text.
    """
    if batch.num_rows == 0:
        return b""
    if batch.num_columns == 0:
        return b"{}\n" * int(batch.num_rows)
    import polars as pl  # Only here: workers that write parquet start without it.

    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
    encoded = [pl.col(n).bin.encode("base64") for n, kind in frame.schema.items() if kind == pl.Binary]
    if encoded:
        frame = frame.with_columns(encoded)
    out = io.BytesIO()
    frame.write_ndjson(out)
    return out.getvalue()


def _holds_bytes(kind: pa.DataType) -> bool:
    return is_bytes(kind) or any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
