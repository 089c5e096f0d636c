"""Named moments at which a test may kill the process, to prove that nothing is lost or doubled there.

Outside tests this is one look at an environment variable that is not set.
"""

from __future__ import annotations

import os
import signal
from typing import Literal, get_args

CrashPoint = Literal[
    "task-opened",
    "shard-written",
    "shard-placed",
    "receipt-written",
    "manifest-ready",
    "manifest-committed",
    "files-removed",
]
ReaderPoint = Literal["chunk-spooled", "chunk-journaled"]
"""Moments of the process that reads a stream: a chunk is in place, and it is in the journal."""
CRASH_POINTS: tuple[str, ...] = get_args(CrashPoint)
READER_POINTS: tuple[str, ...] = get_args(ReaderPoint)
VARIABLE = "FDF_TEST_CRASH_AT"
"""``<point>``, or ``<point>:<file>``: then only the first process that gets there dies; with ``#<n>`` behind the file
the nth, and with ``#0`` none, so that the file, which grows by a byte each time, tells how often. Several are joined by
commas."""


def reach(point: CrashPoint | ReaderPoint) -> None:
    """Kill this process with SIGKILL if the environment names this point."""
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return
    for one in asked.split(","):
        name, _, counter = one.partition(":")
        if name != point:
            continue
        path, _, number = counter.partition("#")
        if not path or _passed(path) == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def _passed(path: str) -> int:
    """Count this passage, and return its number among those of all processes."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, b".")
        # Appending is atomic, and leaves the position behind this process's own byte.
        return os.lseek(handle, 0, os.SEEK_CUR)
    finally:
        os.close(handle)
