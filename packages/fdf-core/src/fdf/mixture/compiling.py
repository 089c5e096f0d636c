"""Compiles the scheduler's loop once per user and version, into the folder of what is dear to make again."""

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

from fdf.operator import cache_dir

Kernel: TypeAlias = Callable[..., Any]
SOURCES = ("columns.py", "compiled.py")


@cache
def version() -> str:
    """Return a digest of all that decides what machine code comes of the loop."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    for part in (sys.version, numba.__version__, processor):
        digest.update(part.encode())
    return f"mixture-{digest.hexdigest()[:16]}"


class VersionedFolder(numba.core.caching._CacheLocator):  # noqa: SLF001 (what numba's setting of locators asks for)
    """Tells numba to keep machine code in a folder that a changed source leaves behind."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> VersionedFolder:  # noqa: ARG003 (numba's)
        return cls(py_func)

    def get_cache_path(self) -> str:
        return str(cache_dir() / "core-kernels" / version())

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
    """Mark a short function that becomes a part of what calls it."""
    compiled: Kernel = numba.njit(nogil=True, error_model="numpy", forceinline=True)(function)
    return compiled


def subroutine(function: Kernel) -> Kernel:
    """Mark a function that kernels call."""
    compiled: Kernel = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled
