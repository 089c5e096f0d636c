"""Compiles kernels once per user and version, and lets every worker load what was compiled.

Machine code is kept below the user's cache folder under a digest of everything that decides it: the sources of all
kernels, Python, numba and the processor. So two checkouts of one version share it, and no kernel is ever stale.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import llvmlite.binding as llvm
import numba
import numba.core.caching
import numba.core.config

from fdf.stage.worker import cache_dir

Kernel: TypeAlias = Callable[..., Any]
HERE = Path(__file__).parent


@cache
def version() -> str:
    """Return the digest that names this version of all kernels on this kind of machine."""
    digest = hashlib.sha256()
    for source in sorted(HERE.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    for part in (sys.version, numba.__version__, processor):
        digest.update(part.encode())
    return digest.hexdigest()[:16]


def folder() -> Path:
    """Return where this version's machine code and tables are kept."""
    return cache_dir() / "text-kernels" / version()


class VersionedFolder(numba.core.caching._CacheLocator):  # noqa: SLF001 (what numba's setting of locators asks for)
    """Tells numba to keep machine code in `folder()`, which a changed source leaves behind."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], _py_file: str) -> VersionedFolder:
        return cls(py_func)

    def get_cache_path(self) -> str:
        return str(folder())

    def get_source_stamp(self) -> str:
        return version()

    def get_disambiguator(self) -> str:
        return str(self._line)


def kernel(function: Kernel) -> Kernel:
    """Compile a function on its first call, or load what an earlier process compiled; it runs without the GIL."""
    config: Any = numba.core.config
    before = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = f"{__name__}.{VersionedFolder.__name__}"
    try:
        compiled: Kernel = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
        return compiled
    finally:
        config.CACHE_LOCATOR_CLASSES = before


def inline(function: Kernel) -> Kernel:
    """Mark a function that kernels call: it is compiled into them."""
    compiled: Kernel = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


def compiled_once(name: str, run: Callable[[], object]) -> None:
    """Run what compiles kernels, and let no other process of this user compile the same at the same time.

    A mark in the folder says that all has been compiled: from then on nobody waits.
    """
    mark = folder() / f"{name}.compiled"
    if mark.exists():
        run()
        return
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("a") as lock:
        _lock(lock.fileno())
        run()
        mark.touch()


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

else:

    def _lock(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
