"""Repositories of the stand-in hub: commits over blobs, branches and tags, without git."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

_LARGE = ("parquet", "arrow", "gz", "zst", "tar", "zip", "safetensors", "bin", "pt", "png", "jpg", "jpeg", "mp4", "wav")
_LARGE_BYTES = 10 << 20
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"

Content = bytes | str | Path


@dataclass(frozen=True)
class Blob:
    """The content of one file. Large ones are kept as git-lfs would: their own bytes elsewhere, a pointer in git."""

    content: bytes | Path
    large: bool

    @classmethod
    def of(cls, path: str, content: Content) -> Blob:
        """Return the blob of a file with this path; a `Path` is read when it is asked for, and must not change."""
        held = content.encode() if isinstance(content, str) else content
        size = held.stat().st_size if isinstance(held, Path) else len(held)
        return cls(held, large=path.rsplit(".", 1)[-1].lower() in _LARGE or size > _LARGE_BYTES)

    def read(self) -> bytes:
        """Return the bytes."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content

    def part(self, start: int, stop: int) -> bytes:
        """Return a range of the bytes."""
        if isinstance(self.content, bytes):
            return self.content[start:stop]
        with self.content.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    @cached_property
    def size(self) -> int:
        """How many bytes it has."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    @cached_property
    def sha256(self) -> str:
        """The digest by which git-lfs knows it."""
        return hashlib.sha256(self.read()).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What git holds in place of a large file."""
        return _POINTER.format(oid=self.sha256, size=self.size).encode()

    @cached_property
    def oid(self) -> str:
        """The id of the git object: of the pointer, where the file is large."""
        held = self.pointer if self.large else self.read()
        return hashlib.sha1(b"blob %d\0" % len(held) + held, usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        """What a download is named by in caches."""
        return self.sha256 if self.large else self.oid


@dataclass
class Repository:
    """One repository: `type` is `dataset`, `model` or `space`."""

    id: str
    type: str
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, files: Mapping[str, Content | None], *, branch: str = "main") -> str:
        """Add a commit with these files changed (None: deleted) and return its sha; a new branch starts at `main`."""
        parent = self.branches.get(branch, self.branches.get("main"))
        tree = dict(self.commits[parent]) if parent is not None else {}
        for path, content in files.items():
            if content is None:
                del tree[path]
            else:
                tree[path] = Blob.of(path, content)
        told = "\n".join(
            [str(parent), str(len(self.commits)), *(f"{blob.oid} {p}" for p, blob in sorted(tree.items()))]
        )
        sha = hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = tree
        self.branches[branch] = sha
        return sha

    def commit_folder(self, folder: Path, *, branch: str = "main") -> str:
        """Add a commit with every file below a folder."""
        files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        return self.commit(files, branch=branch)

    def sha_of(self, revision: str) -> str | None:
        """Return the commit behind a branch, tag, commit or the beginning of one; None where there is none."""
        named = self.branches.get(revision) or self.tags.get(revision)
        if named or revision in self.commits:
            return named or revision
        starting = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        return starting[0] if len(starting) == 1 else None

    def entries(self, sha: str, below: str, *, recursive: bool) -> list[dict[str, Any]] | None:
        """Return the files and folders below a path as the API tells of them; None where there is no such folder."""
        prefix = f"{below}/" if below else ""
        inside = {p: blob for p, blob in self.commits[sha].items() if p.startswith(prefix)}
        if below and not inside:
            return None
        found: dict[str, dict[str, Any]] = {}
        for path, blob in inside.items():
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                folder = prefix + "/".join(parts[:depth])
                if recursive or depth == 1:
                    oid = hashlib.sha1(f"{sha}{folder}".encode(), usedforsecurity=False).hexdigest()
                    found[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
            if recursive or len(parts) == 1:
                found[path] = file_entry(path, blob)
        return [found[path] for path in sorted(found)]


def file_entry(path: str, blob: Blob) -> dict[str, Any]:
    """Return a file as the API tells of it."""
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
    if blob.large:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
    return entry
