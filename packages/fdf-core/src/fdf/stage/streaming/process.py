"""Starts the process that reads a stream, hears what it announces, and ends it.

It is a fresh interpreter that runs FDF's own module: the user's main module is never run again, so that scripts without
a guard and notebooks work.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Pipe
from threading import Lock
from typing import TYPE_CHECKING

from fdf.errors import MissingDependency
from fdf.plan.task import by_value

if TYPE_CHECKING:
    from fdf.stage.streaming.reader import News, Order
    from fdf.stage.streaming.spool import Entry

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from fdf.stage.streaming.reader import main; main(int(sys.argv[1]))"
)
_PATIENCE = 3.0
"""Seconds that a reader has to end by itself when the driver hangs up."""


class ReaderEnded(Exception):
    """A reader is gone without a word of why."""


class ReaderProcess:
    """A reader, begun at once."""

    def __init__(self, order: Order) -> None:
        self._line, theirs = Pipe()
        self._lock = Lock()
        path = json.dumps([str(entry) for entry in sys.path])
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 (our own program)
                    [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), path],
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # The driver's stdout carries data; what a stream prints goes beside it.
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C in the terminal reaches the driver alone.
                )
            except OSError as error:
                self._line.close()
                raise MissingDependency(
                    f"the process that reads a stream cannot be started with {sys.executable}: {error}",
                    help="fdf doctor",
                ) from error
        with contextlib.suppress(OSError):  # It has died already: `hear` tells.
            self._line.send_bytes(by_value(order))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def hear(self) -> Entry:
        """Return the next chunk, or the end, when it is in the journal. Raises what the reader failed of, ReaderEnded
        where it is gone."""
        try:
            news: News = self._line.recv()
        except (EOFError, OSError) as error:
            self.close()
            code = self._process.returncode
            raise ReaderEnded(f"by signal {-code}" if code < 0 else f"with exit code {code}") from error
        if news[0] == "failed":
            raise news[1]
        return news[1]

    def allow_one(self) -> None:
        """Let it make one chunk more."""
        with contextlib.suppress(OSError):
            self._line.send_bytes(b"+")

    def close(self) -> None:
        """Hang up, and return when it is gone, with everything that it started."""
        with self._lock:
            if self._process.returncode is not None:
                return
            self._hang_up()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._kill()
                self._process.wait()
            self._kill()

    def _hang_up(self) -> None:
        # Closing alone would not wake a thread that is listening, nor tell the other end.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._line.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
