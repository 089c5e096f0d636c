"""What runs tasks, wherever it is: sets operators up once per stage, then reads, runs and commits split after split."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from fdf.errors import MissingDependency, StageFailed, TransientError
from fdf.models.batching import BatchSize
from fdf.operator import VERBS
from fdf.plan.job import StageJob, Step
from fdf.plan.task import StageRef, Task
from fdf.stage.ahead import Ahead, Elsewhere
from fdf.stage.attempts import FIRST_PAUSE, TRANSIENT_TRIES, Caller
from fdf.stage.blame import Attempt, Crumb
from fdf.stage.committing import commit_task
from fdf.stage.events import CancelToken, Emit, Event, EventKind
from fdf.stage.readers import Readers
from fdf.stage.reading import open_task
from fdf.stage.receipt import Receipt
from fdf.stage.segment import Parcel, run_parcel, run_segment
from fdf.stage.setup import device_of, set_up, tear_down
from fdf.stage.together import Coming, Together, UnderWay
from fdf.storage import open_store
from fdf.storage.base import Store
from fdf.storage.failures import told_as_failure
from fdf.storage.retry import gave_up

PROGRESS_EVERY = 0.5


@dataclass(kw_only=True)
class Held:
    """What a worker keeps from split to split of a stage: batch sizes by operator, and models in other processes."""

    sizes: dict[str, BatchSize] = field(default_factory=dict)
    fits: dict[str, int] = field(default_factory=dict)
    ahead: Ahead | None = None
    elsewhere: set[str] = field(default_factory=set)


class Worker:
    """Runs tasks one after the other in this process; `elsewhere` has the models that other processes hold."""

    def __init__(self, *, device: str = "auto", elsewhere: Elsewhere | None = None) -> None:
        self._device = device
        self._elsewhere = elsewhere
        self._held = Held()
        self._digest: str | None = None
        self._job: StageJob | None = None
        self._store: Store | None = None
        self._ready: list[str] = []
        self._readers = Readers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        task: Task,
        *,
        emit: Emit,
        cancel: CancelToken,
        attempt: Attempt = Attempt(),  # noqa: B008 (frozen)
        at: Callable[[Crumb], None] | None = None,
    ) -> None:
        """Bring a task to its receipt. Raises an FdfError for what the run cannot survive, `Cancelled` when asked."""
        job, store = self._prepare(task.stage)
        say = _sayer(task, job, emit)
        say("split_started", attempt=attempt.number)
        pause = FIRST_PAUSE
        for remaining in reversed(range(TRANSIENT_TRIES)):
            try:
                with _told(task, job):
                    receipt = run_split(
                        task,
                        job,
                        store,
                        emit=emit,
                        cancel=cancel,
                        attempt=attempt,
                        at=at,
                        readers=self._readers,
                        held=self._held,
                    )
                break
            except TransientError as error:
                if not remaining or gave_up(error):
                    raise _did_not_pass(task, job, error) from error
                say("split_retried", cause=str(error))
                if cancel.wait(pause):
                    cancel.raise_if_cancelled()
                pause *= 2
        say("split_committed", **summary(receipt))

    def run_together(
        self,
        task: Task,
        attempt: Attempt,
        coming: Coming,
        *,
        emit: Emit,
        cancel: CancelToken,
        at: Callable[[str], None],
        done: Callable[[Task], None],
    ) -> None:
        """Bring a task to its receipt and, beside it, those that come meanwhile (`fdf.stage.together`).

        `at` is told which split is worked on, by its location, and `done` each that is committed. None of them may be
        careful: it has the worker to itself (`run`). Raises what `run` raises.
        """
        job, store = self._prepare(task.stage)
        ahead = self._held.ahead
        assert ahead is not None

        def begin(task: Task, attempt: Attempt) -> UnderWay:
            _sayer(task, job, emit)("split_started", attempt=attempt.number)
            opened = open_task(task, job, readers=self._readers)
            caller = _caller(attempt, None, self._held, ahead)
            return UnderWay(
                task=task,
                attempt=attempt,
                opened=opened,
                parcels=_watched(opened.parcels, task, job, emit, cancel),
                work=lambda parcel: run_parcel(job.steps, parcel, caller),
            )

        def commit(split: UnderWay, parcels: Iterator[Parcel]) -> None:
            say = _sayer(split.task, job, emit)
            try:
                with _told(split.task, job):
                    receipt = commit_task(
                        split.task, job, parcels, store, opened=split.opened, attempts=split.attempt.number
                    )
            except TransientError as error:
                if gave_up(error):
                    raise _did_not_pass(split.task, job, error) from error
                say("split_retried", cause=str(error))
                raise
            say("split_committed", **summary(receipt))
            done(split.task)

        first = _First(task, attempt, coming)
        together = Together(first, ahead=ahead, cancel=cancel, begin=begin, commit=commit, at=at)
        for left, its_attempt in together.run():
            at(left.key.location)
            self.run(left, emit=emit, cancel=cancel, attempt=its_attempt)
            done(left)

    def close(self) -> None:
        """Tear the operators down."""
        self._readers.close()
        job, self._job, self._digest, self._store = self._job, None, None, None
        if job is None:
            return
        for step in job.steps:
            if step.id in self._ready:
                tear_down(step)
        self._ready.clear()
        self._held = Held()

    def _prepare(self, ref: StageRef) -> tuple[StageJob, Store]:
        if self._digest != ref.digest or self._job is None or self._store is None:
            self.close()
            self._job = _loaded(ref)
            self._digest = ref.digest
            self._store = open_store(self._job.root)
            for step in self._job.steps:
                self._set_up(step, seed=self._job.seed)
        return self._job, self._store

    def _set_up(self, step: Step, *, seed: int) -> None:
        infer = self._elsewhere.infer(step.id) if self._elsewhere is not None else None
        # Also torn down where setup stops half-way.
        self._ready.append(step.id)
        set_up(
            step,
            seed=seed,
            device=device_of(step, self._device),
            verbs=VERBS - {"infer"} if infer is not None else VERBS,
        )
        runtime = step.use.operator.runtime
        if infer is not None and self._elsewhere is not None:
            runtime.elsewhere = infer
            self._held.ahead = self._elsewhere.ahead()
            self._held.elsewhere.add(step.id)
        if step.use.batch_size == "auto":
            runtime.batching = self._held.sizes[step.id] = BatchSize()


class _First:
    """What comes, begun with a split that is there already."""

    def __init__(self, task: Task, attempt: Attempt, coming: Coming) -> None:
        self._first: tuple[Task, Attempt] | None = (task, attempt)
        self._coming = coming
        self.ring = coming.ring

    def draw(self, *, beside: int) -> tuple[Task, Attempt] | None:
        first, self._first = self._first, None
        return first or self._coming.draw(beside=beside)


def _loaded(ref: StageRef) -> StageJob:
    try:
        return ref.load()
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"stage `{ref.name}` needs the module `{error.name}`, which is not installed on {socket.gethostname()}",
            help="every machine that works on a run needs the packages of its driver",
        ) from error


def run_split(
    task: Task,
    job: StageJob,
    store: Store,
    *,
    emit: Emit,
    cancel: CancelToken,
    attempt: Attempt = Attempt(),  # noqa: B008 (frozen)
    at: Callable[[Crumb], None] | None = None,
    readers: Readers | None = None,
    held: Held | None = None,
) -> Receipt:
    """Compose `open_task`, `run_segment` and `commit_task`: who runs a split owns its shard, wherever models are."""
    held = held or Held()
    opened = open_task(task, job, readers=readers)
    watched = _watched(opened.parcels, task, job, emit, cancel)
    # A careful attempt tells where it is, and so is at one place only.
    ahead = None if attempt.careful else held.ahead
    caller = _caller(attempt, at, held, ahead)
    with closing(run_segment(job.steps, watched, caller=caller, ahead=ahead)) as parcels:
        return commit_task(task, job, parcels, store, opened=opened, attempts=attempt.number)


def _caller(attempt: Attempt, at: Callable[[Crumb], None] | None, held: Held, ahead: Ahead | None) -> Caller:
    return Caller(attempt, at, sizes=held.sizes, fits=held.fits, ahead=ahead, elsewhere=held.elsewhere)


def _sayer(task: Task, job: StageJob, emit: Emit) -> Callable[..., None]:
    def say(kind: EventKind, **data: object) -> None:
        emit(Event(kind=kind, stage=job.stage, split=task.key.location, data={"name": task.name, **data}))

    return say


def _told(task: Task, job: StageJob) -> AbstractContextManager[None]:
    return told_as_failure(f"split {task.name} of stage `{job.stage}`", root=job.root)


def _did_not_pass(task: Task, job: StageJob, error: TransientError) -> StageFailed:
    return StageFailed(
        f"split {task.name} of stage `{job.stage}` met a fault that did not pass: {error}",
        help="run again when the cause is gone; what was committed is safe",
    )


def summary(receipt: Receipt) -> dict[str, object]:
    """Return what an event says of a receipt."""
    return {
        **receipt.counts,
        "bytes_in": sum(i["bytes"] for i in receipt.inputs),
        "bytes_out": sum(f.bytes for f in receipt.outputs),
        "seconds": receipt.seconds,
        "attempts": receipt.attempts,
    }


def _watched(parcels: Iterator[Parcel], task: Task, job: StageJob, emit: Emit, cancel: CancelToken) -> Iterator[Parcel]:
    rows = size = 0
    last = time.monotonic()
    for parcel in parcels:
        cancel.raise_if_cancelled()
        yield parcel
        rows += parcel.rows_read
        size += parcel.bytes_read
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY:
            last = now
            emit(
                Event(
                    kind="split_progress",
                    stage=job.stage,
                    split=task.key.location,
                    data={"name": task.name, "rows": rows, "bytes": size},
                )
            )
