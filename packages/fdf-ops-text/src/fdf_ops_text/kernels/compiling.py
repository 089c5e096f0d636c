"""Compiles this package's kernels once per user and version, one process at a time (see `fdf.compiling`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fdf import compiling
from fdf.compiling import digest, inline, kernel, subroutine

__all__ = ["compiled_once", "digest", "folder", "inline", "kernel", "subroutine"]


def folder() -> Path:
    """Return where machine code and tables are kept."""
    return compiling.folder(Path(__file__))


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
