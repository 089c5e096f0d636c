"""Runs the first rows of a recipe through its stages in a temporary folder, and pairs what went in with what came out.

The engine is the run's own, so decisions, ids and scores are those of the run; nothing is written where the recipe
says, no run is recorded and no hook is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fdf.errors import PlanError, Problem, did_you_mean
from fdf.plan.compile import compile_plan
from fdf.plan.model import StagePlan
from fdf.recipe.model import Materialize, Recipe, StageUse
from fdf.report.committed import CommittedStage
from fdf.report.dropped import plain
from fdf.runner.record import now
from fdf.runner.serial import SerialRunner
from fdf.schema import DROP_EVIDENCE, DROP_REASON, DROPPED_BY, ERROR, FAILED_IN, ID, SCORES, is_internal
from fdf.stage.directory import StageDirectory
from fdf.stage.events import CancelToken, Event
from fdf.stage.shard_file import FileEntry
from fdf.stage.tasks import stage_tasks

INPUT = "fdf-preview-input"
"""The stage that only reads, before the recipe's own."""


@dataclass(kw_only=True)
class PreviewRow:
    """One row on its way: `before` is None for a row that a generator made, `after` for one that did not come out."""

    id: str
    outcome: str = "gone"
    """`kept`, `dropped`, `quarantined`, or `expanded` (replaced by the rows made from it, if any)."""
    stage: str | None = None
    operator: str | None = None
    reason: str | None = None
    evidence: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    scores: dict[str, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What became of the first rows: each row, and the manifests of the stages that they went through."""

    rows: tuple[PreviewRow, ...]
    manifests: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def preview(recipe: Recipe, *, rows: int, stage: str | None, folder: Path) -> Preview:
    """Run the first `rows` rows below `folder`: through one stage (the ones before it run too), or through all."""
    names = [s.name for s in recipe.stages]
    if stage is not None and stage not in names:
        raise PlanError(
            Problem(
                code="FDF331",
                message=f"no stage is named `{stage}`",
                hint=did_you_mean(stage, names) or f"there are: {', '.join(names)}",
            )
        )
    plan = compile_plan(_readable(recipe), limit=rows, until=stage)
    done: list[CommittedStage] = []
    for planned in plan.stages:
        done.append(_run(_moved(planned, folder, done), done, limit=rows))
    first = next((i for i, s in enumerate(done) if s.name == stage), 1)
    return Preview(
        rows=tuple(_pair(done[first - 1], done[first:])),
        manifests=tuple(s.manifest for s in done[first:]),
        notes=plan.notes,
    )


def _readable(recipe: Recipe) -> Recipe:
    """Return the recipe with everything kept that the preview tells of, after a stage that only reads."""
    stages = tuple(replace(s, materialize=Materialize(drops="full"), max_error_rate=1.0) for s in recipe.stages)
    reading = StageUse(name=INPUT, materialize=Materialize(drops="full"), max_error_rate=1.0)
    return replace(recipe, stages=(reading, *stages), output=None, provenance="full")


def _moved(stage: StagePlan, folder: Path, done: list[CommittedStage]) -> StagePlan:
    job = replace(stage.job, root=str(folder / stage.name), upstream_root=done[-1].root if done else None)
    return replace(stage, job=job)


def _run(stage: StagePlan, done: list[CommittedStage], *, limit: int) -> CommittedStage:
    directory = StageDirectory(stage, run_id="preview", config_hash="", generation="0")
    upstream = [FileEntry.from_json(f) for f in done[-1].manifest["outputs"]] if done else None
    tasks = stage_tasks(stage, directory.job, upstream, limit=limit)

    def unheard(_: Event) -> None:
        """A preview is over before its progress would be of use."""

    SerialRunner(device="cpu").run(directory.pending(tasks, unheard), unheard, CancelToken())
    manifest = directory.commit({"run_id": "preview", "started_at": now(), "finished_at": now()})
    return CommittedStage(root=stage.root, layout=stage.job.layout, manifest=manifest)


def _pair(start: CommittedStage, stages: list[CommittedStage]) -> Iterator[PreviewRow]:
    """Yield the rows that went into the stages in their order, each followed by the rows that were made from it."""
    rows = {row[ID]: PreviewRow(id=row[ID], before=_own(row)) for row in _rows(start, "outputs")}
    made: dict[str, list[PreviewRow]] = {}

    def known(row: dict[str, Any]) -> PreviewRow:
        found = rows.get(row[ID])
        if found is None:
            # A generated row: `<parent>/<operator id>/<n>`.
            parent = next((id_ for id_ in rows if row[ID].startswith(f"{id_}/")), "")
            found = rows[row[ID]] = PreviewRow(id=row[ID])
            made.setdefault(parent, []).append(found)
        return found

    original = list(rows)
    for row in _rows(start, "quarantine") if stages and start.name == INPUT else ():
        bad = rows[row[ID]] = PreviewRow(id=row[ID], before=_own(row))
        original.append(row[ID])
        _mark(bad, "quarantined", "input", row)
    for stage in stages:
        for part, outcome in (("outputs", "kept"), ("dropped", "dropped"), ("quarantine", "quarantined")):
            for row in _rows(stage, part):
                _mark(known(row), outcome, stage.name, row)
    for id_ in original:
        found = rows[id_]
        if found.outcome == "gone" or (found.outcome == "kept" and found.stage != stages[-1].name):
            # Every row is accounted for: one that is neither here nor there was replaced by what was made from it.
            found.outcome, found.after = "expanded", None
        yield found
        yield from made.get(id_, ())


def _mark(found: PreviewRow, outcome: str, stage: str, row: dict[str, Any]) -> None:
    found.outcome, found.stage = outcome, stage
    found.scores |= row.get(SCORES) or {}
    if outcome == "kept":
        found.after = _own(row)
        return
    found.after = None
    found.operator = row.get(DROPPED_BY) or row.get(FAILED_IN)
    found.reason = row.get(DROP_REASON) or row.get(ERROR)
    found.evidence = row.get(DROP_EVIDENCE)


def _rows(stage: CommittedStage, part: str) -> Iterator[dict[str, Any]]:
    store = stage.store()
    for entry in stage.manifest[part]:
        with store.open(entry["path"]) as stream:
            table: pa.Table = pq.ParquetFile(stream).read()
        yield from table.to_pylist()


def _own(row: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items() if not is_internal(name)}
