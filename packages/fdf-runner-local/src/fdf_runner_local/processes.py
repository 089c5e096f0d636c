"""How the driver starts, kills and buries worker processes: by a zygote that forks them, or each one from scratch."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from fdf.errors import MissingDependency, Problem
from fdf_runner_local.zygote import ANSWER, ENDED, KILL, NOT_STARTED, ORDER, START, STARTED

StartMethod = Literal["fork", "spawn"]

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
}
"""Native libraries read these when they are imported, so they are set before a worker's interpreter starts."""

# The driver's own search path comes first of all, so that FDF and the user's modules are found where the driver found
# them. The driver's main module is never run again: scripts without a guard, notebooks and `python -` all work.
_BEGIN = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
_ZYGOTE = _BEGIN + "from fdf_runner_local.zygote import main; main(int(sys.argv[1]), sys.argv[4:], device=sys.argv[3])"
_WORKER = _BEGIN + "from fdf_runner_local.worker import main; main(int(sys.argv[1]), device=sys.argv[3])"

CLOSE_PATIENCE = 5.0


@dataclass(eq=False)
class Child:
    """One worker process. `pid` is None until it has begun."""

    sock: socket.socket
    pid: int | None = None


@dataclass(frozen=True)
class End:
    """How a worker ended: its exit code, or minus the number of the signal that killed it."""

    child: Child
    code: int


class Nursery(Protocol):
    """Starts workers and knows how they ended."""

    def start(self) -> Child:
        """Start a worker. Does not wait for it."""

    def kill(self, child: Child) -> None:
        """Kill a worker and everything that it started."""

    def ends(self) -> Iterator[End]:
        """Yield the workers that have ended since the last call."""

    def close(self) -> None:
        """Kill every worker that still lives; return when none does."""


class SpawnNursery:
    """Starts each worker as a new interpreter: slower by its imports, and safe with libraries that cannot be forked."""

    def __init__(self, *, device: str) -> None:
        self._device = device
        self._processes: dict[Child, subprocess.Popen[bytes]] = {}

    def start(self) -> Child:
        """Start a worker. Does not wait for it."""
        ours, theirs = socket.socketpair()
        child = Child(ours)
        with theirs:
            process = self._processes[child] = _python(_WORKER, theirs, device=self._device)
        child.pid = process.pid
        return child

    def kill(self, child: Child) -> None:
        """Kill a worker and everything that it started."""
        process = self._processes.get(child)
        if process is not None and process.poll() is None:
            _kill_group(process)

    def ends(self) -> Iterator[End]:
        """Yield the workers that have ended since the last call."""
        for child, process in list(self._processes.items()):
            code = process.poll()
            if code is not None:
                del self._processes[child]
                yield End(child, code)

    def close(self) -> None:
        """Kill every worker that still lives; return when none does."""
        for process in self._processes.values():
            _kill_group(process)
        for process in self._processes.values():
            process.wait()
        self._processes.clear()


class ForkNursery:
    """Starts workers by a zygote (see `fdf_runner_local.zygote`), which is itself started when first needed.

    `preload` names modules that it imports for all of them, where they are installed.
    """

    def __init__(self, *, device: str) -> None:
        self.preload: tuple[str, ...] = ()
        self._device = device
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._answers = bytearray()
        self._starting: deque[Child] = deque()
        self._living: dict[int, Child] = {}
        self._ever_started = False

    def start(self) -> Child:
        """Start a worker. Does not wait for it."""
        control = self._control or self._conceive()
        ours, theirs = socket.socketpair()
        child = Child(ours)
        self._starting.append(child)
        # A zygote that has just died is found out by `ends`.
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(control, [ORDER.pack(START, 0)], [theirs.fileno()])
        return child

    def kill(self, child: Child) -> None:
        """Kill a worker and everything that it started."""
        if child.pid in self._living and self._control is not None:
            with contextlib.suppress(OSError):
                self._control.sendall(ORDER.pack(KILL, child.pid))

    def ends(self) -> Iterator[End]:
        """Yield the workers that have ended since the last call."""
        if self._control is None:
            return
        alive = True
        try:
            data = self._control.recv(1 << 16, socket.MSG_DONTWAIT)
            self._answers += data
            alive = bool(data)
        except BlockingIOError:
            pass  # Nothing new.
        except OSError:
            alive = False
        whole = len(self._answers) - len(self._answers) % ANSWER.size
        answers = list(ANSWER.iter_unpack(self._answers[:whole]))
        del self._answers[:whole]
        for kind, pid, code in answers:
            if kind == ENDED:
                yield End(self._living.pop(pid), code)
                continue
            child = self._starting.popleft()
            if kind == NOT_STARTED:
                raise _cannot_start(os.strerror(code))
            assert kind == STARTED
            self._ever_started = True
            child.pid = pid
            self._living[pid] = child
        if not alive:
            yield from self._lost()

    def close(self) -> None:
        """Kill every worker that still lives; return when none does."""
        if self._zygote is None or self._control is None:
            return
        self._control.close()  # The zygote sees this, kills its workers and ends.
        try:
            self._zygote.wait(CLOSE_PATIENCE)
        except subprocess.TimeoutExpired:
            _kill_group(self._zygote)
            self._zygote.wait()
        self._zygote = self._control = None
        self._answers.clear()
        self._starting.clear()
        self._living.clear()

    def _conceive(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._zygote = _python(_ZYGOTE, theirs, *self.preload, device=self._device)
        self._control = ours
        return ours

    def _lost(self) -> Iterator[End]:
        """The zygote has died, and its workers with it. The next worker gets a new one."""
        assert self._zygote is not None
        code = self._zygote.wait()
        orphans = [*self._living.values(), *self._starting]
        self.close()
        if not self._ever_started:
            raise _cannot_start(f"their interpreter ended with code {code}; its words are above")
        for child in orphans:
            yield End(child, -signal.SIGKILL)


def _python(program: str, theirs: socket.socket, *modules: str, device: str) -> subprocess.Popen[bytes]:
    """Start an interpreter in a session of its own, so that Ctrl-C in the terminal reaches the driver alone."""
    environment: Mapping[str, str] = {**os.environ, **ONE_THREAD}
    path = json.dumps([str(entry) for entry in sys.path])
    try:
        return subprocess.Popen(  # noqa: S603 (our own program)
            [sys.executable, "-c", program, str(theirs.fileno()), path, device, *modules],
            stdin=subprocess.DEVNULL,
            stdout=2,  # The driver's stdout carries data; what an operator prints goes beside it.
            pass_fds=(theirs.fileno(),),
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise _cannot_start(str(error)) from error


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _cannot_start(why: str) -> MissingDependency:
    return MissingDependency(
        Problem(
            code="FDF510",
            message=f"worker processes cannot be started with {sys.executable}: {why}",
            help="run `fdf doctor`, or run in one process with `--runner serial`",
        )
    )
