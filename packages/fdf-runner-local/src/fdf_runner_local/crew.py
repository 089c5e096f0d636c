"""The driver's loop: hands tasks to workers, passes their events on, and replaces the ones that die.

One thread, one task in flight per worker, the next one drawn only when a worker is free. Where models go in turn a
worker may ask for several, so that models change once for all of them. Nothing here knows what a task does; what a
death means is the ledger's to say (`fdf.stage.blame`).
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from fdf.errors import FdfError, Problem
from fdf.plan.task import StageRef, Task
from fdf.stage.blame import Ledger
from fdf.stage.events import CancelToken, Emit, Event
from fdf_runner_local.asking import Desks
from fdf_runner_local.member import Death, Member, Stall
from fdf_runner_local.model import ModelMember, Models, Post, Posts
from fdf_runner_local.processes import End, Nursery
from fdf_runner_local.wire import (
    At,
    Crashed,
    DriverEnd,
    Failed,
    Finished,
    Happened,
    Infers,
    Report,
    Turns,
    Wants,
    Whereabouts,
)

TICK = 0.2
RINGS = 4096
SOON = 0.01
CANCEL_GRACE = 3.0
TEARDOWN_GRACE = 10.0


class Crew:
    """The workers of one run. `together`: one may have several tasks in hand where models go in turn."""

    def __init__(
        self,
        nursery: Nursery,
        *,
        size: int,
        memory_per_worker: int,
        stall_after: float,
        emit: Emit,
        ledger: Ledger | None = None,
        models: Models | None = None,
        together: bool = False,
        desks: Desks | None = None,
    ) -> None:
        self._nursery = nursery
        self._size = size
        self._memory_per_worker = memory_per_worker
        self._stall_after = stall_after
        self._emit = emit
        self._members: list[Member] = []
        self._models = models
        self._together = together and models is not None and models.in_turn
        self._most_together: int | None = None
        """How many tasks a worker may have in hand; None: as many as it asks for."""
        self._desks = desks
        self._drawn_all = False
        self._posts: Posts | None = None
        self._stage: StageRef | None = None
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._ledger = ledger or Ledger()
        self._again: deque[Task] = deque()
        self._next_round = 0.0

    def run(self, tasks: Iterable[Task | None], cancel: CancelToken) -> None:
        """Run every task; None among them: there is none at the moment, and will be.

        Raises what a task raised, StageFailed for one that keeps killing workers, `Cancelled`.
        """
        source = iter(tasks)
        try:
            self._run(source, cancel)
        except FdfError:
            self._wind_down(CANCEL_GRACE, cancel=True)
            raise
        self._wind_down(TEARDOWN_GRACE, cancel=False)

    def hold(self, posts: Posts, stage: StageRef, until: CancelToken) -> None:
        """Run no task, but keep processes for some of a stage's models at their posts, until told to end.

        Raises what loading them raised, and StageFailed where they keep dying before they do anything.
        """
        self._open(posts, stage)
        try:
            while not until.cancelled:
                self._turn()
        except FdfError:
            self._wind_down(CANCEL_GRACE, cancel=True)
            raise
        self._wind_down(TEARDOWN_GRACE, cancel=False)

    def wake(self) -> None:
        """Have it ask for a task at once, where there was none at the moment. Called from any thread."""
        with suppress(OSError):  # It has ended, or been rung for often enough.
            self._ring.send(b".", socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Kill every worker that is left; return when none lives."""
        self._selector.close()
        self._bell.close()
        self._ring.close()
        for member in self._members:
            member.line.close()
            self._nursery.kill(member.child)
        deadline = time.monotonic() + CANCEL_GRACE
        while self._members and time.monotonic() < deadline:
            ended = [end.child for end in self._nursery.ends()]
            self._members = [m for m in self._members if m.child not in ended]
            time.sleep(SOON)
        if self._members:
            self._nursery.close()
        if self._posts is not None:
            self._posts.close()

    def _run(self, source: Iterator[Task | None], cancel: CancelToken) -> None:
        while True:
            cancel.raise_if_cancelled()
            task = self._draw(source)
            if task is not None:
                self._give(task)
            elif self._drawn_all and not self._again and not self._busy():
                return
            self._turn(at_once=task is not None)

    def _draw(self, source: Iterator[Task | None]) -> Task | None:
        """Return the next task for which there is a worker: one to be tried again, else one from the source."""
        free = self._free()
        if not free and self._asking() is None:
            return None
        for again in self._again:
            if free or not self._ledger.attempt(again.key.location).takes_no_company:
                self._again.remove(again)
                return again
        if self._drawn_all:
            return None
        try:
            task = next(source)
        except StopIteration:
            self._drawn_all = True
            return None
        if task is not None and not free and self._ledger.attempt(task.key.location).takes_no_company:
            self._again.append(task)
            return None
        return task

    def _give(self, task: Task) -> None:
        if self._models is not None and self._posts is None:
            self._open(Posts(self._models), task.stage)
        member = next((m for m in self._members if self._idle(m)), None)
        if member is None:
            member = self._recruit() if self._free() else self._asking()
        assert member is not None
        member.run(task, self._ledger.attempt(task.key.location), self._desks)
        self._listen(member)

    def _open(self, posts: Posts, stage: StageRef) -> None:
        assert self._models is not None
        self._posts, self._stage = posts, stage
        self._desks = replace(posts.desks, together=self._together)
        for post in posts.all:
            self._man(post, self._models, stage)

    def _recruit(self) -> Member:
        child = self._nursery.start()
        return self._enlist(Member(child, DriverEnd(child.sock), stall_after=self._stall_after))

    def _man(self, post: Post, models: Models, stage: StageRef) -> None:
        """Start a process for some of the stage's models."""
        child = self._nursery.start()
        line = DriverEnd(child.sock)
        memory = models.memory_of(post.slot)
        member = ModelMember(child, line, stall_after=self._stall_after, post=post, memory=memory)
        self._enlist(member)
        member.serve(stage, models.threads)
        self._listen(member)

    def _enlist(self, member: Member) -> Member:
        self._members.append(member)
        self._selector.register(member.line, selectors.EVENT_READ, member)
        return member

    def _free(self) -> bool:
        workers = [m for m in self._members if not isinstance(m, ModelMember)]
        return len(workers) < self._size or any(self._idle(m) for m in workers)

    def _asking(self) -> Member | None:
        """Return the worker that has room for a task beside those in its hands; of several the one with the fewest."""
        most = self._most_together
        asking = [m for m in self._members if m.wants and m.tasks and not m.alone and m.line.open and not m.stopping]
        asking = [m for m in asking if most is None or len(m.tasks) < most]
        return min(asking, key=lambda m: len(m.tasks), default=None)

    def _busy(self) -> bool:
        return any(m.tasks for m in self._members)

    @staticmethod
    def _idle(member: Member) -> bool:
        return not isinstance(member, ModelMember) and not member.busy and member.line.open and not member.stopping

    def _turn(self, *, at_once: bool = False) -> None:
        """Hear what has happened, waiting for it a little, and look after the workers a few times a second."""
        dying = any(not m.line.open for m in self._members)
        wait = 0.0 if at_once else SOON if dying else TICK
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._bell:
                self._bell.recv(RINGS)
                continue
            member: Member = key.data
            member.line.flush()
            self._hear(member)
        for end in list(self._nursery.ends()):
            self._bury(end)
        if time.monotonic() >= self._next_round:
            self._next_round = time.monotonic() + TICK
            self._look_after_workers()

    def _listen(self, member: Member) -> None:
        """Have the selector watch for what this worker's socket is waited for."""
        if not member.line.open:
            with suppress(KeyError):
                self._selector.unregister(member.line)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if member.line.unsent else 0)
        if self._selector.get_key(member.line).events != events:
            self._selector.modify(member.line, events, member)

    def _hear(self, member: Member) -> None:
        for report in member.line.reports():
            self._take(member, report)
        self._listen(member)

    def _take(self, member: Member, report: Report) -> None:
        if isinstance(report, Whereabouts):
            self._report_stall(member, member.located(report.place))
            return
        member.progressed()
        if isinstance(report, Happened):
            if report.event.kind == "split_started" and report.event.split is not None:
                member.begun.add(report.event.split)
            self._emit(report.event)
        elif isinstance(report, At):
            member.crumb = report.crumb
        elif isinstance(member, ModelMember):
            self._take_of_model(member, report)
        else:
            self._take_of_worker(member, report)

    def _take_of_worker(self, member: Member, report: Report) -> None:
        if isinstance(report, Turns):
            member.turn = report.split
        elif isinstance(report, Wants):
            # Where another task is on its way to it, it will ask again.
            member.wants = report.beside == len(member.tasks)
        elif isinstance(report, Finished):
            self._finish(member, report)
        elif member.task is not None:
            if isinstance(report, Failed):
                raise report.error
            if isinstance(report, Crashed):
                raise _bug(f"split {member.task.name}", report)

    def _finish(self, member: Member, report: Finished) -> None:
        task = member.finished(report.split)
        if task is not None:
            self._ledger.done(task.key.location)
            if self._most_together is not None:
                self._most_together += 1

    @staticmethod
    def _take_of_model(member: ModelMember, report: Report) -> None:
        if isinstance(report, Infers):
            member.at = report
        elif isinstance(report, Failed):
            raise report.error
        elif isinstance(report, Crashed):
            raise _bug(f"the process of {member.post.name}", report)

    def _bury(self, end: End) -> None:
        member = next((m for m in self._members if m.child is end.child), None)
        if member is None:
            return
        try:
            self._hear(member)  # Its last words.
        finally:
            if member.line.open:
                self._selector.unregister(member.line)
            member.line.close()
            self._members.remove(member)
        if isinstance(member, ModelMember):
            self._replace(member, end.code)
        elif member.tasks and not member.stopping:
            self._retry(member, member.death(end.code))

    def _replace(self, member: ModelMember, code: int) -> None:
        """Start another process in the place of a model's that died; workers send it again what they wait for."""
        if member.stopping or self._models is None or self._stage is None:
            return
        death = member.death(code)
        member.post.mourn(death, member.at)
        self._warn(self._stage, f"the process of {member.post.name} died ({death.detail}) and is started again")
        self._man(member.post, self._models, self._stage)

    def _warn(self, stage: StageRef, message: str) -> None:
        self._emit(Event(kind="warning", stage=stage.name, data={"message": message}))

    def _retry(self, member: Member, death: Death) -> None:
        """Have every task that a dead worker had in hand run again, and say which of them is to blame.

        A worker has told which one it was at work on, and a fault is that one's. A kill or a lack of memory says
        nothing of one among several: then half as many are given from now on, and one more for each that is committed.
        """
        first, *others = member.tasks.values()
        begun = [first, *(t for t in others if t.key.location in member.begun)]
        blamed = begun if len(begun) == 1 else []
        if len(begun) > 1 and death.cause in ("killed", "memory"):
            self._most_together = max(1, len(begun) // 2)
        elif len(begun) > 1:
            blamed = [t for t in begun if t.key.location == member.turn]
        for task in member.tasks.values():
            self._again.append(task)
            if task in begun:
                self._retried(task, member, death, blamed=task in blamed)

    def _retried(self, task: Task, member: Member, death: Death, *, blamed: bool) -> None:
        location = task.key.location
        if blamed:
            cause, detail, at = death.cause, death.detail, member.crumb
            attempt = self._ledger.died(location, name=task.name, cause=cause, detail=detail, at=at)
        else:
            attempt = self._ledger.stood_by(location)
        self._emit(
            Event(
                kind="split_retried",
                stage=task.stage.name,
                split=location,
                data={
                    "name": task.name,
                    "cause": death.cause,
                    "detail": death.detail,
                    "worker": member.child.pid,
                    "attempt": attempt.number,
                },
            )
        )

    def _look_after_workers(self) -> None:
        for member in self._members:
            self._report_stall(member, member.stalled())
            if member.memory_over(self._memory_per_worker) is not None:
                self._nursery.kill(member.child)

    def _report_stall(self, member: Member, stall: Stall | None) -> None:
        if stall is None:
            return
        if isinstance(member, ModelMember) and member.at is not None and self._stage is not None:
            self._warn(
                self._stage,
                f"`{member.at.operator_id}` has been at {member.at.rows} rows for {stall.seconds:.0f} s: {stall.where}",
            )
        task = member.task
        if task is None:
            return
        self._emit(
            Event(
                kind="split_stalled",
                stage=task.stage.name,
                split=task.key.location,
                data={
                    "name": task.name,
                    "seconds": stall.seconds,
                    "worker": member.child.pid,
                    "where": stall.where,
                },
            )
        )

    def _wind_down(self, grace: float, *, cancel: bool) -> None:
        """Ask all workers to end, give them a moment, and pass over what goes wrong now: the outcome is known."""
        for member in self._members:
            if cancel:
                member.cancel()
            else:
                member.stop()
            self._listen(member)
        deadline = time.monotonic() + grace
        while self._members and time.monotonic() < deadline:
            try:
                self._turn()
            except FdfError:
                continue


def _bug(where: str, report: Crashed) -> FdfError:
    return FdfError(
        Problem(
            code="FDF901",
            message=f"a worker failed on {where}: {report.summary}\n\n{report.traceback.rstrip()}",
            help="this is a bug in FDF or in a plugin's source or sink; what was committed is safe",
        )
    )
