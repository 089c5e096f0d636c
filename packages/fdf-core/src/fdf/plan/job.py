"""What a worker needs to know about a stage: where rows come from, what happens to them, and what is written.

A `StageJob` is frozen and picklable; it holds no state and opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from fdf.predicate import Predicate
from fdf.schema import is_scalar_score

if TYPE_CHECKING:
    from fdf.mixture.sizes import Measure
    from fdf.recipe.model import Drops, OperatorUse, Provenance
    from fdf.sinks.base import Sink
    from fdf.sources.base import Source

Columns = tuple[tuple[str, pa.DataType], ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where things stand below a stage's root: `data` files, and everything else below `meta`."""

    data: str
    meta: str

    @property
    def manifest(self) -> str:
        return f"{self.meta}manifest.json"

    @property
    def dropped(self) -> str:
        return f"{self.meta}dropped/"

    @property
    def quarantine(self) -> str:
        return f"{self.meta}quarantine/"

    @property
    def receipts(self) -> str:
        return f"{self.meta}_receipts/"


STAGE_LAYOUT = Layout(data="data/", meta="")
OUTPUT_LAYOUT = Layout(data="", meta="__fdf__/")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operator of the chain, with what the planner found out about it."""

    use: OperatorUse
    reads: tuple[str, ...]
    writes: tuple[tuple[str, pa.DataType | None], ...]
    """Columns it adds, replaces or (None) removes, after `write_fields`."""
    when: Predicate | None
    schema_in: pa.Schema
    schema_out: pa.Schema
    assets: tuple[tuple[str, str], ...] = ()
    """Digests and revisions of what its parameters name, by name."""

    @property
    def id(self) -> str:
        return self.use.id

    @property
    def scores(self) -> tuple[tuple[str, str], ...]:
        """The scalar scores it writes: (name in `__fdf__/scores`, column)."""
        if self.use.kind != "score":
            return ()
        columns = [name for name, kind in self.writes if kind is not None and is_scalar_score(kind)]
        if len(columns) == 1:
            return ((self.id, columns[0]),)
        return tuple((f"{self.id}.{c}", c) for c in columns)


@dataclass(frozen=True, kw_only=True)
class LeafJob:
    """One leaf of a mixture as workers know it: a dataset with its source, or a bucket of the stage before."""

    name: str
    measure: Measure | None
    source: Source | None = None
    known_columns: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    """The columns to read that it has: (name from here on, name in the files)."""


@dataclass(frozen=True, kw_only=True)
class StageJob:
    """One stage, ready to be run by any worker."""

    pipeline: str
    stage: str
    fingerprint: str
    seed: int
    root: str
    layout: Layout
    receipts: str
    """The folder of this fingerprint's and generation's receipts, below the root."""
    source: Source | None
    """None: the inputs are shards of an earlier stage."""
    source_name: str
    known_columns: tuple[str, ...]
    """All columns of the files' fixed schema, under their own names; further ones are extra."""
    renames: tuple[tuple[str, str], ...]
    """The columns to read: (name from here on, name in the files)."""
    input_schema: pa.Schema
    """The columns that are read, under their names from here on."""
    upstream_root: str | None
    """The store of the earlier stage's shards."""
    upstream_scores: tuple[str, ...]
    upstream_marks: tuple[str, ...]
    """Provenance columns that an earlier stage's shards carry."""
    steps: tuple[Step, ...]
    output_schema: pa.Schema
    """User columns of a kept row."""
    rejected_schema: pa.Schema
    """User columns of a dropped or quarantined row: all that a row had anywhere in the chain."""
    provenance: Provenance
    drops: Drops
    sink: Sink
    leaves: tuple[LeafJob, ...] = ()
    """What the stage mixes; none: it reads one source, or shards as they are."""
    counted: Measure | None = None
    """How kept rows are counted by source, in a run that mixes."""
    operator_versions: str
    """JSON {operator id: version} of all stages up to here."""

    @property
    def score_names(self) -> tuple[str, ...]:
        """All scalar scores of a kept row, earlier stages' first."""
        own = [name for step in self.steps for name, _ in step.scores]
        return (*self.upstream_scores, *own)
