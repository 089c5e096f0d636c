"""What holds models on the cluster: a Ray actor with a share of a GPU, and the process of the models beside it.

As with hosts of workers, the actor itself runs nothing that can die or hang: it takes requests, which come with their
rows' place in the object store, hands them to the process over memory that both see, and gives the answer back.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray

from fdf.errors import FdfError
from fdf.models.devices import gpu_count
from fdf.plan.task import StageRef
from fdf.stage.events import CancelToken, Event
from fdf_runner_local.asking import Desk, Pending, Room
from fdf_runner_local.crew import Crew
from fdf_runner_local.machine import usable_cpus, usable_memory
from fdf_runner_local.model import Models, Posts
from fdf_runner_local.packing import Slot
from fdf_runner_local.parcels import Answer, Ask, Refusal, Shared
from fdf_runner_local.processes import SpawnNursery
from fdf_runner_local.runner import MEMORY_SHARE
from fdf_runner_ray.scaling import Load
from fdf_runner_ray.station import Ended, Failed, Ready, Settings, Station, this_node

ROOM = 256 << 20
"""How many bytes of requests an actor holds; one request may be larger. The others' rows stay where they are."""
ROOM_IN_TURN = 1 << 30
CALLS = 64
CALLS_IN_TURN = 384
"""How many requests may wait at an actor; Ray holds the others back."""
REPORT_EVERY = 1.0

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an actor holds: the models of some operators, one at a time where they go in turn."""

    operator_ids: tuple[str, ...]
    memory: Mapping[str, int]
    """How many bytes each operator declares for its model; 0: none."""
    in_turn: bool = False


class ModelHost(Station):
    """The actor."""

    def __init__(self, settings: Settings, stage: StageRef, payload: bytes, kind: Kind) -> None:
        super().__init__(settings)
        self._stop = CancelToken()
        self._gauge = _Gauge()
        self._room = Room(ROOM_IN_TURN if kind.in_turn else ROOM)
        device = settings.device if settings.device != "auto" else "cuda" if gpu_count() else "cpu"
        if device == "cpu" and ray.get_gpu_ids():
            said = "Ray counts a GPU here that this machine does not offer: models run on its CPU"
            self._news.put(Event(kind="warning", stage=stage.name, data={"message": said}))
        slot = Slot(device=device, operator_ids=kind.operator_ids, in_turn=kind.in_turn)
        models = Models(
            slots=(slot,),
            threads=_threads() if device == "cpu" else 1,
            memory=kind.memory,
            most_memory=int(usable_memory() * MEMORY_SHARE),
        )
        self._posts = posts = Posts(models)
        self._desk = Desk(posts.all[0].path, on_reached=lambda: self._news.put(Ready()))
        held = replace(stage, payload=payload)
        threading.Thread(target=self._serve, args=(models, posts, held), name="fdf-crew", daemon=True).start()
        threading.Thread(target=self._report, name="fdf-load", daemon=True).start()

    @ray.method(concurrency_group="infer")
    def infer(self, ask: Ask, boxed: list[Any], size: int) -> tuple[Answer | Refusal, Bytes | None]:
        """Have the model take the rows that lie at `boxed[0]`; return what it said, or what it raised."""
        with self._gauge.one_more():
            self._room.take(size)
            try:
                pending = Pending(ask, Shared.copy_of(pa.py_buffer(ray.get(boxed[0]))))
                try:
                    self._desk.ask(pending)
                    batch, seconds = pending.answer.result()
                except Exception as error:  # noqa: BLE001 (the worker judges the row)
                    return Refusal(ask.number, error), None
                finally:
                    self._desk.forget(pending)
            finally:
                self._room.give(size)
        return Answer(ask.number, seconds), _packed(batch)

    def stop(self) -> None:
        """Have the process end, its models torn down."""
        self._stop.cancel()

    def leave(self) -> None:
        """Remove what a killed process would leave on disk."""
        self._posts.close()

    def _serve(self, models: Models, posts: Posts, stage: StageRef) -> None:
        nursery = SpawnNursery(device=self._settings.device)
        crew = Crew(
            nursery,
            size=0,
            memory_per_worker=models.most_memory,
            stall_after=self._settings.stall_after,
            emit=self._news.put,
            models=models,
        )
        try:
            crew.hold(posts, stage, self._stop)
        except FdfError as error:
            self._news.put(Failed(error))
        except BaseException:  # noqa: BLE001 (whatever it is, the driver must hear of it)
            self._news.put(Failed(traceback.format_exc()))
        finally:
            crew.close()
            nursery.close()
            self._news.put(Ended())

    def _report(self) -> None:
        while not self._stop.wait(REPORT_EVERY):
            self._news.put(self._gauge.read())


class _Gauge:
    """Counts the requests that an actor has, and the time in which it has any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self._least = 0
        self._busy = 0.0
        self._since = self._read_at = time.monotonic()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a request during the block."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def read(self) -> Load:
        """Return how it was since the last reading."""
        self._change(0)
        with self._lock:
            passed = max(self._since - self._read_at, 1e-9)
            load = Load(least=self._least, busy=min(1.0, self._busy / passed))
            self._least, self._busy, self._read_at = self._now, 0.0, self._since
            return load

    def _change(self, by: int) -> None:
        with self._lock:
            now = time.monotonic()
            if self._now:
                self._busy += now - self._since
            self._since = now
            self._now += by
            self._least = min(self._least, self._now)


def _packed(batch: pa.RecordBatch) -> Bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _threads() -> int:
    """Return how many CPUs a model may use that has no GPU: its node's, as those who ask it wait meanwhile."""
    here = this_node()
    return max(1, min(usable_cpus(), int(here.cpus) if here is not None else 1))
