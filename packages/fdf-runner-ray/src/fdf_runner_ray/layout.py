"""What a stage takes of a cluster: its workers, and the actors that hold its models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fdf.models.contract import ModelOperator
from fdf.operator import Resources
from fdf.plan.job import Step
from fdf_runner_ray.capacity import Capacity
from fdf_runner_ray.model_host import Kind

SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A kind of actors that hold models, and what one of them reserves."""

    kind: Kind
    need: Resources

    @property
    def by_node(self) -> bool:
        """Say whether there is at most one on each node: on the CPUs of the workers that wait for it."""
        return not self.need.gpus


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a stage takes: of a node for each worker, and for each actor that holds models."""

    worker: Resources
    pools: tuple[Pooled, ...] = ()

    @property
    def in_turn(self) -> bool:
        """Say whether models take turns."""
        return any(pool.kind.in_turn for pool in self.pools)

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Return the operators whose models are not in the workers."""
        return tuple(name for pool in self.pools for name in pool.kind.operator_ids)

    @property
    def least(self) -> tuple[Resources, ...]:
        """Return what has to be there at the same time: an actor of each kind, and a worker that asks them."""
        return (*(pool.need for pool in self.pools), self.worker)

    def workers_on(self, there: Iterable[Capacity]) -> int:
        """Return how many workers nodes can hold beside as many actors for models as their GPUs allow, at least 1.

        One of each goes first, then a worker; so neither can keep the other from being there at all.
        """
        free = [_Free(node) for node in there]
        if self.worker == Resources(cpus=0):
            return max(1, len(free))
        placed = [any(node.take(need) for node in free) for need in _largest_first(self.least)]
        growing = [pool.need for pool in self.pools if not pool.by_node]
        while growing and all(placed):
            growing = [need for need in growing if any(node.take(need) for node in free)]
        workers = 1
        while any(node.take(self.worker) for node in free):
            workers += 1
        return workers


def lay_out(steps: Sequence[Step], there: Sequence[Capacity], *, gpus: bool) -> Layout:
    """Return what a stage takes of a cluster with these nodes; `gpus`: whether models run on GPUs at all.

    An operator that asks for no GPU runs its model in the workers. Of the others each has actors of its own; where
    the cluster cannot hold one of each at the same time, there is one kind that holds all of them in turn. Without
    GPUs it holds all of them at once, on CPUs that its node's workers have reserved.
    """
    held = [s for s in steps if isinstance(s.use.operator, ModelOperator) and s.use.resources.gpus]
    rest = [s.use.resources for s in steps if s not in held]
    worker = Resources(
        cpus=max((r.cpus for r in rest), default=1),
        gpus=max((r.gpus for r in rest), default=0) if gpus else 0,
        memory=max((r.memory for r in rest), default=0),
    )
    if not held:
        return Layout(worker=worker)
    memory = {s.id: s.use.resources.memory for s in held}
    if not gpus:
        together = Kind(operator_ids=tuple(memory), memory=memory)
        return Layout(worker=worker, pools=(Pooled(kind=together, need=Resources(cpus=0, memory=_sum(memory))),))
    each = Layout(
        worker=worker,
        pools=tuple(
            Pooled(kind=Kind(operator_ids=(s.id,), memory={s.id: memory[s.id]}), need=s.use.resources) for s in held
        ),
    )
    if len(held) == 1 or fit_together(each.least, there):
        return each
    largest = Resources(
        cpus=max(s.use.resources.cpus for s in held),
        gpus=max(1, *(s.use.resources.gpus for s in held)),
        memory=max(memory.values()),
    )
    in_turn = Kind(operator_ids=tuple(memory), memory=memory, in_turn=True)
    return Layout(worker=worker, pools=(Pooled(kind=in_turn, need=largest),))


def fit_together(needs: Iterable[Resources], there: Iterable[Capacity]) -> bool:
    """Say whether nodes that nobody else uses can hold all of these at once: the largest first, each where it fits."""
    free = [_Free(node) for node in there]
    return all(any(node.take(need) for node in free) for need in _largest_first(needs))


def _largest_first(needs: Iterable[Resources]) -> list[Resources]:
    return sorted(needs, key=lambda need: (-need.gpus, -need.cpus, -need.memory))


class _Free:
    """What is left of a node. Of a GPU, a part is taken from one, and what is larger from whole ones."""

    def __init__(self, node: Capacity) -> None:
        self._node = node
        self._gpus = [1.0] * int(node.gpus)

    def take(self, need: Resources) -> bool:
        """Take it where it fits; say whether it did."""
        if need.cpus > self._node.cpus + SLACK or need.memory > self._node.memory:
            return False
        share = min(need.gpus, 1.0)
        wanted = max(1, round(need.gpus)) if need.gpus else 0
        fitting = [number for number, left in enumerate(self._gpus) if left > share - SLACK][:wanted]
        if len(fitting) < wanted:
            return False
        for number in fitting:
            self._gpus[number] -= share
        self._node = replace(self._node, cpus=self._node.cpus - need.cpus, memory=self._node.memory - need.memory)
        return True


def _sum(memory: dict[str, int]) -> int:
    """Return what models need together: what they declare, where all of them do."""
    return sum(memory.values()) if all(memory.values()) else 0
