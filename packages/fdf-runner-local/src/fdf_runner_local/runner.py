"""The local runner: tasks run whole in worker processes on this machine, and nothing but events crosses back."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from fsspec.registry import known_implementations

from fdf.errors import MissingDependency, PlanError, Problem
from fdf.models.contract import ModelOperator
from fdf.models.devices import gpu_count
from fdf.plan.task import StageRef, Task
from fdf.runner.devices import check_device, check_gpus, without_gpu
from fdf.stage.events import CancelToken, Emit, Event
from fdf.storage.uri import protocol_of
from fdf_runner_local.crew import Crew
from fdf_runner_local.machine import usable_cpus, usable_memory
from fdf_runner_local.model import Models
from fdf_runner_local.packing import Want, pack
from fdf_runner_local.processes import ForkNursery, Nursery, SpawnNursery, StartMethod

if TYPE_CHECKING:
    from fdf.plan.job import Step
    from fdf.plan.model import Plan

MEMORY_SHARE = 0.8


class LocalRunner:
    """Runs tasks in worker processes.

    Parameters:
        workers: how many processes; by default one for each CPU that this process may use, control groups included.
        device: handed on to operators.
        memory_per_worker: bytes that a worker may hold where its operators declare no `memory`; by default its share
            of 80 % of the memory that this process may use.
        stall_after: seconds without progress after which a split is reported.
        start: `fork` from a process that has imported everything (default on Linux), or `spawn` a new interpreter
            for each worker.
    """

    name = "local"

    def __init__(
        self,
        *,
        workers: int | None = None,
        device: str = "auto",
        memory_per_worker: int | None = None,
        stall_after: float = 300.0,
        start: StartMethod | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise PlanError(f"{workers} workers cannot run anything", help="ask for 1 or more, for example --workers 4")
        self.workers = workers or usable_cpus()
        self._memory_per_worker = memory_per_worker or int(usable_memory() * MEMORY_SHARE / self.workers)
        self._stall_after = stall_after
        self._device = device
        self._stages: dict[str, tuple[Step, ...]] = {}
        self._remark: str | None = None
        start = start or ("fork" if sys.platform == "linux" else "spawn")
        self._nursery: Nursery = (ForkNursery if start == "fork" else SpawnNursery)(device=device)
        # What workers are forked from stays for the next stage, and goes with the runner.
        self._close = weakref.finalize(self, self._nursery.close)

    def close(self) -> None:
        """End the process that workers are forked from. Without this call it ends with the runner."""
        self._close()

    def check(self, plan: Plan) -> None:
        """Refuse a platform without POSIX processes, a device that is not there, and more memory than there is."""
        check_device(self._device)
        steps = [step for stage in plan.stages for step in stage.job.steps]
        check_gpus(steps, self._gpus())
        self._stages = {stage.job.stage: stage.job.steps for stage in plan.stages}
        self._remark = without_gpu(plan, device=self._device)
        if isinstance(self._nursery, ForkNursery):
            self._nursery.preload = _store_libraries(plan)
        if sys.platform == "win32":
            raise MissingDependency("the local runner needs Linux or macOS", help="use `--runner serial`")
        available = usable_memory()
        problems = [
            Problem(
                code="FDF511",
                message=f"`{step.id}` of stage {stage.name} asks for {step.use.resources.memory:,} bytes of memory, "
                f"but this machine can give {available:,}",
                help="lower `resources.memory`, or run on a larger machine",
            )
            for stage in plan.stages
            for step in stage.job.steps
            if step.use.resources.memory > available
        ]
        if problems:
            raise MissingDependency(*problems)

    def run(self, tasks: Iterable[Task], emit: Emit, cancel: CancelToken) -> None:
        """Run every task; return when all are committed and every worker has ended."""
        tasks, stage = _stage_of(tasks)
        steps = self._stages.get(stage.name, ()) if stage is not None else ()
        models = self._models(steps)
        if self._remark is not None and stage is not None:
            emit(Event(kind="warning", stage=stage.name, data={"message": self._remark}))
            self._remark = None
        crew = Crew(
            self._nursery,
            size=self.workers,
            memory_per_worker=self._memory_per_worker,
            stall_after=self._stall_after,
            emit=emit,
            models=models,
            together=True,
        )
        try:
            crew.run(tasks, cancel)
        except BaseException:
            crew.close()
            self._nursery.close()
            raise
        crew.close()

    def _gpus(self) -> int:
        return 0 if self._device == "cpu" else gpu_count()

    def _models(self, steps: Sequence[Step]) -> Models | None:
        """Return which processes are to hold a stage's models; None where it has none that want a device."""
        held = [s for s in steps if isinstance(s.use.operator, ModelOperator) and s.use.resources.gpus]
        if not held:
            return None
        wants = [Want(operator_id=s.id, gpus=s.use.resources.gpus) for s in held]
        gpus = self._gpus()
        return Models(
            slots=pack(wants, gpus=gpus, most=self.workers),
            threads=1 if gpus else usable_cpus(),
            memory={s.id: s.use.resources.memory for s in held},
            most_memory=int(usable_memory() * MEMORY_SHARE),
        )


def _stage_of(tasks: Iterable[Task]) -> tuple[Iterable[Task], StageRef | None]:
    """Return the tasks, unchanged, and the stage of the first; None where there is none."""
    source = iter(tasks)
    first = next(source, None)
    return (chain([first], source), first.stage) if first is not None else ((), None)


def _store_libraries(plan: Plan) -> tuple[str, ...]:
    """Return the modules that open the stores of a plan: slow to import, and the same for every worker."""
    source = getattr(plan.stages[0].job.source, "path", ())
    places = [*(stage.root for stage in plan.stages), *([source] if isinstance(source, str) else source)]
    protocols = sorted({protocol_of(place) for place in places} - {"file", "local"})
    return tuple(known_implementations[p]["class"].rpartition(".")[0] for p in protocols if p in known_implementations)
