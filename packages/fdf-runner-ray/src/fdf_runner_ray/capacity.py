"""What a cluster has and what a worker needs, node by node: a worker runs on one node whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from fdf.operator import Resources

GIB = 1 << 30

HEAD_RESOURCE = "node:__internal_head__"
KIND_LABEL = "ray.io/node-group"


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """All that one node has, whoever uses it at the moment."""

    cpus: float
    gpus: float
    memory: int
    """In bytes."""

    def slots(self, need: Resources) -> int:
        """Return how many such workers it can hold."""
        shares = [
            have / asked
            for have, asked in ((self.cpus, need.cpus), (self.gpus, need.gpus), (self.memory, need.memory))
            if asked
        ]
        # A tenth of a GPU fits ten times, whatever floats say of it.
        return int(min(shares, default=1) + 1e-6)

    def __str__(self) -> str:
        memory = f", {self.memory / GIB:.1f} GiB" if self.memory else ""
        return f"{_amount(self.cpus)} CPUs, {_amount(self.gpus)} GPUs{memory}"


@dataclass(frozen=True, kw_only=True)
class Node(Capacity):
    """One living node of the cluster."""

    id: str
    host: str
    store: int = 0
    """How many bytes its object store holds."""
    session: str = ""
    """The folder of Ray's files on the node."""
    head: bool = False
    kind: str = ""
    """The autoscaler's name for nodes like it, where the node was told."""

    def __str__(self) -> str:
        return f"{self.host} ({super().__str__()})"


def nodes() -> list[Node]:
    """Return the living nodes of the cluster that this process is connected to."""
    there: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [_node(told) for told in there if told["Alive"]]


def slots(there: Iterable[Capacity], need: Resources) -> int:
    """Return how many such workers the nodes can hold together."""
    return sum(node.slots(need) for node in there)


def _node(told: dict[str, Any]) -> Node:
    has = told["Resources"]
    return Node(
        id=told["NodeID"],
        host=told["NodeManagerHostname"],
        cpus=has.get("CPU", 0),
        gpus=has.get("GPU", 0),
        memory=int(has.get("memory", 0)),
        store=int(has.get("object_store_memory", 0)),
        session=str(Path(told.get("RayletSocketName", "")).parent.parent),
        head=HEAD_RESOURCE in has,
        kind=(told.get("Labels") or {}).get(KIND_LABEL, ""),
    )


def words(need: Resources) -> str:
    """Return what a worker needs, for people."""
    parts = [f"{_amount(need.cpus)} CPUs"]
    if need.gpus:
        parts.append(f"{_amount(need.gpus)} GPUs")
    if need.memory:
        parts.append(f"{need.memory / GIB:.1f} GiB of memory")
    return ", ".join(parts)


def inventory(there: Sequence[Node]) -> str:
    """Return what a cluster has, for people: nodes that are alike are told once."""
    kinds: dict[tuple[float, float, int], list[Node]] = {}
    for node in there:
        kinds.setdefault((node.cpus, node.gpus, node.memory // GIB), []).append(node)
    if not kinds:
        return "it has no nodes"
    return "; ".join(str(same[0]) if len(same) == 1 else f"{len(same)} like {same[0]}" for same in kinds.values())


def _amount(value: float) -> str:
    return f"{value:g}"
