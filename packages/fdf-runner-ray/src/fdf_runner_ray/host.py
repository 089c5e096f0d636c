"""What works on splits: a Ray actor that holds one slot and has a worker process of the local runner beside it.

The actor does no work itself. It gives tasks to its worker, watches its memory, replaces it when it dies and finds the
row to blame, all as the local runner does on one machine; so it always answers, whatever an operator does. Models that
other actors hold are asked by way of this one (`fdf_runner_ray.relay`).
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace

from fdf.errors import FdfError
from fdf.plan.task import StageRef, Task
from fdf.stage.blame import Attempt, Ledger
from fdf.stage.events import CancelToken
from fdf_runner_local.crew import Crew
from fdf_runner_local.machine import usable_cpus, usable_memory
from fdf_runner_local.processes import SpawnNursery
from fdf_runner_local.runner import MEMORY_SHARE
from fdf_runner_ray.relay import Relay, Table
from fdf_runner_ray.station import Done, Ended, Failed, Settings, Station, Wants, this_node

STORE_SHARE = 0.5


class Host(Station):
    """The actor. Where models go in turn its worker may have several splits in hand, else one."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._cancel = CancelToken()
        self._ledger = _TellingLedger(self._finished)
        self._in_hand: set[str] = set()
        self._asked = False
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._stages: dict[str, StageRef] = {}
        self._beside = _hosts_on_this_node(settings)
        self._relay = self._opened_relay() if settings.elsewhere else None
        self._nursery = SpawnNursery(device=settings.device)
        self._crew = Crew(
            self._nursery,
            size=1,
            memory_per_worker=settings.memory_per_worker or int(usable_memory() * MEMORY_SHARE / self._beside),
            stall_after=settings.stall_after,
            emit=self._news.put,
            ledger=self._ledger,
            desks=self._relay.desks if self._relay is not None else None,
        )
        threading.Thread(target=self._serve, name="fdf-crew", daemon=True).start()

    def know(self, table: Table, number: int) -> None:
        """Take note of where models are asked. Calls may change places on their way: the highest number is newest."""
        if self._relay is not None:
            self._relay.know(table, number)

    def give(self, task: Task, attempt: Attempt, payload: bytes | None) -> None:
        """Take a task. Its stage's bytes come with the first one of the stage."""
        if payload is not None:
            self._stages[task.stage.digest] = replace(task.stage, payload=payload)
        if attempt.number > 1:
            self._ledger.begin_at(task.key.location, attempt)
        self._tasks.put(replace(task, stage=self._stages[task.stage.digest]))
        self._crew.wake()

    def stop(self) -> None:
        """Have the worker end after its tasks, its operators torn down."""
        self._tasks.put(None)
        self._crew.wake()

    def cancel(self) -> None:
        """Have the worker give its task up, and end."""
        self._cancel.cancel()
        self.stop()

    def leave(self) -> None:
        """Remove what a killed process would leave on disk."""
        if self._relay is not None:
            self._relay.close()

    def _opened_relay(self) -> Relay:
        here = this_node()
        return Relay(
            self._settings.elsewhere,
            in_turn=self._settings.in_turn,
            store=int(here.store * STORE_SHARE / self._beside) if here is not None else 0,
            node=here.id if here is not None else None,
        )

    def _serve(self) -> None:
        crew = self._crew
        try:
            crew.run(self._given(), self._cancel)
        except FdfError as error:
            self._news.put(Failed(error))
        except BaseException:  # noqa: BLE001 (whatever it is, the driver must hear of it)
            self._news.put(Failed(traceback.format_exc()))
        finally:
            crew.close()
            self._nursery.close()
            if self._relay is not None:
                self._relay.close()
            self._news.put(Ended())

    def _given(self) -> Iterator[Task | None]:
        """Yield tasks as they come. The crew asks for one when there is room for it, and the driver is told so."""
        while True:
            if self._tasks.empty() and not self._asked:
                self._asked = True
                self._news.put(Wants())
            if self._tasks.empty() and self._in_hand:
                yield None
                continue
            task = self._tasks.get()
            if task is None:
                return
            self._asked = False
            self._in_hand.add(task.key.location)
            yield task

    def _finished(self, split: str) -> None:
        self._in_hand.discard(split)
        self._news.put(Done(split))


class _TellingLedger(Ledger):
    """Says which splits are committed."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def done(self, split: str) -> None:
        super().done(split)
        self._tell(split)


def _hosts_on_this_node(settings: Settings) -> int:
    """Return how many hosts of the run this node may come to have."""
    here = this_node()
    cpus = here.cpus if here is not None else 1
    hosts = max(1, int(cpus / settings.cpus)) if settings.cpus else usable_cpus()
    return min(hosts, settings.workers or hosts)
