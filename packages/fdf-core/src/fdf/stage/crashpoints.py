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
CRASH_POINTS: tuple[str, ...] = get_args(CrashPoint)
VARIABLE = "FDF_TEST_CRASH_AT"
"""``<point>``, or ``<point>:<file>``: then only the process that can create the file dies, so that it happens once."""


def reach(point: CrashPoint) -> None:
    """Kill this process with SIGKILL if the environment names this point."""
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return
    name, _, once = asked.partition(":")
    if name != point:
        return
    if once:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
