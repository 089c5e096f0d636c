"""The store contract: what a place must offer for shards, receipts and manifests to be committed safely there.

Paths are relative to the store's root, with `/`. Names of data files hold their own checksum, so placing one twice is
the same as placing it once; receipts need put-if-absent and the manifest needs compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Entry:
    """One stored file: its path below the root, size in bytes, and time of last change in seconds since the epoch."""

    path: str
    size: int
    mtime: float


def checked_path(path: str) -> str:
    """Return a path that stays below the root, or raise ValueError: absolute paths and `..` are refused."""
    if path.startswith("/") or "\\" in path or ".." in path.split("/"):
        raise ValueError(f"{path!r} does not stay below the store's root: give a relative path without `..`")
    return path


class Store(Protocol):
    """A directory-like place for one stage. It can be pickled; a worker process opens it anew."""

    root: str
    """The URI, without credentials."""
    exclusive: bool
    """False where put-if-absent is real; True means: this run must be the only writer."""

    def probe(self) -> bool:
        """Find out, by trying, whether put-if-absent and compare-and-swap are real here; set `exclusive` where they
        are not. Called once before the first commit; returns `not exclusive`."""

    def read(self, path: str) -> bytes:
        """Return a whole file. Raises FileNotFoundError."""

    def read_tagged(self, path: str) -> tuple[bytes, str] | None:
        """Return a whole file and a tag that changes whenever it does, or None where there is none."""

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Store a new file; False where one is already there. After a timeout it looks at what is there: equal bytes
        mean that this call won."""

    def swap(self, path: str, data: bytes, tag: str | None) -> bool:
        """Replace the file only if it still has `tag` (None: is still absent); say whether that was so."""

    def scratch(self) -> Path:
        """Return a local directory to write files in before they are placed (local: on the same file system)."""

    def place(self, file: Path, path: str) -> None:
        """Move a finished local file here, whole and flushed; a file of that name is left as it is."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """List files below a folder, recursively, in no promised order; nothing where the folder is absent."""

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files; those already gone are no error."""

    def open(self, path: str) -> pa.NativeFile:
        """Open a file for random access reading. Raises FileNotFoundError."""
