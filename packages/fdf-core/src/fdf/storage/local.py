"""A store on a local (or network) file system: `link` is put-if-absent, a lock and `replace` are compare-and-swap."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path

import pyarrow as pa

from fdf.errors import PlanError
from fdf.fingerprint import sha256_hex
from fdf.storage.base import Entry, checked_path

# A hidden name, because datasets, pyarrow, Polars and DuckDB all pass it by when they open a folder that holds it.
SCRATCH = ".fdf-tmp"
_ALIVE = "alive"


class LocalStore:
    """A folder. Files appear whole and flushed, or not at all."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self.exclusive = False

    def probe(self) -> bool:
        """Hard links and locks are always tried for real, so there is nothing to find out."""
        return not self.exclusive

    def read(self, path: str) -> bytes:
        with open(self._at(path), "rb") as file:
            return file.read()

    def read_tagged(self, path: str) -> tuple[bytes, str] | None:
        try:
            data = self.read(path)
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise _in_the_way(self._at(path)) from error
        return data, sha256_hex(data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        target = self._at(path)
        if os.path.exists(target):
            return False
        aside = self.scratch() / secrets.token_hex(8)
        try:
            _write_flushed(aside, data)
            return self._link(aside, target)
        finally:
            with suppress(FileNotFoundError):
                aside.unlink()

    def swap(self, path: str, data: bytes, tag: str | None) -> bool:
        target = self._at(path)
        with self._locked(path):
            there = self.read_tagged(path)
            if (there[1] if there else None) != tag:
                return False
            aside = self.scratch() / secrets.token_hex(8)
            _write_flushed(aside, data)
            _make_folder(os.path.dirname(target))
            os.replace(aside, target)
            _flush_folder(os.path.dirname(target))
            return True

    def scratch(self) -> Path:
        return _own_scratch(self.root)

    def place(self, file: Path, path: str) -> None:
        target = self._at(path)
        if os.path.exists(target):
            file.unlink()
            return
        with open(file, "rb") as written:
            os.fsync(written.fileno())
        try:
            self._link(file, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            aside = self.scratch() / secrets.token_hex(8)
            shutil.copyfile(file, aside)
            self.place(aside, path)
        with suppress(FileNotFoundError):
            file.unlink()

    def list(self, prefix: str = "") -> Iterator[Entry]:
        top = self._at(prefix) if prefix else self.root
        for folder, folders, files in os.walk(top):
            if folder == self.root and SCRATCH in folders:
                folders.remove(SCRATCH)
            for name in files:
                full = os.path.join(folder, name)
                try:
                    stat = os.stat(full)
                except FileNotFoundError:
                    continue
                yield Entry(full[len(self.root) :].replace(os.sep, "/").lstrip("/"), stat.st_size, stat.st_mtime)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                os.unlink(self._at(path))

    def prune(self, prefix: str) -> None:
        """Remove a folder and those inside it, as far as they are empty."""
        for folder, _, _ in os.walk(self._at(prefix), topdown=False):
            with suppress(OSError):
                os.rmdir(folder)

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(self._at(path), "rb")

    def _at(self, path: str) -> str:
        return os.path.join(self.root, checked_path(path))

    def _link(self, source: Path, target: str) -> bool:
        """Give a flushed file its name, unless the name is taken; say whether that was so."""
        folder = os.path.dirname(target)
        _make_folder(folder)
        try:
            os.link(source, target)
        except FileExistsError:
            # A network file system may have linked and lost the answer: then the file has two names.
            return os.stat(source).st_nlink == 2
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            # No hard links here (exFAT, some FUSE mounts): check and rename under the lock.
            with self._locked(os.path.relpath(target, self.root)):
                if os.path.exists(target):
                    return False
                os.replace(source, target)
        _flush_folder(folder)
        return True

    @contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        shared = os.path.join(self.root, SCRATCH)
        lock = os.path.join(shared, sha256_hex(path.replace(os.sep, "/"))[:16] + ".lock")
        while True:
            _make_folder(shared)
            try:
                held = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(held, fcntl.LOCK_EX)
                # The last holder removes the file: what was waited for may no longer be the lock that others see.
                try:
                    current = os.stat(lock).st_ino == os.fstat(held).st_ino
                except FileNotFoundError:
                    current = False
                if not current:
                    continue
                try:
                    yield
                finally:
                    os.unlink(lock)
                return
            finally:
                os.close(held)


def _in_the_way(target: str) -> PlanError:
    """Return the error for a path that would lead through a file."""
    file = target
    while not os.path.lexists(file):
        file = os.path.dirname(file)
    return PlanError(f"{file} is a file, where a folder is needed", help="choose another path, or move the file away")


def _write_flushed(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: str) -> None:
    """Make a folder and those above it, each flushed into its parent so that a power cut cannot lose the chain."""
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folder(parent)
    with suppress(FileExistsError):
        os.mkdir(folder)
    _flush_folder(parent)


def _flush_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # some network file systems cannot
            raise
    finally:
        os.close(handle)


_SCRATCHES: dict[tuple[int, str], Path] = {}


def _own_scratch(root: str) -> Path:
    """Return this process's folder for unfinished files below a root; made once, removed when the process ends."""
    key = (os.getpid(), root)
    known = _SCRATCHES.get(key)
    if known is not None and known.is_dir():
        return known
    shared = os.path.join(root, SCRATCH)
    while True:
        _make_folder(shared)
        _sweep(shared)
        own = Path(shared, f"{os.getpid()}-{secrets.token_hex(6)}")
        # While this process lives it holds the lock, so that others can tell leftovers of a killed one from work.
        try:
            own.mkdir()
            alive = os.open(own / _ALIVE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue
        fcntl.flock(alive, fcntl.LOCK_EX)
        if (own / _ALIVE).exists():  # else another process swept it just before the lock was taken
            break
        os.close(alive)
    _SCRATCHES[key] = own
    # Worker processes of multiprocessing end without atexit; this runs in both.
    Finalize(None, _release, args=(os.getpid(), alive, str(own), shared), exitpriority=10)
    return own


def _sweep(shared: str) -> None:
    """Remove the scratch folders of processes that are gone."""
    for folder in _scratch_folders(shared):
        with _abandoned(folder) as gone:
            if gone:
                shutil.rmtree(folder, ignore_errors=True)


def abandoned_scratch(root: str) -> list[Path]:
    """Return the scratch folders below a root that no living process holds."""
    found = []
    for folder in _scratch_folders(os.path.join(root, SCRATCH)):
        with _abandoned(folder) as gone:
            if gone:
                found.append(folder)
    return found


def others_at_work(root: str) -> bool:
    """Say whether another process of this machine holds a scratch folder below a root."""
    own = _SCRATCHES.get((os.getpid(), root))
    gone = set(abandoned_scratch(root))
    return any(f not in gone and f != own and (f / _ALIVE).exists() for f in _scratch_folders(Path(root, SCRATCH)))


def remove_scratch(folders: Iterable[Path]) -> None:
    """Remove scratch folders, but for those that a living process holds."""
    for folder in folders:
        with _abandoned(folder) as gone:
            if gone:
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            os.rmdir(folder.parent)


def _scratch_folders(shared: str | os.PathLike[str]) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(shared) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Say whether no living process holds a scratch folder, and hold it meanwhile; one without its lock file is just
    being made."""
    try:
        handle = os.open(folder / _ALIVE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            gone = False
        else:
            gone = True
        yield gone
    finally:
        os.close(handle)


def _release(pid: int, alive: int, own: str, shared: str) -> None:
    if os.getpid() != pid:  # a forked child inherits the finalizer but not the folder
        return
    shutil.rmtree(own, ignore_errors=True)
    with suppress(OSError):
        os.close(alive)
    with suppress(OSError):
        os.rmdir(shared)
