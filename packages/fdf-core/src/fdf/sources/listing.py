"""Lists input files: a path, folder or glob, or several, local or remote, in one fixed order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import xxhash
from fsspec.utils import glob_translate

from fdf.errors import FdfError, PlanError, TransientError
from fdf.sources.base import InputFile
from fdf.sources.failures import refused
from fdf.storage.failures import refusal
from fdf.storage.remote import PatientFile
from fdf.storage.retry import retrying
from fdf.storage.uri import filesystem, local_path, protocol_of, redacted

_MAGIC = re.compile(r"[*?\[]")
_BLOCK = 8 << 20
_CHANGES_WITH_CONTENT = (
    "ETag", "etag", "md5Hash", "crc32c", "sha256", "blob_id", "LastModified", "mtime", "updated", "created"
)  # fmt: skip


def list_files(
    path: str | tuple[str, ...] | list[str],
    *,
    extensions: Iterable[str],
    identity: Literal["stat", "content"] = "stat",
) -> list[InputFile]:
    """Return the files behind a path, sorted by URI, each once.

    A folder gives all files with one of the `extensions` (lower case, without the dot) below it; a glob gives what it
    matches; both pass over files and folders whose names start with `.` or `_`. A file named outright is taken as it
    is. Raises PlanError where nothing is there.
    """
    paths = [path] if isinstance(path, str) else list(path)
    wanted = tuple("." + e for e in extensions)
    listed = []
    for one in paths:
        with _listing(one):
            listed.append(_expand(one, wanted))
    if not listed:
        raise PlanError("the list of input paths is empty", help="name at least one file, folder or glob in `path`")
    root = _common_root([root for root, _ in listed])
    found: dict[str, InputFile] = {}
    for one, (_, infos) in zip(paths, listed, strict=True):
        fs, _ = filesystem(one)
        for info in infos:
            name = str(info["name"])
            uri = name if local_path(one) is not None else str(fs.unstrip_protocol(name))
            if uri not in found:
                relative = uri[len(root) :].lstrip("/")
                version = _version(info, uri, identity)
                found[uri] = InputFile(uri=uri, path=relative, size=int(info["size"] or 0), version=version)
    return [found[uri] for uri in sorted(found)]


def _common_root(roots: list[str]) -> str:
    """Return the folder that holds all declared roots: two files of a list never get the same relative path."""
    if len(set(roots)) == 1:
        return roots[0]
    parts = [root.split("/") for root in roots]
    shared = 0
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared += 1
    return "/".join(parts[0][:shared])


def root_of(path: str) -> str:
    """Return the declared root: the folder before the first magic character; of a plain file, its own folder."""
    magic = _MAGIC.search(path)
    head = path[: magic.start()] if magic else path
    return head.rsplit("/", 1)[0] if "/" in head else ""


def open_file(uri: str) -> BinaryIO:
    """Open an input file for reading bytes in order, in large blocks. Raises FileNotFoundError."""
    fs, path = filesystem(uri)
    if protocol_of(uri) in ("file", "local"):
        return Path(path).open("rb", buffering=1 << 20)
    file = retrying(lambda: fs.open(path, "rb", block_size=_BLOCK, cache_type="readahead"), what=uri)
    return cast("BinaryIO", PatientFile(file, name=uri))


@contextmanager
def _listing(path: str) -> Iterator[None]:
    """Raise MissingDependency where access is refused, PlanError for what else keeps a path from being listed."""
    try:
        yield
    except (FdfError, TransientError):
        raise
    except Exception as error:
        why = refusal(error)
        if why is not None:
            raise refused(path, why) from error
        if not isinstance(error, (OSError, ValueError)):
            raise
        cause = redacted(str(error).strip().split("\n", 1)[0])
        raise PlanError(f"the input {redacted(path)} cannot be listed: {cause}", help="check the path") from error


def _expand(path: str, wanted: tuple[str, ...]) -> tuple[str, list[dict[str, Any]]]:
    """Return the declared root of one path, as a URI, and what fsspec says of each file behind it."""
    fs, inner = filesystem(path)
    local = local_path(path)
    if _MAGIC.search(inner) and not (local is not None and Path(local).exists()):
        root = root_of(inner)
        infos = [i for i in _glob(fs, inner, path) if not _hidden(i["name"], root)]
        if not infos:
            raise PlanError(f"no file matches {redacted(path)}", help=_nearest(fs, inner))
    else:
        try:
            info = retrying(lambda: fs.info(inner), what=path)
        except FileNotFoundError as error:
            raise PlanError(f"the input {redacted(path)} does not exist", help=_nearest(fs, inner)) from error
        if info["type"] == "directory":
            root = inner.rstrip("/")
            below = _find(fs, root, path)
            infos = [i for i in below if i["name"].lower().endswith(wanted) and not _hidden(i["name"], root)]
            if not infos:
                raise PlanError(
                    f"the folder {redacted(path)} holds no file that ends in {', '.join(wanted)}",
                    help="name the files outright, or with a glob",
                )
        else:
            root = root_of(inner)
            infos = [info]
    return (root if local is not None else str(fs.unstrip_protocol(root))), infos


def _glob(fs: Any, pattern: str, path: str) -> list[dict[str, Any]]:
    """Return what fsspec says of each file that matches, descending only into folders that do.

    Not by `fs.glob`, which takes a folder that cannot be listed for an empty one: its files would leave the dataset.
    """
    parts = pattern.split("/")
    depth = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
    folders = ["/".join(parts[:depth]) or "/"]
    while "**" not in parts[depth] and depth < len(parts) - 1:
        fits = re.compile(glob_translate(parts[depth])).match
        below = [i for folder in folders for i in _ls(fs, folder, path) if i["type"] == "directory"]
        folders = [i["name"].rstrip("/") for i in below if fits(_last(i))]
        depth += 1
    if "**" in parts[depth]:
        found = [i for folder in folders for i in _find(fs, folder, path)]
    else:
        found = [i for folder in folders for i in _ls(fs, folder, path)]
    matches = re.compile(glob_translate(pattern)).match
    return [i for i in found if i["type"] == "file" and matches(i["name"])]


def _find(fs: Any, folder: str, path: str) -> list[dict[str, Any]]:
    """Return what fsspec says of each file below a folder."""
    if protocol_of(path) in ("s3", "s3a"):
        # One flat listing; elsewhere `find` walks, and takes a folder that cannot be listed for an empty one.
        return list(retrying(lambda: fs.find(folder, detail=True), what=path).values())
    found: list[dict[str, Any]] = []
    for info in _ls(fs, folder, path):
        found += _find(fs, info["name"], path) if info["type"] == "directory" else [info]
    return found


def _ls(fs: Any, folder: str, path: str) -> list[dict[str, Any]]:
    """Return what is in a folder; nothing where it is not there."""
    try:
        infos = retrying(lambda: fs.ls(folder, detail=True), what=path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [info for info in infos if info["name"].rstrip("/") != folder.rstrip("/")]  # The marker of a folder.


def _last(info: dict[str, Any]) -> str:
    return str(info["name"]).rstrip("/").rsplit("/", 1)[-1]


def _hidden(name: str, root: str) -> bool:
    parts = name[len(root) :].lstrip("/").split("/")
    return any(part.startswith((".", "_")) for part in parts)


def _version(info: dict[str, Any], uri: str, identity: Literal["stat", "content"]) -> str:
    if identity == "content":
        return content_version(uri)
    if protocol_of(uri) == "file":
        stat = Path(info["name"]).stat()
        return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"
    for key in _CHANGES_WITH_CONTENT:
        if info.get(key):
            return f"{info['size']}-{str(info[key]).strip(chr(34))}"
    # Nothing that changes with the content is known of this file system: the content decides.
    return content_version(uri)


def content_version(uri: str) -> str:
    """Return a 128-bit hash of a file's bytes."""
    hasher = xxhash.xxh3_128()
    with open_file(uri) as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return f"xxh3-{hasher.hexdigest()}"


def _nearest(fs: Any, inner: str) -> str:
    """Say which folder above a missing path exists."""
    step = inner.rstrip("/")
    while "/" in step:
        step = step.rsplit("/", 1)[0]
        try:
            if step and fs.isdir(step):
                return f"{step} exists; check the rest of the path"
        except OSError:
            break
    return "check the path"
