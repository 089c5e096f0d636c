"""The validated recipe: what every later room reads. Frozen data; nothing here opens a file.

A `Recipe` is made by `fdf.recipe.load` (YAML or a dict) or `fdf.Pipeline` (Python). In it every default is filled in,
every template is resolved, and every operator, source and sink is an instance whose parameters are checked.
"""

from __future__ import annotations

import math
import operator as compare
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fdf.errors import Place
from fdf.operator import Operator, Resources

if TYPE_CHECKING:
    # Sources and sinks are a layer above: a recipe holds their instances and never calls them.
    from fdf.sinks.base import Sink
    from fdf.sources.base import Source

Mode: TypeAlias = Literal["incremental", "overwrite", "error"]
Drops: TypeAlias = Literal["full", "sample", "ids", "none"]
Provenance: TypeAlias = Literal["full", "lite", "none"]
RowsPerBatch: TypeAlias = int | Literal["auto"]
OnError: TypeAlias = Literal["fail", "quarantine", "null"]

SHARD_SIZE = 256 << 20

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": compare.le,
    ">=": compare.ge,
    "==": compare.eq,
    "!=": compare.ne,
    "<": compare.lt,
    ">": compare.gt,
}


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One `require:` of an evaluator: a metric of its report, a comparison and a bound."""

    metric: str
    comparison: str
    bound: float

    def holds(self, value: float | None) -> bool:
        """Say whether a reported value passes; a missing one or NaN never does."""
        return value is not None and not math.isnan(value) and COMPARISONS[self.comparison](value, self.bound)

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {self.bound:g}"


@dataclass(frozen=True, kw_only=True)
class SourceUse:
    """One source as the input. `name` is the first half of every row id's hash and the value of `__fdf__/source`."""

    name: str
    source: Source
    place: Place | None = None
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)
    """Where each of its keys stands."""


@dataclass(frozen=True, kw_only=True)
class DatasetUse:
    """One dataset of a mixture, or a group of them, which has no source of its own."""

    name: str
    source: Source | None = None
    weight: float | None = None
    cap: int | None = None
    epochs: float | None = None
    datasets: tuple[DatasetUse, ...] = ()
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class MixtureUse:
    """A mixture as the input: its datasets, and its other keys (`unit`, `seed`, `total`, `schedule`...) as written."""

    name: str
    datasets: tuple[DatasetUse, ...]
    settings: dict[str, Any]
    place: Place | None = None
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)
    """Where each of its keys stands."""

    def leaves(self) -> Iterator[DatasetUse]:
        """Yield the datasets that have a source, groups left aside, in their order."""
        waiting = list(reversed(self.datasets))
        while waiting:
            dataset = waiting.pop()
            if dataset.datasets:
                waiting += reversed(dataset.datasets)
            else:
                yield dataset


@dataclass(frozen=True, kw_only=True)
class Materialize:
    """Where a stage is committed and what it keeps there. `path` None: below the run directory."""

    path: str | None = None
    mode: Mode = "incremental"
    drops: Drops = "sample"
    keep: int = 0


@dataclass(frozen=True, kw_only=True)
class OperatorUse:
    """One operator in a stage. `op` is as written; `operator` is the checked instance."""

    id: str
    kind: str
    op: str
    operator: Operator
    distribution: str
    distribution_version: str
    resources: Resources = field(default_factory=Resources)
    batch_size: RowsPerBatch | None = None
    write_fields: tuple[str, ...] | None = None
    on_error: OnError = "quarantine"
    when: str | None = None
    require: tuple[Gate, ...] = ()
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class StageUse:
    """One stage: a chain of operators, or (with `mixture`) a new mixture of the previous stage's rows."""

    name: str
    operators: tuple[OperatorUse, ...] = ()
    mixture: dict[str, Any] | None = None
    materialize: Materialize = field(default_factory=Materialize)
    min_errors: int = 10
    max_error_rate: float = 0.001
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class OutputUse:
    """The output stage: a format, a place, and how large its files should be, in bytes."""

    sink: Sink
    path: str
    mode: Mode = "incremental"
    shard_size: int = SHARD_SIZE
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole recipe, ready to be planned."""

    name: str
    input: SourceUse | MixtureUse
    stages: tuple[StageUse, ...]
    output: OutputUse | None
    run_id: str
    config_hash: str
    """sha256 of `resolved`, taken with `{{run_id}}` unresolved and without error budgets."""
    resolved: dict[str, Any] = field(repr=False)
    """The recipe as plain JSON values: templates and `--set` applied, secrets redacted, no defaults filled in."""
    description: str = ""
    seed: int = 0
    provenance: Provenance = "full"
    path: Path | None = None
    base_dir: Path = field(default_factory=Path)
    """The folder of the recipe: `op: "my_ops.py:name"` is looked for here. Data paths are not: they are relative to
    the working directory, like every path on a command line."""
