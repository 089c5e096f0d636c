"""Compiles kernels once per user and version, and lets every worker load what was compiled.

Machine code is kept in the user's cache folder under a digest of everything that decides it: the kernel's module and
those that it imports, Python, numba and the processor. So two checkouts of one version share it, and none is stale.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import llvmlite.binding as llvm
import numba
import numba.core.caching
import numba.core.config

from fdf.operator import cache_dir

Kernel: TypeAlias = Callable[..., Any]
PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(r"^ *from fdf_ops_text\.([\w.]+) import", re.MULTILINE)


def folder() -> Path:
    """Return where machine code and tables are kept."""
    return cache_dir() / "text-kernels"


@cache
def digest(source: Path) -> str:
    """Return a digest of a module of this package with all that decides what its kernels are compiled to."""
    found: dict[Path, bytes] = {}
    ahead = [source]
    while ahead:
        module = ahead.pop()
        if module not in found:
            found[module] = module.read_bytes()
            named = _IMPORT.findall(found[module].decode())
            ahead += [PACKAGE.joinpath(*name.split(".")).with_suffix(".py") for name in named]
    digest = hashlib.sha256()
    for module in sorted(found):
        digest.update(module.name.encode() + found[module])
    processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    for part in (sys.version, numba.__version__, processor):
        digest.update(part.encode())
    return digest.hexdigest()[:16]


class VersionedFolder(numba.core.caching._CacheLocator):  # noqa: SLF001 (what numba's setting of locators asks for)
    """Tells numba to keep a module's machine code in a folder that a changed source leaves behind."""

    def __init__(self, function: Callable[..., Any], source: Path) -> None:
        self._line = function.__code__.co_firstlineno
        self._version = f"{source.stem}-{digest(source)}"

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> VersionedFolder:
        return cls(py_func, Path(py_file))

    def get_cache_path(self) -> str:
        return str(folder() / self._version)

    def get_source_stamp(self) -> str:
        return self._version

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


def subroutine(function: Kernel) -> Kernel:
    """Mark a function that kernels call."""
    compiled: Kernel = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


def inline(function: Kernel) -> Kernel:
    """Mark a short function that becomes a part of the kernels that use it: calling it would cost more than it does."""
    compiled: Kernel = numba.njit(nogil=True, error_model="numpy", forceinline=True)(function)
    return compiled


def compiled_once(operator: type, run: Callable[[], object], *, variant: str = "") -> None:
    """Run what compiles an operator's kernels, and let no other process of this user compile at the same time.

    `variant` tells apart what the operator's parameters make of it, where they decide which kernels it needs.

    A mark in the folder says that all has been compiled: from then on nobody waits.
    """
    source = Path(sys.modules[operator.__module__].__file__ or "")
    mark = folder() / f"{operator.__name__}{variant}-{digest(source)}.compiled"
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
