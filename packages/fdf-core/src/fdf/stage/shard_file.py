"""Writes one file of a stage aside, with its checksum, and puts it in place under a name that holds that checksum."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from fdf.plan.task import SplitKey
from fdf.sinks.base import ShardWriter, Sink
from fdf.storage.base import Store

POSITIONED = re.compile(r"part-(\d+)-[0-9a-f]{12}-[0-9a-f]{12}\.[^/]+$")


@dataclass(frozen=True)
class FileEntry:
    """One file as receipts and manifests name it; `split` is the location of the split that it came from."""

    path: str
    rows: int
    bytes: int
    sha256: str
    split: str

    @property
    def position(self) -> str:
        """Where its rows stand in a mixture's schedule, as its name says; "" for a file of no mixture."""
        named = POSITIONED.search(self.path)
        return named.group(1) if named else ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FileEntry:
        return cls(**value)


class _HashedFile:
    """A binary file that knows the sha256 of what went through it."""

    def __init__(self, path: Path) -> None:
        # The writer buffers whole pages itself.
        self._path = path
        self._file = path.open("wb", buffering=0)
        self.digest = hashlib.sha256()
        self.size = 0
        self.closed = False
        self._abandoned = False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._abandoned:
            return len(view)
        self.digest.update(view)
        size = len(view)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            # The system says what went wrong with an open file, but not with which.
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self.size += size
        return size

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def abandon(self) -> None:
        """Close the file, and swallow what its writer, when it is thrown away, still wants to add."""
        self._abandoned = True
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._file.close()


class ShardFile:
    """A file that is begun with its first row, so that no rows make no file."""

    def __init__(self, store: Store, sink: Sink, schema: pa.Schema, *, constants: dict[str, str] | None = None) -> None:
        self._store = store
        self._sink = sink
        self._schema = schema
        self._constants = constants or {}
        self._path = store.scratch() / uuid.uuid4().hex
        self._file: _HashedFile | None = None
        self._writer: ShardWriter | None = None
        self.rows = 0

    def beside(self, suffix: str) -> Path:
        """Return a name for a scratch file that belongs to this one."""
        return self._path.with_suffix(f".{suffix}")

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        if not batch.num_rows:
            return
        if self._writer is None:
            self.begin()
        assert self._writer is not None
        self._writer.write(batch)
        self.rows += batch.num_rows

    def begin(self) -> None:
        """Start the file even if no row comes."""
        self._file = _HashedFile(self._path)
        stream = cast("BinaryIO", self._file)
        self._writer = self._sink.open(stream, self._sink.stored_schema(self._schema), constants=self._constants)

    def finish(self) -> None:
        """Write what is buffered, so that nothing but placing is left to do."""
        if self._writer is not None and self._file is not None:
            self._writer.close()
            self._file.close()

    def place(self, folder: str, key: SplitKey, *, position: str = "") -> FileEntry | None:
        """Put the finished file into a folder of the store; None where nothing was written."""
        if self._file is None:
            return None
        sha256 = self._file.digest.hexdigest()
        parts = ["part", position, key.location[:12], sha256[:12]]
        name = "-".join(p for p in parts if p) + f".{self._sink.extension}"
        self._store.place(self._path, folder + name)
        return FileEntry(folder + name, self.rows, self._file.size, sha256, key.location)

    def discard(self) -> None:
        """Remove what was written aside."""
        if self._file is not None:
            self._file.abandon()
            self._path.unlink(missing_ok=True)
