"""Writes JSON lines as one zstd frame; the same rows give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import pyarrow as pa

from fdf.row_groups import RowGroups, batch_with, whole
from fdf.sinks.base import ShardWriter, Sink
from fdf.sinks.ndjson import json_schema, to_json_lines

_GROUP_BYTES = 16 << 20
_GROUP_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class JsonlSink(Sink):
    """Store rows as `.jsonl.zst`: one object per line, bytes as base64, NaN and infinities as null.

    One zstd frame, because some readers stop at the end of the first.
    """

    type: ClassVar[str] = "jsonl"
    extension: ClassVar[str] = "jsonl.zst"

    def stored_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema with plain types. Raises PlanError for bytes within lists or structs, and for two columns
        of one name."""
        return json_schema(schema)

    def open(self, stream: BinaryIO, schema: pa.Schema, *, constants: dict[str, str] | None = None) -> ShardWriter:
        """Start a file on a stream."""
        return _JsonlWriter(stream, schema, constants or {})


class _JsonlWriter:
    def __init__(self, stream: BinaryIO, schema: pa.Schema, constants: dict[str, str]) -> None:
        self._constants = constants
        self._groups = RowGroups(schema, max_bytes=_GROUP_BYTES, max_rows=_GROUP_ROWS)
        self._out = pa.CompressedOutputStream(pa.PythonFile(_Unclosed(stream), mode="w"), "zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows; they are written when their group is full."""
        for group in self._groups.add(batch):
            self._out.write(to_json_lines(batch_with(whole(group), self._constants)))

    def close(self) -> None:
        """Write what is left and end the frame."""
        for group in self._groups.rest():
            self._out.write(to_json_lines(batch_with(whole(group), self._constants)))
        self._out.close()


class _Unclosed:
    """A stream that Arrow may write to and believe it has closed: the caller still has to flush it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.closed = False

    def write(self, data: bytes) -> int:
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True
