"""What the cluster's autoscaler could bring: nodes that are not there, and would come where work waits for them.

Not for nodes that are there (`fdf_runner_ray.capacity`), and it asks for none: hosts that wait for room are what makes
an autoscaler act.

Ray has no public name for the node types of its autoscaler, and its own autoscalers tell them to nobody: of Ray 2.60's
programs none calls `ReportClusterConfig`, which is there for platforms that do. So they are looked for where the
autoscaler itself has them from, on the head node: with KubeRay the RayCluster, else the file given to
`ray start --autoscaling-config`, as `ray up` does. What another version of Ray keeps elsewhere is not found, and then
the cluster is taken as one without an autoscaler.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fdf_runner_ray.capacity import Capacity, Node, nodes

FRESH = 60.0
"""Seconds for which node types hold as they were read: they may be edited while the cluster runs."""
HEAD_PATIENCE = 10.0
LEAST_AHEAD = 5
"""Nodes that may be asked for at once, or as many as there are: what Ray's autoscaler starts at a time by default
(`upscaling_speed` of 1 and AUTOSCALER_UPSCALING_INITIAL_NUM_NODES)."""
UNLIMITED = -1
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, kw_only=True)
class Kind(Capacity):
    """A type of nodes, and how many more of them could be started: None where there is no limit."""

    name: str
    most: int | None

    def __str__(self) -> str:
        number = "any number" if self.most is None else f"{self.most}"
        return f"{number} like {self.name} ({super().__str__()})"


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """What an autoscaler was told: here `most` of each type counts the nodes that are there already."""

    kinds: Sequence[Kind] = ()
    most: int | None = None
    """Nodes of all types together, without the head."""


@dataclass(kw_only=True)
class _Read:
    """The catalog of a cluster, and when it was read."""

    cluster: tuple[str, str] = ("", "")
    catalog: Catalog = field(default_factory=Catalog)
    at: float = 0.0


_read = _Read()


def to_come() -> list[Kind]:
    """Return the types of nodes that the cluster's autoscaler can start now; none where no autoscaler is known.

    A type of which no more may be started is left out. A limit on all nodes together is a limit on each type.
    """
    there = nodes()
    return left(_catalog(there), there)


def brought() -> list[Kind]:
    """Return the nodes for which actors may wait beyond those that fit on what is there, one by one.

    Of each type these are as many as Ray would start at a time. As they come they count as there, and the next may be
    asked for; a cluster without a limit so grows with its work, and not at once to the number of its splits.
    """
    there = nodes()
    ahead = max(LEAST_AHEAD, len(there))
    kinds = left(_catalog(there), there)
    return [kind for kind in kinds for _ in range(ahead if kind.most is None else min(ahead, kind.most))]


def offer(kinds: Sequence[Kind]) -> str:
    """Return what could come, for people, as the end of a sentence on what is there."""
    return f"; its autoscaler could bring {', '.join(map(str, kinds))}" if kinds else ""


def left(catalog: Catalog, there: Iterable[Node]) -> list[Kind]:
    """Return what of a catalog is not there yet. A node that was not told its type counts for those of its size."""
    workers = [node for node in there if not node.head]
    room = None if catalog.most is None else catalog.most - len(workers)
    kinds = []
    for kind in catalog.kinds:
        living = sum(_is(node, kind) for node in workers)
        limits = [limit for limit in (None if kind.most is None else kind.most - living, room) if limit is not None]
        kinds.append(replace(kind, most=min(limits, default=None)))
    return [kind for kind in kinds if kind.most is None or kind.most > 0]


def _is(node: Node, kind: Kind) -> bool:
    # Memory is found out on the node where its type declares none.
    return node.kind == kind.name if node.kind else (node.cpus, node.gpus) == (kind.cpus, kind.gpus)


def _catalog(there: Sequence[Node]) -> Catalog:
    head = next((node for node in there if node.head), None)
    if head is None:
        return Catalog()
    cluster = (ray.get_runtime_context().gcs_address, head.id)
    if _read.cluster != cluster:
        _read.cluster, _read.catalog, _read.at = cluster, Catalog(), 0.0
    # An autoscaler starts with its cluster: where none was found at first, none is looked for again.
    if not _read.at or (_read.catalog.kinds and time.monotonic() - _read.at > FRESH):
        found = _reported(head) or _of_head(head)
        if found.kinds:  # Where there is no answer for once, what was known holds on.
            _read.catalog = found
        _read.at = time.monotonic()
    return _read.catalog


def _reported(head: Node) -> Catalog | None:
    """Return what the platform has reported to the cluster, or None."""
    with suppress(Exception):  # Not public: it may be missing, or be another thing, in another version.
        told: Any = ray._private.state.state.get_cluster_config()  # noqa: SLF001
        kinds = [
            _kind(group.name, group.resources, most=None if group.max_count == UNLIMITED else group.max_count)
            for group in (told.node_group_configs if told else ())
        ]
        # The head has a group of its own there, which can have no second node.
        return Catalog(kinds=[kind for kind in kinds if kind.most != 1 or not _is(head, kind)]) if kinds else None
    return None


def _of_head(head: Node) -> Catalog:
    """Return what the autoscaler beside the head node was told; the head is asked where this is another node."""
    if ray.get_runtime_context().get_node_id() == head.id:
        return configured(head.session)
    asked = _asks.options(scheduling_strategy=NodeAffinitySchedulingStrategy(head.id, soft=False)).remote(head.session)
    try:
        found: Catalog = ray.get(asked, timeout=HEAD_PATIENCE)
    except RayError:  # It is busy, or lacks this package.
        ray.cancel(asked, force=True)
        return Catalog()
    return found


def configured(session: str) -> Catalog:
    """Return what the autoscaler of a head node that runs here was told, by the folder of the head's Ray files."""
    with suppress(Exception):  # Files of other programs, and names of Ray's that are not public.
        config = _of_monitor(session) or _of_kuberay()
        return catalog_of(config) if config else Catalog()
    return Catalog()


_asks: Any = ray.remote(num_cpus=0, max_retries=0)(configured)


def _of_kuberay() -> Mapping[str, Any] | None:
    """Return what KubeRay's autoscaler makes of the RayCluster; it runs in a container of its own."""
    name = os.environ.get("RAY_CLUSTER_NAME")  # Set by KubeRay in all its containers.
    if not name or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return None
    namespace = os.environ.get("RAY_CLUSTER_NAMESPACE") or (SERVICE_ACCOUNT / "namespace").read_text().strip()
    provider: Any = import_module("ray.autoscaler._private.kuberay.node_provider")
    reader: Any = import_module("ray.autoscaler._private.kuberay.autoscaling_config")
    cluster = provider.KubernetesHttpApiClient(namespace).get(f"rayclusters/{name}")
    if not cluster["spec"].get("enableInTreeAutoscaling"):
        return None
    made: Mapping[str, Any] = reader._derive_autoscaling_config_from_ray_cr(cluster)  # noqa: SLF001
    return made


def _of_monitor(session: str) -> Mapping[str, Any] | None:
    """Return the file that the monitor of a head was started with. Without an autoscaler it runs without a file."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        file = next((w.partition("=")[2] for w in words if w.startswith("--autoscaling-config=")), None)
        if file and f"--logs-dir={session}/logs" in words:
            path = Path(process.cwd(), Path(file).expanduser())
            read: Mapping[str, Any] = yaml.safe_load(path.read_text())
            return read
    return None


def catalog_of(config: Mapping[str, Any]) -> Catalog:
    """Return the node types of an autoscaler's configuration, the file that `ray up` takes.

    A type without resources is left out: Ray finds out what its nodes have when the first one is there. A type without
    `max_workers` has that of all types together, the head's has none (Ray docs, "Cluster YAML configuration options").
    """
    most = config.get("max_workers")
    kinds = [
        _kind(name, has["resources"], most=has.get("max_workers", 0 if name == config.get("head_node_type") else most))
        for name, has in config["available_node_types"].items()
        if has.get("resources")
    ]
    return Catalog(kinds=kinds, most=most)


def _kind(name: str, has: Mapping[str, Any], *, most: int | None) -> Kind:
    return Kind(
        name=name,
        cpus=float(has.get("CPU", 0)),
        gpus=float(has.get("GPU", 0)),
        # Without a word on memory Ray's autoscaler starts no such node for what asks for some.
        memory=int(has.get("memory", 0)),
        most=most,
    )
