"""The driver's loop: gives tasks to hosts on the cluster, passes their events on, and replaces hosts that are lost.

Hosts come as tasks wait and go when none do, within the run's bound. A task is drawn only when there is, or may be, a
host for it, and given only to a host that is there; so a cluster that is full or has lost nodes makes a run slower and
never stops it. What a lost host means for its task is the ledger's to say (`fdf.stage.blame`).
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

import fdf
from fdf.errors import FdfError, MissingDependency, Problem
from fdf.operator import Resources
from fdf.plan.task import Task
from fdf.stage.blame import Attempt, Ledger
from fdf.stage.events import CancelToken, Emit, Event
from fdf_runner_ray.autoscaler import offer, slots_to_come, to_come
from fdf_runner_ray.capacity import inventory, nodes, slots, words
from fdf_runner_ray.host import Done, Ended, Failed, Host, Introduction, News, Settings

TICK = 0.2
CANCEL_GRACE = 4.0
TEARDOWN_GRACE = 12.0
COUNT_ROUND = 2.0
WAITING_TOLD = 30.0
MOST_FAILED_STARTS = 20
CALLS_AT_A_TIME = 4
"""Of a host: news is awaited while tasks and stops come."""


@dataclass(eq=False)
class Slot:
    """One host as the driver sees it: what is awaited from it, and what it has in hand."""

    actor: Any
    awaited: Any
    """The introduction at first, then news after news."""
    introduction: Introduction | None = None
    given: Any = None
    """Whether the host could take the task: it may not know what the task is made of."""
    task: Task | None = None
    began: bool = False
    stopping: bool = False
    stages: set[str] = field(default_factory=set)

    @property
    def idle(self) -> bool:
        """Say whether it can take a task."""
        return self.introduction is not None and self.task is None and not self.stopping

    def give(self, task: Task, attempt: Attempt, payload: Any) -> None:
        """Hand a task over; the bytes of its stage, which lie in the object store, go along the first time."""
        digest = task.stage.digest
        bare = replace(task, stage=replace(task.stage, payload=b""))
        self.given = self.actor.give.remote(bare, attempt, None if digest in self.stages else payload)
        self.stages.add(digest)
        self.task, self.began = task, False

    def stop(self) -> None:
        """Ask it to end after its task."""
        if not self.stopping:
            self.stopping = True
            self.actor.stop.remote()

    def cancel(self) -> None:
        """Ask it to give its task up, and to end."""
        self.stopping = True
        self.actor.cancel.remote()


class Pool:
    """The hosts of one stage's run."""

    def __init__(self, settings: Settings, need: Resources, *, workers: int | None, emit: Emit) -> None:
        self._settings = settings
        self._need = need
        self._workers = workers
        self._emit = emit
        self._slots: list[Slot] = []
        self._ledger = Ledger()
        self._waiting: deque[Task] = deque()
        self._payloads: dict[str, Any] = {}
        self._bound = workers or 0
        self._next_count = 0.0
        self._failed_starts = 0
        self._alone_since: float | None = None
        self._next_told = WAITING_TOLD

    def run(self, tasks: Iterable[Task], cancel: CancelToken) -> None:
        """Run every task. Raises what a task raised, StageFailed for one that keeps losing hosts, `Cancelled`."""
        try:
            self._run(iter(tasks), cancel)
        except FdfError:
            for slot in list(self._slots):
                if slot.introduction is None:
                    self._dismiss(slot)
                else:
                    slot.cancel()
            self._wind_down(CANCEL_GRACE)
            raise
        for slot in list(self._slots):
            self._let_go(slot)
        self._wind_down(TEARDOWN_GRACE)

    def close(self) -> None:
        """Kill every host that is left."""
        while self._slots:
            self._dismiss(self._slots[-1])
        self._payloads.clear()

    def _run(self, source: Iterator[Task], cancel: CancelToken) -> None:
        drawn_all = False
        while True:
            cancel.raise_if_cancelled()
            self._count()
            busy = sum(slot.task is not None for slot in self._slots)
            while not drawn_all and len(self._waiting) < self._bound - busy:
                task = next(source, None)
                if task is None:
                    drawn_all = True
                else:
                    self._waiting.append(task)
            if drawn_all and not busy and not self._waiting:
                return
            self._give()
            self._resize(drawn_all=drawn_all)
            self._turn()

    def _count(self) -> None:
        """Look from time to time how many hosts the cluster can hold, where the run may use all of it.

        What its autoscaler could bring counts too, as hosts that wait for room are what makes it act.
        """
        if self._workers is None and time.monotonic() >= self._next_count:
            self._next_count = time.monotonic() + COUNT_ROUND
            self._bound = max(1, slots(nodes(), self._need) + slots_to_come(self._need))

    def _give(self) -> None:
        for slot in self._slots:
            if not self._waiting:
                return
            if slot.idle:
                task = self._waiting.popleft()
                payload = self._payloads.get(task.stage.digest)
                if payload is None:
                    payload = self._payloads[task.stage.digest] = ray.put(task.stage.payload)
                slot.give(task, self._ledger.attempt(task.key.location), payload)

    def _resize(self, *, drawn_all: bool) -> None:
        """Start a host for each task that waits for one, within the bound; let those go that no task will need."""
        coming = sum(slot.introduction is None for slot in self._slots)
        living = sum(not slot.stopping for slot in self._slots)
        for _ in range(min(len(self._waiting) - coming, self._bound - living)):
            self._recruit()
        if drawn_all:
            # Each host that still waits for room may make an autoscaler bring a node.
            for slot in [s for s in self._slots if s.introduction is None][len(self._waiting) :]:
                self._let_go(slot)
        if drawn_all and not self._waiting:
            for slot in [s for s in self._slots if s.task is None]:
                self._let_go(slot)
        self._tell_of_waiting()

    def _recruit(self) -> None:
        options: dict[str, Any] = {"num_cpus": self._need.cpus, "num_gpus": self._need.gpus}
        if self._need.memory:
            options["memory"] = self._need.memory
        actor: Any = (
            ray.remote(Host)
            .options(max_restarts=0, max_task_retries=0, max_concurrency=CALLS_AT_A_TIME, **options)
            .remote(self._settings)
        )
        self._slots.append(Slot(actor, actor.introduce.remote()))

    def _turn(self) -> None:
        """Hear what has happened on the cluster, waiting for it a little."""
        awaited = {ref: slot for slot in self._slots for ref in (slot.awaited, slot.given) if ref is not None}
        if not awaited:
            time.sleep(TICK)
            return
        if not ray.wait(list(awaited), num_returns=1, timeout=TICK)[0]:
            return
        arrived, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        for ref in arrived:
            if awaited[ref] in self._slots:
                self._hear(awaited[ref], ref)

    def _hear(self, slot: Slot, ref: Any) -> None:
        try:
            told = ray.get(ref)
        except RayActorError as error:
            self._bury(slot, error)
            return
        except RayTaskError as error:
            raise _not_taken(slot, error) from error
        if ref == slot.given:
            slot.given = None
            return
        slot.awaited = slot.actor.news.remote()
        if isinstance(told, Introduction):
            self._welcome(slot, told)
            return
        failure: FdfError | None = None
        for news in told:
            try:
                self._take(slot, news)
            except FdfError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _welcome(self, slot: Slot, introduction: Introduction) -> None:
        slot.introduction = introduction
        self._failed_starts = 0
        if introduction.version != fdf.__version__:
            raise MissingDependency(
                Problem(
                    code="FDF523",
                    message=f"node {introduction.node} has fdf-core {introduction.version}, and this driver has "
                    f"{fdf.__version__}",
                    help="install the same packages on every node",
                )
            )
        if not introduction.sees_mark:
            raise MissingDependency(
                Problem(
                    code="FDF524",
                    message=f"node {introduction.node} does not see the files that this driver writes to "
                    f"{Path(self._settings.mark or '').parent}",
                    help="write to a folder that all nodes share, or to an object store such as s3://",
                )
            )

    def _take(self, slot: Slot, news: News) -> None:
        task = slot.task
        if isinstance(news, Ended):
            self._dismiss(slot)
        elif isinstance(news, Failed):
            raise news.error if isinstance(news.error, FdfError) else _bug(slot, news.error)
        elif isinstance(news, Done):
            slot.task = None
            if task is not None:
                self._ledger.done(task.key.location)
        else:
            self._pass_on(slot, news)

    def _pass_on(self, slot: Slot, event: Event) -> None:
        if event.kind == "split_started":
            slot.began = True
        elif event.kind in ("split_retried", "split_stalled") and "worker" in event.data:
            if event.kind == "split_retried" and event.split is not None:
                # Its host knows what to do about it; should the host be lost too, the count goes on from here.
                self._ledger.begin_at(event.split, Attempt(number=event.data["attempt"]))
                slot.began = False
            node = slot.introduction.node if slot.introduction else None
            event = replace(event, data={**event.data, "node": node})
        self._emit(event)

    def _bury(self, slot: Slot, error: RayActorError) -> None:
        """A host is gone, with its node or alone; its task runs again on another."""
        self._dismiss(slot)  # Or it lives and cannot be reached: whatever it still commits is the same.
        if slot.introduction is None:
            self._failed_starts += 1
            if getattr(error, "actor_init_failed", False) or self._failed_starts > MOST_FAILED_STARTS:
                raise _cannot_start(error)
        if slot.task is None or slot.stopping:
            return
        task, detail = slot.task, _reason(error)
        location = task.key.location
        attempt = self._ledger.died(location, name=task.name, cause="killed", detail=detail, at=None)
        self._waiting.appendleft(task)
        if not slot.began:  # Nobody has heard of this attempt yet.
            return
        assert slot.introduction is not None
        data = {
            "name": task.name,
            "cause": "killed",
            "detail": detail,
            "worker": slot.introduction.pid,
            "attempt": attempt.number,
            "node": slot.introduction.node,
        }
        self._emit(Event(kind="split_retried", stage=task.stage.name, split=location, data=data))

    def _let_go(self, slot: Slot) -> None:
        """Have a host end in order. One that is not there yet may never come, and asks others for room meanwhile."""
        if slot.introduction is None:
            self._dismiss(slot)
        else:
            slot.stop()

    def _dismiss(self, slot: Slot) -> None:
        self._slots.remove(slot)
        ray.kill(slot.actor)

    def _tell_of_waiting(self) -> None:
        """Say now and then that the run has not a single host, as the cluster is full or has lost what it needs."""
        if any(slot.introduction is not None for slot in self._slots) or not self._waiting:
            self._alone_since, self._next_told = None, WAITING_TOLD
            return
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        if now - self._alone_since < self._next_told:
            return
        self._next_told *= 2
        self._emit(
            Event(
                kind="warning",
                stage=self._waiting[0].stage.name,
                data={
                    "message": f"waiting since {now - self._alone_since:.0f} s for a node of the Ray cluster that has "
                    f"{words(self._need)} free; it has {inventory(nodes())}{offer(to_come())}"
                },
            )
        )

    def _wind_down(self, grace: float) -> None:
        """Give all hosts a moment to end, and pass over what goes wrong now: the outcome is known."""
        deadline = time.monotonic() + grace
        while self._slots and time.monotonic() < deadline:
            try:
                self._turn()
            except FdfError:
                continue


def _reason(error: RayActorError) -> str:
    return "its node was lost" if "node has died" in str(error) else "its host process was killed"


def _not_taken(slot: Slot, error: RayTaskError) -> FdfError:
    # Ray passes the error of reading arguments on in words alone.
    missing = re.search(r"No module named '([^']+)'", str(error))
    if missing is not None and slot.introduction is not None:
        return MissingDependency(
            Problem(
                code="FDF525",
                message=f"node {slot.introduction.node} has no module `{missing[1]}`, which this run needs",
                help="install the packages that this driver has on every node",
            )
        )
    return _bug(slot, str(error))


def _cannot_start(error: RayActorError) -> MissingDependency:
    told = str(error).rstrip()
    return MissingDependency(
        Problem(
            code="FDF525",
            message=f"workers cannot be started on the cluster: {told.splitlines()[-1]}\n\n{told}",
            help="install fdf-runner-ray and the packages of your operators on every node, in the driver's versions",
        )
    )


def _bug(slot: Slot, trace: str) -> FdfError:
    name = slot.task.name if slot.task else "none"
    return FdfError(
        Problem(
            code="FDF901",
            message=f"a host on the cluster failed on split {name}: {trace.rstrip()}",
            help="this is a bug in FDF or in a plugin's source or sink; what was committed is safe",
        )
    )
