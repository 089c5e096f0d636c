"""The process that workers are forked from: it has imported everything, has run nothing, and holds no thread of Python.

Forking is safe here, where it is not in the driver: the libraries were imported with one native thread each and never
used, so no lock of theirs is held. A worker starts in milliseconds and shares the memory of the imported code.

The driver speaks first: an order, and with START one end of the worker's socket. The zygote answers with the worker's
process id, and later with how it ended. When the driver is gone it kills every worker and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Sequence

ORDER = struct.Struct("!cI")
"""START (0) with a socket, or KILL (process id)."""
ANSWER = struct.Struct("!cIi")
"""STARTED (process id, 0), NOT_STARTED (0, errno) or ENDED (process id, exit code; minus the signal's number)."""
START, KILL = b"s", b"k"
STARTED, NOT_STARTED, ENDED = b"S", b"N", b"E"

PR_SET_PDEATHSIG = 1
LOOK_ROUND = 1.0


class Zygote:
    """Forks workers on order and reports their ends."""

    def __init__(self, control: socket.socket, *, device: str) -> None:
        self._control = control
        self._device = device
        self._driver = os.getppid()
        self._children: set[int] = set()
        self._bell, self._ringer = socket.socketpair()

    def serve(self) -> None:
        """Follow orders until the driver is gone."""
        self._bell.settimeout(0)
        self._ringer.settimeout(0)
        signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Unlike `select` it takes descriptors of any number, and unlike `epoll` it leaves nothing to share with forks.
        heard = selectors.PollSelector()
        heard.register(self._control, selectors.EVENT_READ)
        heard.register(self._bell, selectors.EVENT_READ)
        try:
            # A process that the driver forked may hold its socket open: the parent's id tells the driver's end too.
            while os.getppid() == self._driver:
                ready = [key.fileobj for key, _ in heard.select(LOOK_ROUND)]
                if self._bell in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._bell.recv(4096)
                    self._reap()
                if self._control in ready and not self._obey():
                    return
        except OSError:
            return  # The driver closed its socket while an answer was on its way.
        finally:
            for child in self._children:
                _kill_group(child)
            for child in self._children:
                os.waitpid(child, 0)

    def _obey(self) -> bool:
        data, sockets, _, _ = socket.recv_fds(self._control, ORDER.size, 1)
        if len(data) < ORDER.size:
            return False
        order, pid = ORDER.unpack(data)
        if order == KILL:
            if pid in self._children:
                _kill_group(pid)
            return True
        try:
            child = os.fork()
        except OSError as error:
            os.close(sockets[0])
            self._control.sendall(ANSWER.pack(NOT_STARTED, 0, error.errno or 0))
            return True
        if child == 0:
            self._become_worker(sockets[0])
        os.close(sockets[0])
        self._children.add(child)
        self._control.sendall(ANSWER.pack(STARTED, child, 0))
        return True

    def _reap(self) -> None:
        for child in list(self._children):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                self._children.discard(child)
                _kill_group(child)  # What the worker itself started.
                self._control.sendall(ANSWER.pack(ENDED, child, os.waitstatus_to_exitcode(status)))

    def _become_worker(self, descriptor: int) -> None:
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for held in (self._control, self._bell, self._ringer):
                held.close()
            os.setsid()
            _die_with_parent()
            from fdf_runner_local.worker import work

            code = work(socket.socket(fileno=descriptor), device=self._device)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 (nothing may return into the zygote's own loop)
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def main(descriptor: int, modules: Sequence[str], *, device: str) -> None:
    """Import what workers need, and these modules as far as they are installed; then fork workers on order."""
    import fdf_runner_local.worker  # noqa: F401 (before the forks)

    for module in modules:
        with contextlib.suppress(ImportError):  # The worker that needs it says so.
            importlib.import_module(module)
    # Python counts threads to warn of locks; the ones that the libraries keep sleep and hold none.
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
    gc.collect()
    gc.freeze()
    Zygote(socket.socket(fileno=descriptor), device=device).serve()


def _kill_group(pid: int) -> None:
    """Kill a worker and whatever it started. A worker that has not yet become a group's leader is killed alone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _die_with_parent() -> None:
    """Have the kernel kill this worker when the zygote ends, where it can. Elsewhere the worker's listener does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
