"""Turns Ctrl-C and SIGTERM into a polite stop: the first asks the run to end, a second one leaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from fdf.cli.failures import INTERRUPTED
from fdf.cli.screen import say

if TYPE_CHECKING:
    from fdf.stage.events import CancelToken

SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def cancelled_by_signals(cancel: CancelToken) -> Iterator[None]:
    """Set the token on SIGINT and SIGTERM while the block runs; only the main thread can listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        if cancel.cancelled:
            if sys.stderr.isatty():
                sys.stderr.write(SHOW_CURSOR)
                sys.stderr.flush()
            # What is committed is safe whenever a process dies, so nothing needs to be put in order first.
            os._exit(INTERRUPTED)
        cancel.cancel()
        say("stopping: nothing half-done will be committed; press Ctrl-C again to leave at once")

    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
