"""One worker as the driver sees it: what it is doing, since when, and what it last said."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field, replace

import psutil

from fdf.plan.task import Task
from fdf.stage.blame import Attempt, Crumb, DeathCause
from fdf_runner_local.asking import Desks
from fdf_runner_local.processes import Child
from fdf_runner_local.wire import Cancel, DriverEnd, Run, Stop, WhereAreYou

FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT})
ANSWER_PATIENCE = 1.0


@dataclass(frozen=True, kw_only=True)
class Death:
    """Why a worker is gone, for the ledger and for people."""

    cause: DeathCause
    detail: str


@dataclass(frozen=True, kw_only=True)
class Stall:
    """A split that makes no progress: for how many seconds, and where its worker is."""

    seconds: float
    where: str


@dataclass(eq=False)
class Member:
    """A worker process, and the tasks that it has in hand: one, or several where models go in turn."""

    child: Child
    line: DriverEnd
    stall_after: float
    tasks: dict[str, Task] = field(default_factory=dict)
    """By the location of their splits, in the order in which they were given."""
    begun: set[str] = field(default_factory=set)
    """Which of them the worker has said it began."""
    alone: bool = False
    """Whether the task in hand takes no company."""
    wants: bool = False
    """Whether it has said that there is room for another."""
    turn: str = ""
    """Which of several it last said it was at work on."""
    crumb: Crumb | None = None
    stopping: bool = False
    _stages: set[str] = field(default_factory=set)
    _over_memory: str | None = None
    _heard: float = 0.0
    _next_stall: float = 0.0
    _asked: float | None = None

    @property
    def task(self) -> Task | None:
        """Return the task that it is at work on, as far as is known; None: none."""
        return self.tasks.get(self.turn) or next(iter(self.tasks.values()), None)

    @property
    def busy(self) -> bool:
        """Say whether it has something to do."""
        return bool(self.tasks)

    def run(self, task: Task, attempt: Attempt, desks: Desks | None = None) -> None:
        """Hand a task to the worker, beside those that it has; its stage goes along the first time."""
        stage = task.stage
        if stage.digest in self._stages:
            stage = replace(stage, payload=b"")
        self._stages.add(stage.digest)
        self.tasks[task.key.location] = task
        self.alone = attempt.takes_no_company
        self.wants, self.crumb = False, None
        self.progressed()
        self.line.send(Run(replace(task, stage=stage), attempt, desks))

    def finished(self, split: str) -> Task | None:
        """Note that a task is committed: the only one in hand, where no split is named. Return it."""
        location = split or next(iter(self.tasks), "")
        self.begun.discard(location)
        return self.tasks.pop(location, None)

    def progressed(self) -> None:
        """Note that the worker is getting on."""
        self._heard = time.monotonic()
        self._next_stall = self.stall_after
        self._asked = None

    def cancel(self) -> None:
        """Ask the worker to give its task up, and to end."""
        self.line.send(Cancel())
        self.stop()

    def stop(self) -> None:
        """Ask the worker to end after its task."""
        if not self.stopping:
            self.stopping = True
            self.line.send(Stop())

    def memory_limit(self, default: int) -> int:
        """Return how many bytes it may hold now."""
        return (self.task.resources.memory if self.task is not None else 0) or default

    def memory_over(self, default_limit: int) -> str | None:
        """Return in words by how much the worker is over its memory limit, once; None while it is within."""
        if not self.busy or self.child.pid is None or self._over_memory is not None:
            return None
        limit = self.memory_limit(default_limit)
        held = _memory_held(self.child.pid)
        if held <= limit:
            return None
        self._over_memory = f"memory limit of {_gib(limit)} (it held {_gib(held)})"
        return self._over_memory

    def stalled(self) -> Stall | None:
        """Return a stall when it is due: after `stall_after` seconds, then after twice, four times as long.

        The worker is asked first where it is; one that holds the interpreter locked cannot answer.
        """
        now = time.monotonic()
        silent = now - self._heard
        if self.child.pid is None:
            self.progressed()
        if not self.busy or silent < self._next_stall:
            return None
        if self._asked is None:
            self._asked = now
            self.line.send(WhereAreYou())
        elif now - self._asked >= ANSWER_PATIENCE:
            return self.located("unknown: it does not answer")
        return None

    def located(self, place: str) -> Stall | None:
        """Return the stall that the worker was asked about, with the place it told; None if it went on meanwhile."""
        if self._asked is None:
            return None
        silent = time.monotonic() - self._heard
        while self._next_stall <= silent:
            self._next_stall *= 2
        self._asked = None
        where = place if self.crumb is None else f"{place}, operator `{self.crumb.operator_id}`"
        return Stall(seconds=round(silent, 1), where=where)

    def death(self, code: int) -> Death:
        """Say what the worker died of, from its exit code."""
        if self._over_memory is not None:
            return Death(cause="memory", detail=self._over_memory)
        if code >= 0:
            return Death(cause="exit", detail=f"exit code {code}")
        cause: DeathCause = "fault" if -code in FAULTS else "killed"
        try:
            return Death(cause=cause, detail=signal.Signals(-code).name)
        except ValueError:
            return Death(cause=cause, detail=f"signal {-code}")


def _memory_held(pid: int) -> int:
    """Return the bytes that only this process keeps in memory. Pages of files can be dropped, so they do not count."""
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(info.rss - getattr(info, "shared", 0))


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB"
