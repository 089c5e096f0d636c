"""Hands out a mixture's schedule as tasks, and says afterwards what was planned and what was delivered.

The schedule is drawn as tasks are: what is measured first can be delivered before the rest is measured. On resume it is
drawn again from its start, out of sizes that are remembered, so that splits keep their names and their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from fdf.errors import StageFailed
from fdf.fingerprint import sha256_hex
from fdf.mixture.blocks import Blocks, RowsOfBlocks
from fdf.mixture.documents import Chunk, Documents, first_position
from fdf.mixture.measuring import Measurable
from fdf.mixture.position import written
from fdf.mixture.ranges import MOST_BYTES, MOST_ROWS, Cut, Ranges
from fdf.mixture.scheduler import Mix, Scheduler
from fdf.operator import Resources
from fdf.plan.job import StageJob
from fdf.plan.mixing import PlannedMixture
from fdf.plan.task import Part, Range, SplitKey, StageRef, Task
from fdf.stage.receipt import Receipt
from fdf.stage.shard_file import FileEntry
from fdf.stage.shards import BucketLeaf, Shards, thresholds
from fdf.stage.streaming.streams import Streams, open_streams
from fdf.stage.tasks import needed_resources

POSITION_DIGITS = 12
_GOES_ON = frozenset({"renormalize", "fallback", "repeat"})


@dataclass
class MixtureRun:
    """One drawing of the schedule of an input's mixture."""

    plan: PlannedMixture
    limit: int | None = None
    scheduler: Scheduler | None = None
    leaves: Sequence[Measurable] = ()
    streams: Streams = field(default_factory=Streams)
    interrupted: Callable[[], None] = lambda: None
    """Called while it waits for a leaf's next documents; may raise."""
    _planned: dict[str, list[int]] = field(default_factory=dict)
    _ranges: Ranges | None = None

    def __post_init__(self) -> None:
        self.leaves = self.leaves or self.plan.leaves

    def tasks(self, job: StageJob) -> Iterator[Task]:
        """Yield the ranges of the schedule as tasks, in its order."""
        ref, resources = StageRef.of(self.streams.job(job)), needed_resources(job)
        seed = self.plan.settings.seed
        with Documents(self.leaves, seed=seed, interrupted=self.interrupted) as documents:
            mix = self._law()
            blocks = Blocks(documents) if self.plan.settings.granularity == "block" else None
            self.scheduler = Scheduler(mix, blocks or documents, first_position(mix, self.leaves))
            rows = RowsOfBlocks(self.scheduler, blocks) if blocks else None
            self._ranges = Ranges(self.scheduler, documents, rows, limit=self.limit)
            for cut in self._ranges:
                self._count(cut)
                yield self.streams.note(as_task(cut, job.source_name, ref, resources))
            yield from self._left_out(documents, self._ranges.drawn, job.source_name, ref, resources)

    def _left_out(
        self, documents: Documents, start: int, source: str, ref: StageRef, resources: Resources
    ) -> Iterator[Task]:
        """Yield tasks for the rows that the mixture leaves out, where these are to be accounted for."""
        return iter(())

    def report(self, receipts: Sequence[Receipt]) -> dict[str, Any]:
        """Return the manifest's `mixture`. Raises StageFailed where what was delivered is off by the bound or more."""
        assert self.scheduler is not None
        here = self.scheduler.position
        self.scheduler.settle()
        # The schedule goes by what footers say, whatever the rows of a block weigh.
        drift = 0 if self.plan.settings.granularity == "block" else _drift(receipts)
        final = by_source(receipts)
        bound = max(here.largest, default=0)
        leaves = []
        worst = Fraction(0)
        for number, leaf in enumerate(self.leaves[: len(here.delivered)]):
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
                    "max_abs_deviation": written(deviation),
                    **self._final(leaf.name, final),
                    "sizes": leaf.describe(),
                }
            )
        report = {
            "unit": self.plan.settings.unit,
            "granularity": self.plan.settings.granularity,
            "plan_hash": self.plan.plan_hash,
            "seed": self.plan.settings.seed,
            "total": self.plan.settings.total,
            "leaves": leaves,
            "units": here.units,
            "max_abs_deviation": written(worst),
            "bound": bound,
            "events": [e.to_json() for e in self.scheduler.events],
            "track": self._ranges.track.to_json() if self._ranges else [],
            **self._more(receipts, final),
        }
        if bound and worst >= bound:
            raise StageFailed(
                f"the mixture strayed {float(worst):.1f} {self.plan.settings.unit} from its targets, and its bound is "
                f"{bound}: rows weigh something else than what was measured",
                help="a source changed under one version, or its `tokens` column is wrong: correct it and run again",
            )
        return report

    def _final(self, leaf: str, final: Mapping[str, dict[str, int]]) -> dict[str, Any]:
        """Return what is said of the rows of a leaf that the stage kept."""
        return {"final": final.get(leaf, {"rows": 0, "units": 0})}

    def _more(self, receipts: Sequence[Receipt], final: Mapping[str, dict[str, int]]) -> dict[str, Any]:
        """Return what is said beyond what every mixture says."""
        return {"resolved": dict(self.plan.resolved or {})}

    def _law(self) -> Mix:
        settings = self.plan.settings
        if settings.temperature is None:
            return settings.law()
        return settings.law({leaf.name: leaf.total() for leaf in self.leaves if leaf.name in settings.unweighted})

    def _count(self, cut: Cut) -> None:
        for number, chunk in cut.chunks:
            planned = self._planned.setdefault(self.leaves[number].name, [0, 0])
            planned[0] += len(chunk)
            planned[1] += int(chunk.sizes.sum())


class StageMixtureRun(MixtureRun):
    """One drawing of the schedule of a stage's mixture. Rows that it does not deliver are tasks too: to be dropped."""

    def __init__(self, plan: PlannedMixture, shards: Shards, told: Mapping[str, Mapping[str, Any]]) -> None:
        buckets = shards.buckets
        names = (*buckets.leaves, *buckets.outside)
        super().__init__(plan, leaves=[BucketLeaf(n, i, shards.measure, shards) for i, n in enumerate(names)])
        self._told = told
        self._buckets = buckets

    def _left_out(
        self, documents: Documents, start: int, source: str, ref: StageRef, resources: Resources
    ) -> Iterator[Task]:
        assert self.scheduler is not None
        here = self.scheduler.position
        for number in range(len(self.leaves)):
            if number < len(here.epoch) and here.epoch[number]:
                continue  # Each of its rows was delivered once at least.
            for chunks in _together(documents.rest(number, 0)):
                yield left_out_task(number, chunks, start=start, source=source, ref=ref, resources=resources)
                start += sum(map(len, chunks))

    def _law(self) -> Mix:
        return replace(super()._law(), may_be_empty=self.plan.settings.on_exhausted in _GOES_ON)

    def _final(self, leaf: str, final: Mapping[str, dict[str, int]]) -> dict[str, Any]:
        return {"quantile": dict(self._told[leaf])} if leaf in self._told else {}

    def _more(self, receipts: Sequence[Receipt], final: Mapping[str, dict[str, int]]) -> dict[str, Any]:
        left = []
        for name in (*self._buckets.leaves, *self._buckets.outside):
            rows, units, _, _ = _sum(receipts, "left_out", name)
            if rows:
                left.append({"name": name, "rows": rows, "units": units})
        return {"left_out": left, "final": dict(final)}


def left_out_task(
    leaf: int, chunks: Sequence[Chunk], *, start: int, source: str, ref: StageRef, resources: Resources
) -> Task:
    """Return rows of some shards that a mixture leaves out as a task, named by the first shard and the bucket."""
    parts = tuple(_part(leaf, chunk) for chunk in chunks)
    version = sha256_hex("\n".join(f"{p.piece.file.version} {sha256_hex(p.positions)}" for p in parts))
    location = f"left out {leaf} {chunks[0].piece.location} {int(chunks[0].positions[0])}"
    return Task(
        key=SplitKey.of(source, location, version),
        stage=ref,
        inputs=tuple(p.piece for p in parts),
        resources=resources,
        position=f"{start:0{POSITION_DIGITS}d}",
        mixed=Range(start=start, rows=sum(map(len, chunks)), parts=parts, order=b""),
    )


def _together(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Yield rows in the order of their shards, in groups of bounded rows and bytes."""
    group: list[Chunk] = []
    rows, held = 0, 0.0
    for chunk in chunks:
        step = max(1, min(MOST_ROWS, int(MOST_BYTES / chunk.weight)))
        for start in range(0, len(chunk), step):
            part = chunk.cut(start, start + step)
            if group and (rows + len(part) > MOST_ROWS or held + len(part) * part.weight > MOST_BYTES):
                yield group
                group, rows, held = [], 0, 0.0
            order = np.argsort(part.positions)
            group.append(Chunk(0, part.piece, part.positions[order], part.sizes[order], part.weight))
            rows += len(part)
            held += len(part) * part.weight
    if group:
        yield group


def _part(leaf: int, chunk: Chunk) -> Part:
    return Part(
        leaf=leaf,
        epoch=chunk.epoch,
        piece=chunk.piece,
        positions=chunk.positions.astype("<i8").tobytes(),
        sizes=chunk.sizes.astype("<i8").tobytes(),
    )


def as_task(cut: Cut, source: str, ref: StageRef, resources: Resources) -> Task:
    """Return a range of the schedule as a task, named by its position."""
    parts = tuple(_part(leaf, chunk) for leaf, chunk in cut.chunks)
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


def open_mixture(
    plan: PlannedMixture,
    job: StageJob,
    upstream: Sequence[FileEntry] | None,
    manifest: Mapping[str, Any] | None,
    *,
    limit: int | None,
    interrupted: Callable[[], None] = lambda: None,
) -> MixtureRun:
    """Return the mixture of a stage, ready to be drawn; `upstream` and `manifest` are of the stage before."""
    if plan.buckets is None:
        streams = open_streams(plan.leaves, job)
        leaves = streams.among(plan.leaves)
        return MixtureRun(plan, limit=limit, leaves=leaves, streams=streams, interrupted=interrupted)
    assert upstream is not None
    assert manifest is not None
    assert plan.measure is not None
    values, told = thresholds(plan.buckets.quantiles, job, upstream, manifest)
    columns = tuple(dict.fromkeys([*plan.bucket_columns, *plan.measure.reads]))
    shards = Shards(job, upstream, plan.buckets, plan.measure, values, columns)
    return StageMixtureRun(plan, shards, told)
