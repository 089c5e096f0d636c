"""The actors that hold a stage's models, as the driver sees them: pools that grow and shrink by what waits there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fdf.errors import Problem, StageFailed
from fdf.operator import Resources
from fdf.plan.task import StageRef
from fdf.stage.blame import MAX_PLAIN_DEATHS
from fdf_runner_ray.capacity import Capacity, Node, nodes, slots
from fdf_runner_ray.contacts import ModelContact
from fdf_runner_ray.layout import Layout, Pooled
from fdf_runner_ray.model_host import CALLS, CALLS_IN_TURN, ModelHost
from fdf_runner_ray.relay import Address
from fdf_runner_ray.scaling import Scaling
from fdf_runner_ray.station import Settings

LOOK_EVERY = 2.0
TALKS = 4
"""Calls to an actor besides requests: news is awaited while a stop comes."""


@dataclass(eq=False)
class _Pool:
    pooled: Pooled
    members: list[ModelContact] = field(default_factory=list)
    scaling: Scaling = field(default_factory=Scaling)
    target: int = 1
    most: int = 1
    fruitless: int = 0
    """Actors in a row that were lost before they had loaded their models."""

    @property
    def ready(self) -> list[ModelContact]:
        return [m for m in self.members if m.address is not None]

    @property
    def placed(self) -> list[ModelContact]:
        """Those that have found room, whether or not they have loaded their models."""
        return [m for m in self.members if m.introduction is not None and not m.stopping]

    @property
    def waiting(self) -> list[ModelContact]:
        return [m for m in self.members if m.introduction is None]


class ModelPools:
    """All pools of one stage. An empty one where the stage has no models for others to hold."""

    def __init__(self, layout: Layout, settings: Settings, *, workers: int | None) -> None:
        self._pools = [_Pool(pooled) for pooled in layout.pools]
        self._settings = settings
        self._workers = workers
        self._stage: StageRef | None = None
        self._payload: Any = None
        self._next_look = 0.0
        self.changed = False
        """Whether hosts have to be told where models are."""

    @property
    def begun(self) -> bool:
        """Say whether actors were started."""
        return self._stage is not None

    @property
    def members(self) -> list[ModelContact]:
        """Return all actors that live or are to come."""
        return [member for pool in self._pools for member in pool.members]

    def begin(self, stage: StageRef, payload: Any) -> None:
        """Start an actor of each kind; the bytes of the stage lie in the object store."""
        self._stage, self._payload = replace(stage, payload=b""), payload
        for pool in self._pools:
            self._fill(pool)

    def bound(self, there: Sequence[Node], coming: Sequence[Capacity]) -> None:
        """Take note of what the cluster has now and what could come: pools grow no larger than that can hold."""
        for pool in self._pools:
            need = pool.pooled.need
            most = len(_holding(there, need)) if pool.pooled.by_node else slots([*there, *coming], need)
            pool.most = max(1, min(most, self._workers or most))

    def look(self) -> None:
        """Now and then, start or stop actors by how busy they have been."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY
        for pool in self._pools:
            ready = pool.ready
            loads = [m.load for m in ready if m.load is not None]
            if not loads or len(loads) < len(ready):
                continue
            for member in ready:
                member.load = None
            wanted = pool.scaling.wanted(loads, most=pool.most, now=now)
            # Those that are loading their models were wanted a moment ago, and are when they have done so.
            pool.target = wanted if wanted < len(ready) else max(wanted, len(pool.placed))
            self._fill(pool)
            self._thin(pool)

    def lost(self, member: ModelContact) -> None:
        """An actor is gone: another takes its place where it is needed.

        Raises StageFailed where actors keep being lost before they have loaded their models.
        """
        pool = next(pool for pool in self._pools if member in pool.members)
        self.forget(member)
        if member.stopping:  # At the end of a run nobody is needed.
            return
        if member.introduction is not None and not member.ready:
            pool.fruitless += 1
        if pool.fruitless > MAX_PLAIN_DEATHS:
            raise _lost_too_often(pool)
        for each in self._pools:
            self._fill(each)

    def is_ready(self, member: ModelContact) -> None:
        """An actor has loaded its models: from now on it is asked."""
        member.ready = self.changed = True
        for pool in self._pools:
            if member in pool.members:
                pool.fruitless = 0

    def forget(self, member: ModelContact) -> None:
        """An actor has ended, as it was asked to."""
        for pool in self._pools:
            if member in pool.members:
                pool.members.remove(member)
                self.changed = True

    def table(self) -> dict[str, tuple[Address, ...]]:
        """Return for each operator the actors that hold its model."""
        return {
            operator_id: tuple(m.address for m in pool.members if m.address is not None)
            for pool in self._pools
            for operator_id in pool.pooled.kind.operator_ids
        }

    def awaited(self) -> Resources | None:
        """Return what there may be no room for: the need of a kind of which not a single actor is there."""
        missing = (pool.pooled.need for pool in self._pools if not pool.placed)
        return max(missing, key=lambda need: need.gpus, default=None) if self.begun else None

    @property
    def wants_room(self) -> bool:
        """Say whether a kind that reserves something has not a single actor."""
        reserving = (pool for pool in self._pools if not pool.pooled.by_node or pool.pooled.need.memory)
        return self.begun and any(not pool.placed for pool in reserving)

    def _fill(self, pool: _Pool) -> None:
        living = sum(not m.stopping for m in pool.members)
        for _ in range(pool.target - living):
            self._recruit(pool)

    def _thin(self, pool: _Pool) -> None:
        """Let go of what is too much: first of those that are not there yet."""
        living = [*pool.waiting, *reversed(pool.placed)]
        for member in living[: max(0, len(living) - pool.target)]:
            if member.introduction is None:
                pool.members.remove(member)
                member.dismiss()
            else:
                member.stop()
                self.changed = True

    def _recruit(self, pool: _Pool) -> None:
        need, kind = pool.pooled.need, pool.pooled.kind
        options: dict[str, Any] = {"num_cpus": need.cpus, "num_gpus": need.gpus}
        if need.memory:
            options["memory"] = need.memory
        node_id = self._least_taken(pool) if pool.pooled.by_node else None
        if node_id is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=False)
        calls = CALLS_IN_TURN if kind.in_turn else CALLS
        actor: Any = (
            ray.remote(concurrency_groups={"infer": calls})(ModelHost)  # type: ignore[call-overload]
            .options(max_restarts=0, max_task_retries=0, max_concurrency=TALKS, **options)
            .remote(self._settings, self._stage, self._payload, kind)
        )
        pool.members.append(ModelContact(actor, actor.introduce.remote(), node_id=node_id))

    def _least_taken(self, pool: _Pool) -> str | None:
        taken = [m.node_id for m in pool.members]
        # Looked up now: what was there at the last count may be what was just lost.
        return min((node.id for node in _holding(nodes(), pool.pooled.need)), key=taken.count, default=None)


def _holding(there: Sequence[Node], need: Resources) -> list[Node]:
    """Return the nodes with workers that are large enough."""
    return [node for node in there if node.cpus and node.slots(need)]


def _lost_too_often(pool: _Pool) -> StageFailed:
    names = " and ".join(f"`{name}`" for name in pool.pooled.kind.operator_ids)
    return StageFailed(
        Problem(
            code="FDF420",
            message=f"{pool.fruitless} actors in a row were lost before they had loaded the model of {names}",
            help="look at Ray's logs of the nodes, and at their memory; what was committed is safe",
        )
    )
