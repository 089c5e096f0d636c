"""The driver's loop: gives tasks to hosts on the cluster, passes their events on, and replaces hosts that are lost.

Hosts come as tasks wait and go when none do, within the run's bound. A task is drawn only when there is, or may be, a
host for it, and given only to a host that has said it has room; so a cluster that is full or has lost nodes makes a run
slower and never stops it. What a lost host means for its task is the ledger's to say (`fdf.stage.blame`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

import fdf
from fdf.errors import FdfError, MissingDependency, Problem
from fdf.plan.task import StageRef, Task
from fdf.stage.blame import Attempt, Ledger
from fdf.stage.events import CancelToken, Emit, Event
from fdf_runner_ray.autoscaler import brought, offer, to_come
from fdf_runner_ray.capacity import inventory, nodes, words
from fdf_runner_ray.contacts import Contact, HostContact, ModelContact, located
from fdf_runner_ray.failures import bug, cannot_start, not_taken, reason
from fdf_runner_ray.host import Host
from fdf_runner_ray.layout import Layout
from fdf_runner_ray.models import ModelPools
from fdf_runner_ray.scaling import Load
from fdf_runner_ray.station import Done, Ended, Failed, Introduction, News, Ready, Settings, Wants

TICK = 0.2
CANCEL_GRACE = 4.0
TEARDOWN_GRACE = 12.0
LEAVE_GRACE = 1.0
COUNT_ROUND = 2.0
ROOM_PATIENCE = 10.0
WAITING_TOLD = 30.0
MOST_FAILED_STARTS = 20
CALLS_AT_A_TIME = 4
"""Of a host: news is awaited while tasks and stops come."""


class Pool:
    """The hosts of one stage's run, and the actors that hold its models."""

    def __init__(self, settings: Settings, layout: Layout, *, workers: int | None, emit: Emit) -> None:
        self._settings = settings
        self._layout = layout
        self._workers = workers
        self._emit = emit
        self._hosts: list[HostContact] = []
        self._models = ModelPools(layout, settings, workers=workers)
        self._ledger = Ledger()
        self._stage: StageRef | None = None
        self._waiting: deque[Task] = deque()
        self._payloads: dict[str, Any] = {}
        self._bound = self._fitting = workers or 0
        self._next_count = 0.0
        self._failed_starts = 0
        self._crowded_since: float | None = None
        self._alone_since: float | None = None
        self._next_told = WAITING_TOLD

    def run(self, tasks: Iterable[Task], cancel: CancelToken) -> None:
        """Run every task. Raises what a task raised, StageFailed for one that keeps losing hosts, `Cancelled`."""
        try:
            self._run(iter(tasks), cancel)
        except FdfError:
            self._end(self._models.members)
            for host in list(self._hosts):
                if host.introduction is None:
                    self._dismiss(host)
                else:
                    host.cancel()
            self._wind_down(CANCEL_GRACE)
            raise
        for contact in self._contacts():
            self._let_go(contact)
        self._wind_down(TEARDOWN_GRACE)

    def close(self) -> None:
        """Kill every actor that is left."""
        self._end(self._contacts())
        self._payloads.clear()

    def _contacts(self) -> list[Contact]:
        return [*self._hosts, *self._models.members]

    def _run(self, source: Iterator[Task], cancel: CancelToken) -> None:
        drawn_all = False
        while True:
            cancel.raise_if_cancelled()
            self._count()
            busy = any(host.tasks for host in self._hosts)
            while not drawn_all and len(self._waiting) < self._room():
                task = next(source, None)
                if task is None:
                    drawn_all = True
                else:
                    self._stage = task.stage
                    self._waiting.append(task)
            if drawn_all and not busy and not self._waiting:
                return
            self._place_models()
            self._give()
            self._resize(drawn_all=drawn_all)
            self._turn()

    def _count(self) -> None:
        """Look from time to time how much the cluster can hold, where the run may use all of it.

        What its autoscaler could bring counts too, as actors that wait for room are what makes it act.
        """
        if time.monotonic() < self._next_count:
            return
        self._next_count = time.monotonic() + COUNT_ROUND
        there = nodes()
        self._fitting = self._layout.workers_on(there)
        self._bound = self._workers or self._layout.workers_on([*there, *brought()])
        self._models.bound(there, brought())

    def _room(self) -> int:
        """Return how many tasks hosts can take, those that are to come and those that may be started included."""
        there = [host for host in self._hosts if not host.stopping]
        taking = sum(host.open or not host.tasks for host in there)
        return taking + max(0, self._bound - len(there))

    def _place_models(self) -> None:
        """Start the actors that hold models before any host takes their room; then as many as requests need."""
        if self._settings.elsewhere and not self._models.begun and self._stage is not None:
            self._models.begin(self._stage, self._payload(self._stage))
        self._models.look()
        if self._models.changed:
            self._models.changed = False
            table = self._models.table()
            for host in self._hosts:
                if host.introduction is not None:
                    host.know(table)

    def _payload(self, stage: StageRef) -> Any:
        if stage.digest not in self._payloads:
            self._payloads[stage.digest] = ray.put(stage.payload)
        return self._payloads[stage.digest]

    def _give(self) -> None:
        for host in self._hosts:
            if not self._waiting:
                return
            if host.open:
                task = self._waiting.popleft()
                host.give(task, self._ledger.attempt(task.key.location), self._payload(task.stage))

    def _resize(self, *, drawn_all: bool) -> None:
        """Start a host for each task that waits for one, within the bound; let those go that no task will need.

        None is started while a model has no actor, so that this finds room first.
        """
        self._make_room()
        coming = sum(not (host.tasks or host.wants or host.stopping) for host in self._hosts)
        living = sum(not host.stopping for host in self._hosts)
        if not self._models.wants_room:
            for _ in range(min(len(self._waiting) - coming, self._bound - living)):
                self._recruit()
        if drawn_all:
            # Each host that still waits for room may make an autoscaler bring a node.
            for host in [h for h in self._hosts if h.introduction is None][len(self._waiting) :]:
                self._let_go(host)
        if drawn_all and not self._waiting:
            for host in [h for h in self._hosts if not h.tasks]:
                self._let_go(host)
        self._tell_of_waiting()

    def _make_room(self) -> None:
        """Give up hosts beyond those that fit beside the models, where one of these finds no room.

        Nodes that were lost may have held it; and the hosts would wait for it, and it for them.
        """
        now = time.monotonic()
        if not self._models.wants_room:
            self._crowded_since = None
            return
        self._crowded_since = self._crowded_since or now
        there = [host for host in self._hosts if host.introduction is not None]
        if now - self._crowded_since < ROOM_PATIENCE or len(there) <= self._fitting:
            return
        self._crowded_since = now
        host = there[-1]
        self._end([host])
        if not host.stopping:
            self._waiting.extendleft(reversed(host.tasks.values()))

    def _recruit(self) -> None:
        options: dict[str, Any] = {"num_cpus": self._layout.worker.cpus, "num_gpus": self._layout.worker.gpus}
        if self._layout.worker.memory:
            options["memory"] = self._layout.worker.memory
        actor: Any = (
            ray.remote(Host)
            .options(max_restarts=0, max_task_retries=0, max_concurrency=CALLS_AT_A_TIME, **options)
            .remote(self._settings)
        )
        self._hosts.append(HostContact(actor, actor.introduce.remote()))

    def _turn(self) -> None:
        """Hear what has happened on the cluster, waiting for it a little."""
        awaited = {ref: contact for contact in self._contacts() for ref in contact.refs}
        if not awaited:
            time.sleep(TICK)
            return
        if not ray.wait(list(awaited), num_returns=1, timeout=TICK)[0]:
            return
        arrived, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        for ref in arrived:
            if awaited[ref] in self._contacts():
                self._hear(awaited[ref], ref)

    def _hear(self, contact: Contact, ref: Any) -> None:
        try:
            told = ray.get(ref)
        except RayTaskError as error:
            raise not_taken(contact, error) from error
        except RayError as error:  # The actor, its node, or what it said on the way here.
            self._bury(contact, error)
            return
        if isinstance(contact, HostContact) and ref in contact.given:
            contact.given.remove(ref)
            return
        contact.awaited = contact.actor.news.remote()
        if isinstance(told, Introduction):
            self._welcome(contact, told)
            return
        failure: FdfError | None = None
        for news in told:
            try:
                self._take(contact, news)
            except FdfError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _welcome(self, contact: Contact, introduction: Introduction) -> None:
        contact.introduction = introduction
        self._failed_starts = 0
        if isinstance(contact, HostContact):
            contact.know(self._models.table())
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

    def _take(self, contact: Contact, news: News) -> None:
        if isinstance(news, Ended):
            self._dismiss(contact)
        elif isinstance(news, Failed):
            raise news.error if isinstance(news.error, FdfError) else bug(contact, news.error)
        elif isinstance(contact, ModelContact):
            self._take_of_models(contact, news)
        elif isinstance(contact, HostContact):
            self._take_of_host(contact, news)

    def _take_of_models(self, member: ModelContact, news: News) -> None:
        if isinstance(news, Ready):
            self._models.is_ready(member)
        elif isinstance(news, Load):
            member.load = news
        elif isinstance(news, Event):
            self._emit(located(news, member))

    def _take_of_host(self, host: HostContact, news: News) -> None:
        if isinstance(news, Wants):
            host.wants = True
        elif isinstance(news, Done):
            host.finished(news.split)
            self._ledger.done(news.split)
        elif isinstance(news, Event):
            self._pass_on(host, news)

    def _pass_on(self, host: HostContact, event: Event) -> None:
        if event.kind == "split_started" and event.split is not None:
            host.begun.add(event.split)
        elif event.kind in ("split_retried", "split_stalled") and "worker" in event.data:
            if event.kind == "split_retried" and event.split is not None:
                # Its host knows what to do about it; should the host be lost too, the count goes on from here.
                self._ledger.begin_at(event.split, Attempt(number=event.data["attempt"]))
                host.begun.discard(event.split)
            event = located(event, host)
        self._emit(event)

    def _bury(self, contact: Contact, error: RayError) -> None:
        """An actor is gone, with its node or alone."""
        if contact.introduction is None:
            self._failed_starts += 1
            if getattr(error, "actor_init_failed", False) or self._failed_starts > MOST_FAILED_STARTS:
                self._dismiss(contact)
                raise cannot_start(error)
        if isinstance(contact, ModelContact):
            contact.dismiss()
            self._models.lost(contact)
            self._tell_of_lost_model(contact, error)
        elif isinstance(contact, HostContact):
            self._dismiss(contact)  # Or it lives and cannot be reached: whatever it still commits is the same.
            self._retry(contact, error)

    def _tell_of_lost_model(self, member: ModelContact, error: RayError) -> None:
        if member.introduction is None or member.stopping:
            return
        self._warn(f"an actor of models was lost ({reason(error)}) and is started again", at=member)

    def _warn(self, message: str, *, at: Contact | None = None) -> None:
        event = Event(kind="warning", stage=self._stage.name if self._stage else None, data={"message": message})
        self._emit(event if at is None else located(event, at))

    def _retry(self, host: HostContact, error: RayError) -> None:
        """A host is gone; its tasks run again on others."""
        if host.stopping:
            return
        self._waiting.extendleft(reversed(host.tasks.values()))
        begun = [task for location, task in host.tasks.items() if location in host.begun]
        for task in host.tasks.values() if len(host.tasks) == 1 else begun:
            location, detail = task.key.location, reason(error)
            if len(begun) > 1:
                attempt = self._ledger.stood_by(location)
            else:
                attempt = self._ledger.died(location, name=task.name, cause="killed", detail=detail, at=None)
            if task not in begun:  # Nobody has heard of this attempt yet.
                continue
            assert host.introduction is not None
            data = {
                "name": task.name,
                "cause": "killed",
                "detail": detail,
                "worker": host.introduction.pid,
                "attempt": attempt.number,
            }
            self._emit(located(Event(kind="split_retried", stage=task.stage.name, split=location, data=data), host))

    def _let_go(self, contact: Contact) -> None:
        """Have an actor end in order. One that is not there yet may never come, and asks others for room meanwhile."""
        if contact.introduction is None:
            self._dismiss(contact)
        else:
            contact.stop()

    def _end(self, contacts: Sequence[Contact]) -> None:
        """Kill actors, after a moment in which they remove their folders."""
        left = [contact.actor.leave.remote() for contact in contacts if contact.introduction is not None]
        if left:
            ray.wait(left, num_returns=len(left), timeout=LEAVE_GRACE)
        for contact in contacts:
            self._dismiss(contact)

    def _dismiss(self, contact: Contact) -> None:
        if isinstance(contact, HostContact):
            self._hosts.remove(contact)
        elif isinstance(contact, ModelContact):
            self._models.forget(contact)
        contact.dismiss()

    def _tell_of_waiting(self) -> None:
        """Say now and then what the run has not a single one of, as the cluster is full or has lost what it needs."""
        alone = self._waiting and not any(host.introduction is not None for host in self._hosts)
        need = self._models.awaited() or (self._layout.worker if alone else None)
        if need is None:
            self._alone_since, self._next_told = None, WAITING_TOLD
            return
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        if now - self._alone_since < self._next_told:
            return
        self._next_told *= 2
        self._warn(
            f"waiting since {now - self._alone_since:.0f} s for a node of the Ray cluster that has {words(need)} free; "
            f"it has {inventory(nodes())}{offer(to_come())}"
        )

    def _wind_down(self, grace: float) -> None:
        """Give all actors a moment to end, and pass over what goes wrong now: the outcome is known."""
        deadline = time.monotonic() + grace
        while self._contacts() and time.monotonic() < deadline:
            try:
                self._turn()
            except FdfError:
                continue
