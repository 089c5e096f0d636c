"""The Ray runner: tasks run whole in worker processes on the nodes of a cluster, and nothing but events comes back."""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from fdf.errors import MissingDependency, PlanError, Problem
from fdf.operator import Resources
from fdf.plan.task import Task
from fdf.stage.events import CancelToken, Emit, Event
from fdf.storage.uri import local_path
from fdf_runner_local.machine import usable_cpus
from fdf_runner_ray.autoscaler import brought, offer, to_come
from fdf_runner_ray.capacity import inventory, nodes, words
from fdf_runner_ray.cluster import Connection
from fdf_runner_ray.layout import Layout, fit_together, lay_out
from fdf_runner_ray.pool import Pool
from fdf_runner_ray.station import Settings

if TYPE_CHECKING:
    from fdf.plan.job import Step
    from fdf.plan.model import Plan, StagePlan


class RayRunner:
    """Runs tasks on a Ray cluster.

    Parameters:
        workers: how many splits are worked on at the same time; by default as many as fit on the cluster, however
            that changes in the run.
        device: handed on to operators.
        address: of a cluster that is there: `HOST:PORT`, or `auto` for one that Ray finds; `local` for one of its own
            on this machine, as is the default where `RAY_ADDRESS` is not set. A program that has called `ray.init`
            keeps its connection, whatever the address.
        memory_per_worker: bytes that a worker may hold where its operators declare no `memory`; by default its share
            of 80 % of its node's.
        stall_after: seconds without progress after which a split is reported.
    """

    name = "ray"

    def __init__(
        self,
        *,
        workers: int | None = None,
        device: str = "auto",
        address: str | None = None,
        memory_per_worker: int | None = None,
        stall_after: float = 300.0,
    ) -> None:
        if workers is not None and workers < 1:
            raise PlanError(f"{workers} workers cannot run anything", help="ask for 1 or more, for example --workers 4")
        self._workers = workers
        self._device = device
        address = address or os.environ.get("RAY_ADDRESS") or None
        self._address = None if address == "local" else address
        self._memory_per_worker = memory_per_worker
        self._stall_after = stall_after
        self._close: weakref.finalize[..., RayRunner] | None = None
        self._roots: dict[str, str] = {}
        self._steps: dict[str, tuple[Step, ...]] = {}
        self._told_of_cpu = False

    def close(self) -> None:
        """Leave the cluster; end it where it is this runner's own. Without this call that happens with the runner."""
        if self._close is not None:
            self._close()

    def check(self, plan: Plan) -> None:
        """Connect, and refuse what no node can hold, there or to come: a device, or a worker of one of the stages."""
        self._connect()
        self._roots = {stage.name: stage.root for stage in plan.stages}
        self._steps = {stage.name: stage.job.steps for stage in plan.stages}
        there, coming = nodes(), to_come()
        has_gpu = any(node.gpus for node in (*there, *coming))
        if self._device == "cuda" and not has_gpu:
            raise MissingDependency(
                Problem(
                    code="FDF512",
                    message=f"`--device cuda` was asked for, but the cluster offers no GPU: it has {inventory(there)}"
                    f"{offer(coming)}",
                    help="leave `--device` out to run models on the CPU, or add a node with a GPU",
                )
            )
        problems = list(_unmet(plan.stages, gpus=self._device != "cpu" and has_gpu))
        if problems:
            raise MissingDependency(*problems)

    def run(self, tasks: Iterable[Task], emit: Emit, cancel: CancelToken) -> None:
        """Run every task; return when all are committed and every host has ended."""
        source = iter(tasks)
        first = next(source, None)
        if first is None:
            return
        self._connect()
        layout, device = self._laid_out(first.stage.name, emit)
        with _mark(self._roots.get(first.stage.name)) as mark:
            settings = Settings(
                device=device,
                stall_after=self._stall_after,
                memory_per_worker=self._memory_per_worker,
                cpus=layout.worker.cpus,
                workers=self._workers,
                environment={k: v for k, v in os.environ.items() if k.startswith("FDF_")},
                mark=mark,
                elsewhere=layout.elsewhere,
                in_turn=layout.in_turn,
            )
            pool = Pool(settings, layout, workers=self._workers, emit=emit)
            try:
                pool.run(chain([first], source), cancel)
            finally:
                pool.close()

    def _connect(self) -> None:
        if self._close is not None and self._close.alive:
            return
        connection = Connection.open(self._address, cpus=max(self._workers or 1, usable_cpus()))
        self._close = weakref.finalize(self, connection.close if connection else _leave)

    def _laid_out(self, stage: str, emit: Emit) -> tuple[Layout, str]:
        """Return what a stage takes of the cluster, and the device of its operators."""
        there = [*nodes(), *brought()]
        gpus = self._device != "cpu" and any(node.gpus for node in there)
        steps = self._steps.get(stage, ())
        if gpus or not any(step.use.resources.gpus for step in steps):
            return lay_out(steps, there, gpus=gpus), self._device
        if self._device == "auto" and not self._told_of_cpu:
            self._told_of_cpu = True
            said = {"message": "no node of the cluster has a GPU: models run on the CPU"}
            emit(Event(kind="warning", stage=stage, data=said))
        return lay_out(steps, there, gpus=False), "cpu"


def _unmet(stages: Iterable[StagePlan], *, gpus: bool) -> Iterator[Problem]:
    """Yield a finding for each stage that the cluster cannot hold, now or grown. `gpus`: whether models run on any."""
    there = [*nodes(), *brought()]
    has = f"{inventory(nodes())}{offer(to_come())}"
    for stage in stages:
        layout = lay_out(stage.job.steps, there, gpus=gpus)
        wanted = [(pool.need, f"the model of {_listed(pool.kind.operator_ids)}") for pool in layout.pools]
        wanted.append((layout.worker, f"a worker ({_askers(stage, layout)})"))
        too_large = [(need, what) for need, what in wanted if not any(node.slots(need) for node in there)]
        for need, what in too_large:
            yield Problem(
                code="FDF522",
                message=f"{what} of stage `{stage.name}` needs {words(need)}, and no node of the cluster can be that "
                f"large: {has}",
                help="lower `resources` of the operator, or add a node that has them",
            )
        if not too_large and not fit_together(layout.least, there):
            yield Problem(
                code="FDF522",
                message=f"stage `{stage.name}` needs at the same time "
                f"{'; '.join(f'{words(need)} for {what}' for need, what in wanted)}, and the cluster is not that "
                f"large: {has}",
                help="lower `resources` of the operators, or add a node",
            )


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(f"`{i}`" for i in ids)


def _askers(stage: StagePlan, layout: Layout) -> str:
    """Return the operators that a worker's size comes from."""
    steps = [step for step in stage.job.steps if step.id not in layout.elsewhere]
    return _listed(step.id for step in steps if step.use.resources != Resources()) or "the default"


@contextmanager
def _mark(root: str | None) -> Iterator[str | None]:
    """Make a file that hosts look for below a root on local disks, as they may be another node's: give its path."""
    folder = local_path(root) if root is not None else None
    if folder is None:
        yield None
        return
    mine = f".fdf-ray-{socket.gethostname()}-"
    mark = Path(folder).absolute() / f"{mine}{os.getpid()}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    for left in mark.parent.glob(f"{mine}*"):  # By drivers of this machine that were killed.
        if not Path("/proc", left.name.removeprefix(mine)).exists():
            left.unlink(missing_ok=True)
    mark.touch()
    try:
        yield str(mark)
    finally:
        with suppress(OSError):
            mark.unlink()


def _leave() -> None:
    """Leave the connection that the program has made as it is."""
