"""`fdf.Pipeline`: a recipe written in Python. It makes the same `Recipe` as YAML that says the same, with the same
config_hash.

    recipe = (
        fdf.Pipeline("clean-web", seed=7)
        .read("jsonl", path="data/*.jsonl.gz")
        .stage("clean", [ThresholdFilter(field="text_quality_score", ge=0.6)])
        .write("parquet", path="out/")
        .recipe()
    )
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from fdf import registry
from fdf.errors import RecipeError
from fdf.operator import Operator
from fdf.recipe import lookup
from fdf.recipe.document import Steps, from_python
from fdf.recipe.loading import assemble
from fdf.recipe.model import Drops, Mode, OnError, Provenance, Recipe, RowsPerBatch
from fdf.recipe.parameters import stated


@dataclass(frozen=True)
class Step:
    """An operator with what a recipe says around it. Without an `id` it is called by its kind and class, as
    `filter.ThresholdFilter`."""

    operator: Operator
    id: str | None = None
    _: dataclasses.KW_ONLY
    when: str | None = None
    write_fields: Sequence[str] | None = None
    on_error: OnError = "quarantine"
    batch_size: RowsPerBatch | None = None
    resources: dict[str, Any] | None = None
    require: Sequence[str] | None = None

    def written(self) -> dict[str, Any]:
        """Return the step as a recipe writes it; what is left at its default is left out."""
        kind = self.operator.kind
        params = stated(self.operator)
        around = {
            "params": params or None,
            "when": self.when,
            "write_fields": None if self.write_fields is None else list(self.write_fields),
            "on_error": None if self.on_error == "quarantine" else self.on_error,
            "batch_size": self.batch_size,
            "resources": self.resources,
            "require": None if self.require is None else list(self.require),
        }
        return {
            "id": self.id or f"{kind}.{type(self.operator).__name__}",
            "kind": kind,
            "op": lookup.name_of(type(self.operator)),
            **{k: v for k, v in around.items() if v is not None},
        }


Written: TypeAlias = "Operator | tuple[str, Operator] | Step | dict[str, Any]"
"""How an operator may be given: alone, with its id, as a `Step`, or as a mapping like in YAML."""


@dataclass(frozen=True)
class Pipeline:
    """A recipe under construction. Every method returns a new one, so that a common beginning can be kept."""

    name: str
    _: dataclasses.KW_ONLY
    seed: int = 0
    description: str = ""
    provenance: Provenance = "full"
    _data: dict[str, Any] = field(default_factory=dict)
    _objects: dict[Steps, Any] = field(default_factory=dict)

    def read(self, source: Any, /, *, name: str | None = None, **options: Any) -> Pipeline:
        """Read from a source by its type (`"jsonl"`, with its options), or rows in memory: an Arrow table, a Polars
        frame, a `datasets.Dataset`, a list of dicts. Those are spooled to `$FDF_HOME/memory` at once, so that workers
        can read them."""
        kind = source
        if not isinstance(source, str):
            kind = "memory"
            options["path"] = registry.load("fdf.sources", kind).of(source, folder=_home() / "memory").path
        return self._with("input", {"type": kind, **_given(name=name), **options})

    def stage(
        self,
        name: str,
        operators: Sequence[Written],
        *,
        path: str | Path | None = None,
        mode: Mode | None = None,
        drops: Drops | None = None,
        keep: int | None = None,
        min_errors: int | None = None,
        max_error_rate: float | None = None,
    ) -> Pipeline:
        """Add a stage; without a `path` it is committed below the run directory."""
        stages: list[Any] = self._data.get("stages", [])
        base: Steps = ("stages", len(stages), "operators")
        steps = [_step(written) for written in operators]
        kept = _given(path=None if path is None else str(path), mode=mode, drops=drops, keep=keep)
        given = {
            "name": name,
            **({"materialize": kept} if kept else {}),
            "operators": [s.written() if isinstance(s, Step) else s for s in steps],
            **_given(min_errors=min_errors, max_error_rate=max_error_rate),
        }
        objects = {(*base, n): s.operator for n, s in enumerate(steps) if isinstance(s, Step)}
        return self._with("stages", [*stages, given], objects)

    def write(
        self,
        type: str,  # noqa: A002 (the recipe's own key)
        /,
        *,
        path: str | Path,
        mode: Mode | None = None,
        shard_size: int | str | None = None,
        **options: Any,
    ) -> Pipeline:
        """Write the final dataset in a format, with its options."""
        given = {"type": type, "path": str(path), **_given(mode=mode, shard_size=shard_size), **options}
        return self._with("output", given)

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline as a recipe's YAML would hold it."""
        top = {"name": self.name, **_given(seed=self.seed or None, description=self.description or None)}
        if self.provenance != "full":
            top["provenance"] = self.provenance
        return {**top, **self._data}

    def recipe(self, *, sets: Sequence[str] = (), run_id: str | None = None, idle: bool = False) -> Recipe:
        """Return the validated recipe; with `idle` also one that only reads. Raises RecipeError with every problem."""
        document = from_python(self.to_dict())
        return assemble(document, sets=sets, run_id=run_id, base_dir=Path(), objects=self._objects, idle=idle)

    def _with(self, key: str, value: Any, objects: dict[Steps, Any] | None = None) -> Pipeline:
        return dataclasses.replace(
            self, _data={**self._data, key: value}, _objects={**self._objects, **(objects or {})}
        )


def _step(written: Written) -> Step | dict[str, Any]:
    match written:
        case Step() | dict():
            return written
        case Operator():
            return Step(written)
        case (str(name), Operator() as operator):
            return Step(operator, name)
    raise RecipeError(
        f"{written!r} is no operator: give an instance, (id, instance), fdf.Step(...) or a mapping like in YAML",
        help="an operator's class is called first: ThresholdFilter(field=...)",
    )


def _given(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _home() -> Path:
    return Path(os.environ.get("FDF_HOME", ".fdf"))
