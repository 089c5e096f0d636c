"""What runs on the cluster: a Ray actor that holds one slot and has a worker process of the local runner beside it.

The actor does no work itself. It gives tasks to its worker, watches its memory, replaces it when it dies and finds the
row to blame, all as the local runner does on one machine; so it always answers, whatever an operator does.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import ray

import fdf
from fdf.errors import FdfError
from fdf.plan.task import StageRef, Task
from fdf.stage.blame import Attempt, Ledger
from fdf.stage.events import CancelToken, Event
from fdf_runner_local.crew import Crew
from fdf_runner_local.machine import usable_cpus, usable_memory
from fdf_runner_local.processes import SpawnNursery
from fdf_runner_local.runner import MEMORY_SHARE
from fdf_runner_ray.capacity import nodes

MARK_PATIENCE = 5.0
PATIENCE = 10.0
"""How long a question for news waits for some."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all hosts of a run are made with."""

    device: str
    stall_after: float
    memory_per_worker: int | None
    """None: a host's share of its node."""
    cpus: float
    workers: int | None
    environment: Mapping[str, str]
    """The driver's own settings of FDF."""
    mark: str | None
    """A file that the driver has made where the stage commits, if that is a local path."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """Where a host is, and whether it can work with the driver."""

    node: str
    pid: int
    version: str
    sees_mark: bool


@dataclass(frozen=True, slots=True)
class Done:
    """The task is committed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised an error that FDF knows, or the traceback of one that it does not."""

    error: FdfError | str


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker has ended, its operators torn down. Nothing comes after this."""


News: TypeAlias = Event | Done | Failed | Ended


class Host:
    """The actor. Its methods are called at the same time: one waits for news while another brings a task."""

    def __init__(self, settings: Settings) -> None:
        os.environ.update(settings.environment)
        self._settings = settings
        self._cancel = CancelToken()
        self._ledger = Ledger()
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._stages: dict[str, StageRef] = {}
        threading.Thread(target=self._serve, name="fdf-crew", daemon=True).start()

    def introduce(self) -> Introduction:
        """Say where this is."""
        return Introduction(
            node=socket.gethostname(), pid=os.getpid(), version=fdf.__version__, sees_mark=_sees(self._settings.mark)
        )

    def give(self, task: Task, attempt: Attempt, payload: bytes | None) -> None:
        """Take a task. Its stage's bytes come with the first one of the stage."""
        if payload is not None:
            self._stages[task.stage.digest] = replace(task.stage, payload=payload)
        if attempt.number > 1:
            self._ledger.begin_at(task.key.location, attempt)
        self._tasks.put(replace(task, stage=self._stages[task.stage.digest]))

    def news(self) -> list[News]:
        """Return what has happened since the last call, in order; wait a while for something to happen."""
        try:
            told = [self._news.get(timeout=PATIENCE)]
        except queue.Empty:
            return []
        while not self._news.empty():
            told.append(self._news.get())
        return told

    def stop(self) -> None:
        """Have the worker end after its task, its operators torn down."""
        self._tasks.put(None)

    def cancel(self) -> None:
        """Have the worker give its task up, and end."""
        self._cancel.cancel()
        self.stop()

    def _serve(self) -> None:
        nursery = SpawnNursery(device=self._settings.device)
        crew = Crew(
            nursery,
            size=1,
            memory_per_worker=self._settings.memory_per_worker or _share(self._settings),
            stall_after=self._settings.stall_after,
            emit=self._news.put,
            ledger=self._ledger,
        )
        try:
            crew.run(self._given(), self._cancel)
        except FdfError as error:
            self._news.put(Failed(error))
        except BaseException:  # noqa: BLE001 (whatever it is, the driver must hear of it)
            self._news.put(Failed(traceback.format_exc()))
        finally:
            crew.close()
            nursery.close()
            self._news.put(Ended())

    def _given(self) -> Iterator[Task]:
        """Yield tasks as they come. The crew asks for the next one when the last is committed."""
        while (task := self._tasks.get()) is not None:
            yield task
            self._news.put(Done())


def _sees(mark: str | None) -> bool:
    """Say whether a file is there. A shared folder may need a moment to show it."""
    deadline = time.monotonic() + MARK_PATIENCE
    while mark is not None and not Path(mark).exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _share(settings: Settings) -> int:
    """Return this host's share of the memory that its node may use."""
    here = ray.get_runtime_context().get_node_id()
    cpus = next((node.cpus for node in nodes() if node.id == here), 1)
    hosts = max(1, int(cpus / settings.cpus)) if settings.cpus else usable_cpus()
    return int(usable_memory() * MEMORY_SHARE / min(hosts, settings.workers or hosts))
