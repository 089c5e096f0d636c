"""Compiles loops with numba once per user and version, and lets every process load what was compiled.

Machine code is kept in the user's cache folder under a digest of everything that decides it: the module with the loop
and those of its package that it imports, Python, numba and the processor. So two checkouts of one version share it, and
none is stale. Importing this needs numba, which `fdf-core` does not depend on.
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


def folder(source: Path) -> Path:
    """Return where the machine code of a module's package is kept: `fdf-kernels`, `text-kernels`."""
    return cache_dir() / f"{_package(source).name.removeprefix('fdf_ops_')}-kernels"


@cache
def digest(source: Path) -> str:
    """Return a digest of a module with all that decides what its loops are compiled to."""
    package = _package(source)
    imports = re.compile(rf"^ *from {package.name}\.([\w.]+) import", re.MULTILINE)
    found: dict[Path, bytes] = {}
    ahead = [source]
    while ahead:
        module = ahead.pop()
        # How code is kept does not decide what it is.
        if module not in found and module != Path(__file__):
            found[module] = module.read_bytes()
            named = imports.findall(found[module].decode())
            ahead += [package.joinpath(*name.split(".")).with_suffix(".py") for name in named]
    digest = hashlib.sha256()
    for module in sorted(found):
        digest.update(module.name.encode() + found[module])
    processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    for part in (sys.version, numba.__version__, processor):
        digest.update(part.encode())
    return digest.hexdigest()[:16]


def _package(source: Path) -> Path:
    """Return the folder of the package that a module belongs to, at the top."""
    package = source.parent
    while (package.parent / "__init__.py").exists():
        package = package.parent
    return package


class VersionedFolder(numba.core.caching._CacheLocator):  # noqa: SLF001 (what numba's setting of locators asks for)
    """Tells numba to keep a module's machine code in a folder that a changed source leaves behind."""

    def __init__(self, function: Callable[..., Any], source: Path) -> None:
        self._line = function.__code__.co_firstlineno
        self._folder = folder(source)
        self._version = f"{source.stem}-{digest(source)}"

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> VersionedFolder:
        return cls(py_func, Path(py_file))

    def get_cache_path(self) -> str:
        return str(self._folder / self._version)

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
