"""Turns a checked recipe into a plan: schemas, fingerprints, places. Reads footers and old manifests, no rows in bulk.

What a stage's fingerprint holds decides what runs again; it is described in docs/concepts.md and built here only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa

from fdf.errors import FdfError, MissingDependency, PlanError, Problem
from fdf.fingerprint import canonical_json, digest
from fdf.mixture.settings import check_ends
from fdf.mixture.sizes import Measure, counting
from fdf.plan.absent import with_absent
from fdf.plan.encoding import decode_schema
from fdf.plan.flow import needed_columns, prune, rejected_schema, resolve_chain
from fdf.plan.job import OUTPUT_LAYOUT, STAGE_LAYOUT, Layout, StageJob, Step
from fdf.plan.mixing import PlannedMixture, plan_buckets, plan_mixture
from fdf.plan.model import Plan, StagePlan
from fdf.recipe.model import DatasetUse, Materialize, MixtureUse, OutputUse, Provenance, Recipe, SourceUse, StageUse
from fdf.schema import GENERATED_BY, ID, REFINED_BY, SCORES, SOURCE, TAGS
from fdf.sinks.base import Sink
from fdf.sinks.parquet import ParquetSink
from fdf.sources.naming import notes_of_only_paths, resolve_columns, types_of
from fdf.storage import open_store
from fdf.storage.failures import given_up, told_as_failure
from fdf.storage.uri import local_path

FORMAT = "fdf/1"
OUTPUT = "output"


def fdf_home() -> Path:
    """Return where runs keep their records: `$FDF_HOME`, else `.fdf` in the working directory."""
    return Path(os.environ.get("FDF_HOME", ".fdf"))


def compile_plan(recipe: Recipe, *, limit: int | None = None, until: str | None = None) -> Plan:
    """Return the plan of a recipe. Raises PlanError with everything that keeps it from running."""
    run_dir = fdf_home() / "runs" / recipe.run_id
    what = f"the plan of `{recipe.name}`"
    with given_up(what), told_as_failure(what, root=str(run_dir)):
        return _compiled(recipe, recipe.input, run_dir, limit=limit, until=until)


def _compiled(
    recipe: Recipe, origin: SourceUse | MixtureUse, run_dir: Path, *, limit: int | None, until: str | None
) -> Plan:
    builder = _Builder(recipe, origin, run_dir, limit)
    for use in recipe.stages:
        builder.add_stage(use)
        if use.name == until:
            break
    else:
        if until is not None and until != OUTPUT:
            known = ", ".join(s.name for s in recipe.stages)
            raise PlanError(Problem(code="FDF331", message=f"no stage is named `{until}`", help=f"stages: {known}"))
        if recipe.output is not None:
            builder.add_output(recipe.output)
    _refuse_shared_roots(builder.stages)
    return Plan(
        recipe=recipe,
        stages=tuple(builder.stages),
        run_dir=run_dir,
        limit=limit,
        notes=tuple(builder.notes),
    )


class _Builder:
    """Adds stage after stage, carrying what the last one left: its schema, scores and fingerprint."""

    def __init__(self, recipe: Recipe, origin: SourceUse | MixtureUse, run_dir: Path, limit: int | None) -> None:
        self.recipe = recipe
        self.origin = origin
        self.run_dir = run_dir
        self.limit = limit
        self.stages: list[StagePlan] = []
        self.notes: list[str] = []
        self._versions: dict[str, str] = {}
        self._counted: Measure | None = None
        self._lacking: frozenset[str] = frozenset()

    def add_stage(self, use: StageUse) -> None:
        if use.mixture is not None and not self.stages:
            raise PlanError(
                Problem(
                    code="FDF330",
                    message=f"stage `{use.name}` mixes the rows of the stage before, and it is the first",
                    place=use.place,
                    help="put a stage before it, or give the recipe `input: { type: mixture, ... }`",
                )
            )
        last = use is self.recipe.stages[-1] and self.recipe.output is None
        self._add(
            name=use.name,
            uses=use,
            materialize=use.materialize,
            root=use.materialize.path or str(self.run_dir / use.name),
            sink=ParquetSink(),
            provenance=self._kept_provenance(last=last),
        )

    def add_output(self, use: OutputUse) -> None:
        self._add(
            name=OUTPUT,
            uses=StageUse(name=OUTPUT, place=use.place),
            materialize=Materialize(path=use.path, mode=use.mode, drops="none"),
            root=use.path,
            sink=use.sink,
            provenance=self.recipe.provenance,
            group_bytes=use.shard_size,
        )

    def _kept_provenance(self, *, last: bool) -> Provenance:
        # A later stage names dropped rows by id, so ids are carried as long as one follows.
        return "lite" if self.recipe.provenance == "none" and not last else self.recipe.provenance

    def _add(
        self,
        *,
        name: str,
        uses: StageUse,
        materialize: Materialize,
        root: str,
        sink: Sink,
        provenance: Provenance,
        group_bytes: int | None = None,
    ) -> None:
        upstream = self.stages[-1] if self.stages else None
        assets = {u.id: _assets(u) for u in uses.operators}
        common = {
            "format": FORMAT,
            "seed": self.recipe.seed,
            "provenance": provenance,
            "drops": materialize.drops,
            "sink": [sink.type, _options(sink)],
            "group_bytes": group_bytes,
            "limit": self.limit,
            "operators": [_operator_identity(u, assets[u.id]) for u in uses.operators],
        }
        physical: pa.Schema | None = None
        mixture: PlannedMixture | None = None
        if upstream is None and isinstance(self.origin, SourceUse):
            with _told_at(self.origin):
                self.origin = self._settled(self.origin)
        if upstream is None and isinstance(self.origin, MixtureUse):
            mixture = self._mixture(self.origin)
            assert mixture.schema is not None
            self.notes += mixture.notes
            columns = [[f.name, str(f.type)] for f in mixture.schema]
            fingerprint = digest({**common, "mixture": mixture.plan_hash, "columns": columns})
            schema = mixture.schema
            pairs = [(n, n) for n in schema.names]
            self._lacking = mixture.lacking
            self._counted = self._counting(mixture, schema)
        elif upstream is None:
            assert isinstance(self.origin, SourceUse)
            source = self.origin.source
            with _told_at(self.origin):
                physical, fingerprint = self._pinned_physical(root, group_bytes, common)
                naming = resolve_columns(physical, source.columns, schema=source.schema)
                self.notes += [*naming.notes, *notes_of_only_paths(source, naming.files)]
            pairs = list(naming.pairs)
            schema = naming.schema
        else:
            schema = upstream.job.output_schema
            identity: dict[str, Any] = {**common, "upstream": upstream.fingerprint}
            if uses.mixture is not None:
                with _told_by(uses):
                    mixture = plan_buckets(uses, schema, seed=self.recipe.seed, lacking=self._lacking)
                identity["mixture"] = mixture.plan_hash
                if self._counted is None:
                    self._counted = self._counting(mixture, schema)
            fingerprint = digest(identity)
            pairs = [(n, n) for n in schema.names]
        steps, output = resolve_chain(uses.operators, schema)
        wanted = needed_columns(steps, output, schema.names)
        if wanted != tuple(schema.names):
            schema = pa.schema([schema.field(n) for n in wanted])
            steps, output = prune(steps, schema)
        steps = tuple(replace(s, assets=tuple(sorted(assets[s.id].items()))) for s in steps)
        if not output.names and provenance == "none":
            raise PlanError(
                Problem(
                    code="FDF333",
                    message=f"rows that leave stage `{name}` have no column, so there is nothing to store",
                    place=uses.place,
                    help="keep a column, or set `provenance: lite` to keep the ids",
                )
            )
        self._versions |= {s.id: s.use.operator.version for s in steps}
        marks = _marks(upstream.job.provenance) if upstream else ()
        job = StageJob(
            pipeline=self.recipe.name,
            stage=name,
            fingerprint=fingerprint,
            seed=self.recipe.seed,
            root=root,
            layout=OUTPUT_LAYOUT if name == OUTPUT and group_bytes else STAGE_LAYOUT,
            receipts="",
            source=self.origin.source if upstream is None and isinstance(self.origin, SourceUse) else None,
            source_name=self.origin.name,
            known_columns=tuple(physical.names) if physical is not None else (),
            renames=tuple((new, old) for new, old in pairs if new in wanted),
            input_schema=schema,
            upstream_root=upstream.root if upstream else None,
            upstream_scores=upstream.job.score_names if upstream and SCORES in marks else (),
            upstream_marks=marks,
            steps=steps,
            output_schema=output,
            rejected_schema=rejected_schema(schema, steps),
            provenance=provenance,
            drops=materialize.drops,
            sink=sink,
            leaves=mixture.leaf_jobs(wanted) if mixture else (),
            counted=self._counted,
            operator_versions=canonical_json(self._versions),
        )
        self.stages.append(
            StagePlan(
                name=name,
                job=job,
                fingerprint=fingerprint,
                upstream=upstream.name if upstream else None,
                mode=materialize.mode,
                keep=materialize.keep,
                min_errors=uses.min_errors,
                max_error_rate=uses.max_error_rate,
                group_bytes=group_bytes,
                limit=self.limit,
                physical_schema=physical,
                mixture=mixture,
            )
        )

    def _counting(self, mixture: PlannedMixture, schema: pa.Schema) -> Measure:
        settings = mixture.settings
        return counting(settings.unit, schema, tokenizer=settings.tokenizer, lacking=self._lacking)

    def _mixture(self, origin: MixtureUse) -> PlannedMixture:
        with _told_at(origin):
            made = plan_mixture(origin, seed=self.recipe.seed, pinned=self._pins().get("mixture"))
            if self.limit is None:
                check_ends(made.settings)
            return with_absent(made, [s.operators for s in self.recipe.stages])

    def _pins(self) -> dict[str, Any]:
        """Return what an unfinished run of this recipe pinned."""
        path = self.run_dir / "pins.json"
        pinned = _object(path.read_bytes()) if path.exists() else {}
        return pinned if pinned.get("config_hash") == self.recipe.config_hash else {}

    def _settled(self, origin: SourceUse) -> SourceUse | MixtureUse:
        """Return the source as an unfinished run resolved it; a stream, which cannot be cut into splits, as the mixture
        of it alone, which is cut as it comes."""
        pins = self._pins()
        streamed = pins.get("mixture", {}).get("leaves", {}).get(origin.name)
        source = origin.source.pinned((streamed or pins).get("source") or {})
        if source.indexed:
            return replace(origin, source=source)
        alone = DatasetUse(name=origin.name, source=source, weight=1, place=origin.place)
        return MixtureUse(name=origin.name, datasets=(alone,), settings={}, place=origin.place, places=origin.places)

    def _pinned_physical(self, root: str, group_bytes: int | None, common: dict[str, Any]) -> tuple[pa.Schema, str]:
        """Return the columns of the source's files, as fixed before the first split, and the fingerprint they give.

        An unfinished run keeps what it pinned; a stage that is extended keeps what its manifest was made with.
        """
        assert isinstance(self.origin, SourceUse)
        source = self.origin.source

        def fingerprint(schema: pa.Schema) -> str:
            identity = {
                "name": self.origin.name,
                "type": source.type,
                "version": source.version,
                "columns": source.columns,
                "extra_columns": source.extra_columns,
                "max_row_bytes": source.max_row_bytes,
                "options": source.options(),
                "schema": types_of(source, schema),
            }
            return digest({**common, "source": identity})

        pinned = self._pins()
        if pinned:
            schema = decode_schema(pinned["physical_schema"])
            return schema, fingerprint(schema)
        layout = OUTPUT_LAYOUT if group_bytes else STAGE_LAYOUT
        found = open_store(root).read_tagged(layout.manifest)
        manifest = _object(found[0]) if found else {}
        if manifest.get("input_schema"):
            schema = decode_schema(manifest["input_schema"])
            if fingerprint(schema) == manifest.get("fingerprint"):
                return schema, manifest["fingerprint"]
        schema = source.physical_schema()
        return schema, fingerprint(schema)


@contextmanager
def _told_at(origin: SourceUse | MixtureUse) -> Iterator[None]:
    """Give what is wrong with the input its place: the key that it is about, else the path or the datasets."""
    try:
        yield
    except FdfError as error:
        raise error.placed(origin.places, otherwise="path" if isinstance(origin, SourceUse) else "datasets") from error


@contextmanager
def _told_by(use: StageUse) -> Iterator[None]:
    """Give what is wrong with a stage's mixture the place of the stage."""
    try:
        yield
    except FdfError as error:
        problems = [p if p.place else replace(p, place=use.place) for p in error.problems]
        raise type(error)(*problems) from error


def _object(data: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one for what is none: a plan only looks, the run says what is damaged."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _marks(provenance: Provenance) -> tuple[str, ...]:
    if provenance == "full":
        return (ID, SOURCE, TAGS, SCORES, REFINED_BY, GENERATED_BY)
    return (ID, SOURCE) if provenance == "lite" else ()


def _options(sink: Sink) -> dict[str, Any]:
    return dict(sorted(vars(sink).items()))


def _operator_identity(use: Any, assets: dict[str, str]) -> dict[str, Any]:
    operator = use.operator
    return {
        "id": use.id,
        "kind": use.kind,
        "operator": type(operator).__name__,
        "distribution": use.distribution,
        "version": operator.version,
        "params": operator.params(),
        "depends": {name: _installed_version(name, use) for name in operator.depends},
        "when": use.when,
        "write_fields": list(use.write_fields) if use.write_fields is not None else None,
        "on_error": use.on_error,
        **({"assets": assets} if assets else {}),
    }


def _assets(use: Any) -> dict[str, str]:
    try:
        found: dict[str, str] = use.operator.assets()
    except FdfError as error:
        raise type(error)(*(p if p.place else replace(p, place=use.place) for p in error.problems)) from error
    return found


def _installed_version(distribution: str, use: Any) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError as error:
        raise MissingDependency(
            Problem(
                code="FDF501",
                message=f"`{use.id}` ({use.op}) depends on the package `{distribution}`, which is not installed",
                place=use.place,
                help=f"pip install {distribution}",
            )
        ) from error


def _refuse_shared_roots(stages: list[StagePlan]) -> None:
    """Raise PlanError where a stage would write into the folders of another."""
    for outer, inner in permutations(stages, 2):
        below = _below(inner.root, outer.root)
        if below is None or (below and not _is_read_there(below, outer.job.layout)):
            continue
        where = f"to be written to {outer.root} and {inner.root}" if below else f"both to be written to {outer.root}"
        raise PlanError(
            Problem(
                code="FDF332",
                message=f"stages `{outer.name}` and `{inner.name}` are {where}, where each would see the other's files",
                help="give each stage a path of its own, for example with {{stage}} in it",
            )
        )


def _below(inner: str, outer: str) -> str | None:
    """Return the path of one root below the other ("": the same), or None where it is elsewhere."""
    inner, outer = (local_path(root) or root.rstrip("/") for root in (inner, outer))
    if inner == outer:
        return ""
    return inner[len(outer) + 1 :] if inner.startswith(f"{outer.rstrip('/')}/") else None


def _is_read_there(path: str, layout: Layout) -> bool:
    """Say whether a path below a root is among the files that readers or the commit of that root look at."""
    folders = (layout.dropped, layout.quarantine, layout.receipts)
    if layout.data and f"{path}/".startswith((layout.data, *folders)):
        return True
    return not layout.data and not any(part.startswith((".", "_")) for part in path.split("/"))


__all__ = ["FORMAT", "OUTPUT", "Step", "compile_plan", "fdf_home"]
