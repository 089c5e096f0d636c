"""A store on any fsspec file system. Most cannot put only if absent, so the run must be the only writer."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import pyarrow as pa

from fdf.fingerprint import sha256_hex
from fdf.storage.base import Entry, checked_path
from fdf.storage.retry import retrying
from fdf.storage.uri import filesystem

_SCRATCHES: dict[int, Path] = {}


def remote_scratch() -> Path:
    """Return this process's local folder for files that are still to be uploaded; removed when the process ends."""
    pid = os.getpid()
    known = _SCRATCHES.get(pid)
    if known is None or not known.is_dir():
        known = _SCRATCHES[pid] = Path(tempfile.mkdtemp(prefix=f"fdf-{pid}-"))
        Finalize(None, _release, args=(pid, str(known)), exitpriority=10)
    return known


def _release(pid: int, folder: str) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def open_remote(fs: Any, path: str) -> pa.NativeFile:
    """Open a remote file for random access. Raises FileNotFoundError."""
    # pyarrow's own handler asks `isfile` first, which answers no where the store does not answer at all.
    return pa.PythonFile(PatientFile(fs.open(path, "rb"), name=path), mode="r")


class PatientFile(io.RawIOBase):
    """A remote file whose reads are tried again where they fail for a reason that may pass."""

    def __init__(self, file: Any, *, name: str) -> None:
        self._file = file
        self._name = name

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer at the end."""
        start = self._file.tell()

        def once() -> bytes:
            if self._file.tell() != start:
                self._file.seek(start)
            return bytes(self._file.read(size))

        return retrying(once, what=self._name)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; return how many."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; return it."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the position."""
        return int(self._file.tell())

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say whether other positions can be gone to."""
        return bool(self._file.seekable())

    def close(self) -> None:
        """Close the file below."""
        if not self.closed:
            self._file.close()
        super().close()


class FsspecStore:
    """A folder on a remote file system, for one writer."""

    def __init__(self, uri: str) -> None:
        self.root = uri.rstrip("/")
        self.exclusive = True

    @property
    def _fs(self) -> Any:
        return filesystem(self.root)[0]

    def _at(self, path: str) -> str:
        base = filesystem(self.root)[1].rstrip("/")
        return f"{base}/{checked_path(path)}" if path else base

    def _try(self, call: Any, path: str) -> Any:
        return retrying(call, what=f"{self.root}/{path}")

    def probe(self) -> bool:
        return not self.exclusive

    def read(self, path: str) -> bytes:
        return bytes(self._try(lambda: self._fs.cat_file(self._at(path)), path))

    def read_tagged(self, path: str) -> tuple[bytes, str] | None:
        try:
            data = self.read(path)
        except FileNotFoundError:
            return None
        return data, sha256_hex(data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        if self._is_there(path):
            return False
        self._write(path, data)
        return True

    def swap(self, path: str, data: bytes, tag: str | None) -> bool:
        there = self.read_tagged(path)
        if (there[1] if there else None) != tag:
            return False
        self._write(path, data)
        return True

    def scratch(self) -> Path:
        return remote_scratch()

    def place(self, file: Path, path: str) -> None:
        target = self._at(path)
        if not self._is_there(path):
            self._make_parent(target)
            self._try(lambda: self._fs.put_file(str(file), target), path)
        file.unlink()

    def list(self, prefix: str = "") -> Iterator[Entry]:
        base = self._at("").rstrip("/")
        top = self._at(prefix.rstrip("/"))
        try:
            found = self._try(lambda: self._fs.find(top, detail=True), prefix)
        except FileNotFoundError:
            return
        for full, info in found.items():
            if full.startswith(base + "/"):  # find() on a file gives the file itself
                yield Entry(full[len(base) + 1 :], int(info["size"]), _changed(info))

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                self._try(partial(self._fs.rm_file, self._at(path)), path)

    def open(self, path: str) -> pa.NativeFile:
        return self._try(lambda: open_remote(self._fs, self._at(path)), path)

    def _is_there(self, path: str) -> bool:
        # Not `exists`, which says no where the store does not answer at all.
        try:
            self._try(lambda: self._fs.info(self._at(path)), path)
        except FileNotFoundError:
            return False
        return True

    def _write(self, path: str, data: bytes) -> None:
        target = self._at(path)
        self._make_parent(target)
        self._try(lambda: self._fs.pipe_file(target, data), path)

    def _make_parent(self, target: str) -> None:
        self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)


def _changed(info: dict[str, Any]) -> float:
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            with suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    return 0.0
