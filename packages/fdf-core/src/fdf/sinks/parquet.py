"""Writes parquet: fixed row groups, fixed options, no metadata; the same rows give the same bytes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fdf.errors import PlanError
from fdf.row_groups import RowGroups, even, schema_with
from fdf.schema import ID, plain_schema
from fdf.sinks.base import ShardWriter, Sink

_CONSTANT = pa.dictionary(pa.int32(), pa.string())
_CHUNK_ROWS = 1024
"""The parquet writer looks at its pages at the borders of chunks too, so borders have to depend on the rows alone."""


@dataclass(frozen=True, kw_only=True)
class ParquetSink(Sink):
    """Store rows as parquet that datasets, pyarrow, Polars and DuckDB read.

    A row group is closed by the first row at which it holds `row_group_bytes` of Arrow data or `row_group_rows` rows.
    """

    type: ClassVar[str] = "parquet"
    extension: ClassVar[str] = "parquet"

    compression: Literal["zstd", "snappy", "gzip", "lz4", "none"] = "zstd"
    compression_level: int | None = None
    """None: 3 for zstd, the codec's own default otherwise."""
    row_group_bytes: int = 64 << 20
    row_group_rows: int = 131_072

    def stored_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema with dictionaries and extension types as plain types, without metadata."""
        return _stored(schema)

    def open(self, stream: BinaryIO, schema: pa.Schema, *, constants: dict[str, str] | None = None) -> ShardWriter:
        """Start a parquet file on a stream."""
        return _ParquetWriter(self, stream, schema, constants or {})


class _ParquetWriter:
    def __init__(self, sink: ParquetSink, stream: BinaryIO, schema: pa.Schema, constants: dict[str, str]) -> None:
        narrow, schema = schema, schema_with(schema, constants)
        # A constant goes to the writer as the one entry of a dictionary, so that no value is hashed row by row; what
        # the file says of its columns is the plain type.
        self._constants = [pa.array([value], pa.string()) for value in constants.values()]
        self._schema = pa.schema([*narrow, *(pa.field(name, _CONSTANT) for name in constants)])
        level = 3 if sink.compression == "zstd" and sink.compression_level is None else sink.compression_level
        # Ids share long prefixes, so deltas make them nearly free. A dictionary of images or audio is wasted work.
        deltas = {f.name: "DELTA_BYTE_ARRAY" for f in schema if f.name == ID and f.type == pa.string()}
        plain = {f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)}
        dictionary = [leaf for leaf in _leaf_paths(schema) if leaf not in deltas and leaf not in plain]
        self._groups = RowGroups(narrow, max_bytes=sink.row_group_bytes, max_rows=sink.row_group_rows)
        self._writer = pq.ParquetWriter(
            stream,
            self._schema,
            version="2.6",
            compression=sink.compression,
            compression_level=level,
            use_dictionary=dictionary or False,
            column_encoding=deltas or None,
            write_statistics=True,
            store_schema=False,
        )
        self._writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(schema.serialize()).decode()})

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows; they are written when their group is full."""
        for group in self._groups.add(batch):
            self._write(group)

    def close(self) -> None:
        """Write what is left and the footer."""
        for group in self._groups.rest():
            self._write(group)
        self._writer.close()

    def _write(self, group: list[pa.RecordBatch]) -> None:
        rows = sum(batch.num_rows for batch in group)
        chunks = list(even(group, _CHUNK_ROWS))
        columns = [pa.chunked_array([c.column(i) for c in chunks]) for i in range(len(chunks[0].schema))]
        indices = pa.array(np.zeros(rows if self._constants else 0, dtype=np.int32))
        same = [pa.DictionaryArray.from_arrays(indices, value) for value in self._constants]
        table = pa.Table.from_arrays([*columns, *same], schema=self._schema)
        self._writer.write_table(table, row_group_size=rows)


@lru_cache(maxsize=256)
def _stored(schema: pa.Schema) -> pa.Schema:
    stored = plain_schema(schema)
    twice = sorted({n for n in stored.names if stored.names.count(n) > 1})
    if twice:
        raise PlanError(f"the columns {twice} stand twice in the output", help="rename one with RenameColumns")
    for field in stored:
        try:
            _leaf_paths(pa.schema([field]))
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise PlanError(
                f"column `{field.name}` has the type {field.type}, which parquet cannot hold: {error}",
                help="cast it with CastColumns or leave it out with SelectColumns",
            ) from error
    return stored


@lru_cache(maxsize=256)
def _leaf_paths(schema: pa.Schema) -> list[str]:
    """Return the paths of the leaf columns that parquet makes of a schema (`tags.list.element`)."""
    file = io.BytesIO()
    pq.write_table(schema.empty_table(), file)
    columns = pq.ParquetFile(file).schema
    return [columns.column(i).path for i in range(len(columns))]
