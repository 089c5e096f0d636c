"""Hands out a mixture's schedule as tasks, and says afterwards what was planned and what was delivered.

The schedule is drawn as tasks are: what is measured first can be delivered before the rest is measured. On resume it is
drawn again from its start, out of sizes that are remembered, so that splits keep their names and their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from fdf.errors import StageFailed
from fdf.fingerprint import sha256_hex
from fdf.mixture.documents import Documents
from fdf.mixture.measuring import Leaf
from fdf.mixture.ranges import Cut, Ranges
from fdf.mixture.scheduler import Mix, Scheduler
from fdf.plan.job import StageJob
from fdf.plan.mixing import PlannedMixture
from fdf.plan.task import Part, Range, SplitKey, StageRef, Task
from fdf.stage.receipt import Receipt
from fdf.stage.tasks import resources_of

POSITION_DIGITS = 12


@dataclass
class MixtureRun:
    """One drawing of a mixture's schedule."""

    plan: PlannedMixture
    limit: int | None = None
    scheduler: Scheduler | None = None
    _planned: dict[str, list[int]] = field(default_factory=dict)

    def tasks(self, job: StageJob) -> Iterator[Task]:
        """Yield the ranges of the schedule as tasks, in its order."""
        ref, resources = StageRef.of(job), resources_of(job)
        leaves = self.plan.leaves
        with Documents(leaves, seed=self.plan.settings.seed) as documents:
            self.scheduler = Scheduler(self._law(leaves), documents)
            for cut in Ranges(self.scheduler, documents, limit=self.limit):
                self._count(cut, leaves)
                yield as_task(cut, job.source_name, ref, resources)

    def report(self, receipts: Sequence[Receipt]) -> dict[str, Any]:
        """Return the manifest's `mixture`. Raises StageFailed where what was delivered is off by the bound or more."""
        assert self.scheduler is not None
        here = self.scheduler.position
        self.scheduler.settle()
        drift = _drift(receipts)
        final = by_source(receipts)
        bound = max(here.largest, default=0)
        leaves = []
        worst = Fraction(0)
        for number, leaf in enumerate(self.plan.leaves):
            planned_rows, planned = self._planned.get(leaf.name, [0, 0])
            rows, _, delivered, _ = _sum(receipts, "leaves", leaf.name)
            deviation = here.deviation[number] + drift
            worst = max(worst, deviation)
            leaves.append(
                {
                    "name": leaf.name,
                    "weight": _share(self.scheduler.mix, number),
                    "planned": {"rows": planned_rows, "units": planned},
                    "delivered": {"rows": rows, "units": delivered},
                    "epochs": _epochs(here.epoch[number], here.in_epoch[number], here.lengths[number]),
                    "max_abs_deviation": str(deviation),
                    "final": final.get(leaf.name, {"rows": 0, "units": 0}),
                    "sizes": leaf.measure.describe(),
                }
            )
        report = {
            "unit": self.plan.settings.unit,
            "plan_hash": self.plan.plan_hash,
            "seed": self.plan.settings.seed,
            "total": self.plan.settings.total,
            "leaves": leaves,
            "units": here.units,
            "max_abs_deviation": str(worst),
            "bound": bound,
            "events": [e.to_json() for e in self.scheduler.events],
            "resolved": dict(self.plan.resolved or {}),
        }
        if bound and worst >= bound:
            raise StageFailed(
                f"the mixture strayed {float(worst):.1f} {self.plan.settings.unit} from its targets, and its bound is "
                f"{bound}: rows weigh something else than what was measured",
                help="a source changed under one version, or its `tokens` column is wrong: correct it and run again",
            )
        return report

    def _law(self, leaves: Sequence[Leaf]) -> Mix:
        settings = self.plan.settings
        if settings.temperature is None:
            return settings.law()
        return settings.law({leaf.name: leaf.total() for leaf in leaves if leaf.name in settings.unweighted})

    def _count(self, cut: Cut, leaves: Sequence[Leaf]) -> None:
        for number, chunk in cut.chunks:
            planned = self._planned.setdefault(leaves[number].name, [0, 0])
            planned[0] += len(chunk)
            planned[1] += int(chunk.sizes.sum())


def as_task(cut: Cut, source: str, ref: StageRef, resources: Any) -> Task:
    """Return a range of the schedule as a task, named by its position."""
    parts = tuple(
        Part(
            leaf=leaf,
            epoch=chunk.epoch,
            piece=chunk.piece,
            positions=chunk.positions.astype("<i8").tobytes(),
            sizes=chunk.sizes.astype("<i8").tobytes(),
        )
        for leaf, chunk in cut.chunks
    )
    order = np.asarray(cut.leaves).astype("<u2").tobytes()
    versions = [
        f"{p.leaf} {p.epoch} {p.piece.location} {p.piece.file.version} {sha256_hex(p.positions)}" for p in parts
    ]
    version = sha256_hex("\n".join([sha256_hex(order), *versions]))
    return Task(
        key=SplitKey.of(source, f"schedule {cut.start}", version),
        stage=ref,
        inputs=tuple(p.piece for p in parts),
        resources=resources,
        position=f"{cut.start:0{POSITION_DIGITS}d}",
        mixed=Range(start=cut.start, rows=len(cut), parts=parts, order=order),
    )


def by_source(receipts: Sequence[Receipt]) -> dict[str, dict[str, int]]:
    """Return what was kept of each source, in rows and in the mixture's unit."""
    names = sorted({name for r in receipts for name in r.mixed.get("kept", {})})
    found = {}
    for name in names:
        kept = [r.mixed["kept"][name] for r in receipts if name in r.mixed.get("kept", {})]
        found[name] = {"rows": sum(k[0] for k in kept), "units": sum(k[1] for k in kept)}
    return found


def final_report(earlier: Mapping[str, Any] | None, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Return the `mixture` of a stage that follows one: what was planned, what was delivered, what is left of it."""
    kept = by_source(receipts)
    planned = {leaf["name"]: leaf for leaf in (earlier or {}).get("leaves", ())}
    names = [*planned, *(n for n in kept if n not in planned)]
    return {
        "unit": (earlier or {}).get("unit"),
        "plan_hash": (earlier or {}).get("plan_hash"),
        "leaves": [
            {
                "name": name,
                **({k: planned[name][k] for k in ("weight", "planned", "delivered")} if name in planned else {}),
                "final": kept.get(name, {"rows": 0, "units": 0}),
            }
            for name in names
        ],
    }


def _sum(receipts: Sequence[Receipt], part: str, name: str) -> list[int]:
    found = [r.mixed[part][name] for r in receipts if name in r.mixed.get(part, {})]
    return [sum(f[i] for f in found) for i in range(4)]


def _drift(receipts: Sequence[Receipt]) -> int:
    """Return by how much, at most, what was found to weigh otherwise than planned can move any leaf off its target.

    A leaf's own differences move what it delivered, those of all move where its target is, by no more than they are.
    """
    worst = total = 0
    own: dict[str, int] = {}
    for receipt in receipts:
        leaves: Mapping[str, list[int]] = receipt.mixed.get("leaves", {})
        inside = sum(off for _, _, _, off in leaves.values())
        if inside:
            most = max((abs(v) for v in own.values()), default=0)
            worst = max(worst, most + abs(total) + 2 * inside)
        for name, (_, planned, delivered, _) in leaves.items():
            own[name] = own.get(name, 0) + delivered - planned
            total += delivered - planned
        worst = max(worst, max((abs(v) for v in own.values()), default=0) + abs(total))
    return worst


def _share(mix: Mix, leaf: int) -> str:
    shares = mix.tree.shares(mix.tree.weights, range(len(mix.tree.leaves)))
    return str(shares[leaf]) if shares else "0"


def _epochs(done: int, rows: int, length: int | None) -> float | None:
    """Return how often a leaf was read; None for a part of a first epoch whose length is not known."""
    if not rows:
        return float(done)
    return done + rows / length if length else None


__all__ = ["MixtureRun", "as_task", "by_source", "final_report"]
