"""The plan: what a run will do, as frozen data that can be printed and compared without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fdf.plan.job import StageJob

if TYPE_CHECKING:
    from fdf.plan.mixing import PlannedMixture
    from fdf.recipe.model import Mode, Recipe


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage of the plan. The output is a stage too: the last one, without operators."""

    name: str
    job: StageJob
    fingerprint: str
    upstream: str | None
    """The stage whose shards are the input; None for the one that reads the source."""
    mode: Mode
    keep: int
    min_errors: int
    max_error_rate: float
    group_bytes: int | None = None
    """For the output: the asked size of its shards."""
    limit: int | None = None
    """`--limit`: how many input rows the whole run reads."""
    physical_schema: pa.Schema | None = field(default=None, repr=False)
    """For the stage that reads the source: the pinned columns of its files."""

    mixture: PlannedMixture | None = field(default=None, repr=False)
    """For a stage that mixes."""

    @property
    def root(self) -> str:
        return self.job.root

    def describe(self) -> dict[str, Any]:
        """Return the stage as plain JSON values, for `fdf plan`."""
        job = self.job
        return {
            "stage": self.name,
            "root": job.root,
            "mode": self.mode,
            "fingerprint": self.fingerprint,
            "reads": job.source_name if self.upstream is None else self.upstream,
            "columns": {f.name: str(f.type) for f in job.input_schema},
            "operators": [
                {
                    "id": s.id,
                    "kind": s.use.kind,
                    "op": s.use.op,
                    "reads": list(s.reads),
                    "writes": {n: None if t is None else str(t) for n, t in s.writes},
                    **({"when": s.use.when} if s.use.when else {}),
                }
                for s in job.steps
            ],
            "output": {f.name: str(f.type) for f in job.output_schema},
            "format": job.sink.type,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All stages in order, what the planner noticed, and where the run keeps its record."""

    recipe: Recipe
    stages: tuple[StagePlan, ...]
    run_dir: Path
    limit: int | None = None
    notes: tuple[str, ...] = ()

    def describe(self) -> Mapping[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "name": self.recipe.name,
            "run_id": self.recipe.run_id,
            "config_hash": self.recipe.config_hash,
            "run_dir": str(self.run_dir),
            "limit": self.limit,
            "notes": list(self.notes),
            "stages": [s.describe() for s in self.stages],
        }
