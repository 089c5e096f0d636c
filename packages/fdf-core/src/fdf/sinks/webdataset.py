"""Writes webdataset tar shards: members in a fixed order with fixed headers, so that the bytes depend on the rows."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar
from urllib.parse import quote

import pyarrow as pa

from fdf.errors import PlanError
from fdf.row_groups import as_plain, batch_with, schema_with
from fdf.schema import ID
from fdf.sinks.base import ShardWriter, Sink
from fdf.sinks.magic import extension_of
from fdf.sinks.ndjson import is_bytes, json_schema, to_json_lines

KEY = "__key__"
TEXT = "text"
_MEDIA = frozenset({"image", "audio", "video", "bytes"})


@dataclass(frozen=True, kw_only=True)
class WebdatasetSink(Sink):
    """Store each row as one sample of a tar: `text` as `.txt`, bytes under the extension of their format, the other
    columns as one `.json`.

    The sample's key is the column `__key__`; without it, the row's id with the characters that keys cannot hold
    percent-encoded. A binary column other than `image`, `audio`, `video` and `bytes` keeps its name before the
    extension (`0001.mask.png`). A null has no member.
    """

    type: ClassVar[str] = "webdataset"
    extension: ClassVar[str] = "tar"

    def stored_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema with plain types. Raises PlanError for columns that would need the same member name."""
        stored = json_schema(schema)
        media = [f.name for f in stored if f.name in _MEDIA and is_bytes(f.type)]
        if len(media) > 1:
            raise PlanError(
                f"the columns {media} would all be the sample's one media file",
                help="rename all but one with RenameColumns: other names stand before the extension",
            )
        return stored

    def open(self, stream: BinaryIO, schema: pa.Schema, *, constants: dict[str, str] | None = None) -> ShardWriter:
        """Start a tar on a stream."""
        return _TarWriter(stream, schema, constants or {})


class _TarWriter:
    def __init__(self, stream: BinaryIO, schema: pa.Schema, constants: dict[str, str]) -> None:
        self._stream = stream
        self._constants = constants
        self._schema = schema
        self._bytes = [f.name for f in schema if is_bytes(f.type)]
        text = schema.field(TEXT).type if TEXT in schema.names else pa.null()
        self._text = pa.types.is_string(text) or pa.types.is_large_string(text)
        apart = {*self._bytes, KEY, *([TEXT] if self._text else [])}
        self._rest = [n for n in schema_with(schema, constants).names if n not in apart]
        self._used: dict[str, int] = {}
        self._rows = 0
        self._written = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append one sample per row."""
        batch = batch_with(as_plain(batch, self._schema), self._constants)
        keys = self._keys(batch)
        lines = to_json_lines(batch.select(self._rest)).splitlines() if self._rest else []
        texts = batch.column(TEXT) if self._text else None
        for row, key in enumerate(keys):
            members = list(self._binaries(batch, row))
            if texts is not None and texts[row].is_valid:
                members.append(("txt", texts[row].as_py().encode()))
            if lines:
                members.append(("json", lines[row]))
            for extension, data in sorted(members):
                self._member(f"{key}.{extension}", data)

    def close(self) -> None:
        """End the archive as tar does: two empty blocks, filled up to a record."""
        self._put(b"\0" * (2 * tarfile.BLOCKSIZE))
        self._put(b"\0" * (-self._written % tarfile.RECORDSIZE))

    def _binaries(self, batch: pa.RecordBatch, row: int) -> Iterator[tuple[str, bytes]]:
        for name in self._bytes:
            data = batch.column(name)[row].as_py()
            if data is not None:
                extension = extension_of(data)
                yield extension if name in _MEDIA else f"{name}.{extension}", data

    def _keys(self, batch: pa.RecordBatch) -> Iterator[str]:
        given = batch.column(KEY).to_pylist() if KEY in self._schema.names else [None] * batch.num_rows
        ids = batch.column(ID).to_pylist() if ID in self._schema.names else [None] * batch.num_rows
        for own, row_id in zip(given, ids, strict=True):
            key = _safe(str(own)) if own else _encoded(str(row_id)) if row_id else f"{self._rows:09d}"
            # Two samples under one key would be read as one; rows that were made from one row share its key.
            seen = self._used.get(key, 0)
            self._used[key] = seen + 1
            self._rows += 1
            yield key if seen == 0 else f"{key}~{seen}"

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._put(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        self._put(data)
        self._put(b"\0" * (-len(data) % tarfile.BLOCKSIZE))

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self._written += len(data)


def _encoded(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E")


def _safe(key: str) -> str:
    """Return a sample's own key, encoded only where it would not come back or would leave the folder."""
    folder, _, name = key.rpartition("/")
    parts = key.split("/")
    if "." in name or key.startswith("/") or ".." in parts or "\0" in key or not name:
        return _encoded(key)
    return f"{folder}/{name}" if folder else name
