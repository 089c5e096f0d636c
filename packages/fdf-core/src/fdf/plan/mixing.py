"""Plans the mixture of an input: lists and pins its sources, unifies their columns, and names the whole by a hash.

The plan's hash covers the settings and the pinned listing with versions, never measured sizes: other sources, versions
or weights are another dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fdf.errors import FdfError, PlanError, Problem
from fdf.fingerprint import digest
from fdf.mixture.blocks import check_blocks
from fdf.mixture.buckets import Bucket, Buckets
from fdf.mixture.measuring import Leaf
from fdf.mixture.settings import Settings, check_ends, check_feasible, read_settings
from fdf.mixture.sizes import Measure, choose_measure
from fdf.plan.encoding import decode_schema, encode_schema
from fdf.plan.job import LeafJob
from fdf.recipe.model import DatasetUse, MixtureUse, StageUse
from fdf.sources.base import InputFile, Source
from fdf.sources.conform import unify
from fdf.sources.file_source import FileSource
from fdf.sources.naming import notes_of_only_paths, resolve_columns, types_of

MIXTURE_FORMAT = "fdf-mixture/1"
OF_THE_WHOLE = frozenset({"tokenizer", "granularity"})
"""Keys of the mixture itself, told at their own place."""


@dataclass(frozen=True, kw_only=True)
class PlannedMixture:
    """A mixture that can be scheduled."""

    settings: Settings
    plan_hash: str
    leaves: tuple[Leaf, ...] = ()
    """An input's datasets; none for the mixture of a stage, whose buckets are filled when it starts."""
    schema: pa.Schema | None = None
    known_columns: tuple[tuple[str, ...], ...] = ()
    pins: Mapping[str, Any] | None = None
    buckets: Buckets | None = None
    bucket_columns: tuple[str, ...] = ()
    measure: Measure | None = None
    """For the mixture of a stage: how its rows are counted."""
    notes: tuple[str, ...] = ()
    resolved: Mapping[str, Any] | None = None
    """What each source resolved, such as the commit behind a branch."""

    @property
    def lacking(self) -> frozenset[str]:
        """The columns of an input's mixture that not every dataset has."""
        columns = self.schema.names if self.schema is not None else ()
        return frozenset(n for n in columns if any(n not in leaf.schema.names for leaf in self.leaves))

    def leaf_jobs(self, wanted: tuple[str, ...]) -> tuple[LeafJob, ...]:
        """Return the leaves as workers need them, reading only these columns."""
        if self.buckets is not None:
            names = (*self.buckets.leaves, *self.buckets.outside)
            return tuple(LeafJob(name=name, measure=self.measure) for name in names)
        return tuple(
            LeafJob(
                name=leaf.name,
                measure=leaf.measure,
                source=leaf.source,
                known_columns=known,
                renames=tuple((new, old) for new, old in leaf.renames if new in wanted),
            )
            for leaf, known in zip(self.leaves, self.known_columns, strict=True)
        )


def plan_mixture(use: MixtureUse, *, seed: int, pinned: Mapping[str, Any] | None) -> PlannedMixture:
    """Return the plan of an input's mixture; `pinned` is what an unfinished run resolved, listed and found.

    Pins hold as long as the files are what they were: with another one it is another dataset, planned afresh.
    """
    notes: list[str] = []
    if pinned is not None and (changed := _changed(use, pinned)):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        notes.append(f"{changed[0]}{more} changed since the unfinished run began, so this one begins anew")
        pinned = None
    given = use.settings
    settings = read_settings(given, [_settings_of(d) for d in use.datasets], seed=seed)
    check_feasible(settings)
    opened: list[tuple[DatasetUse, Source, pa.Schema, Mapping[str, Any]]] = []
    for dataset in use.leaves():
        with_pins = (pinned or {}).get("leaves", {}).get(dataset.name)
        try:
            unsized = settings.temperature is not None and dataset.name in settings.unweighted
            opened.append((dataset, *_opened(dataset, with_pins, unsized=unsized)))
        except FdfError as error:
            raise _placed(error, dataset) from error
    named = []
    for dataset, source, physical, _ in opened:
        naming = resolve_columns(physical, source.columns, schema=source.schema)
        named.append((dataset.name, naming.pairs, naming.schema))
        said = (*naming.notes, *notes_of_only_paths(source, naming.files))
        notes += [f"`{dataset.name}`: {note}" for note in said]
    schema = pa.schema([])
    for number, (dataset, *_) in enumerate(opened, start=1):
        try:
            schema = unify([(f"`{name}`", columns) for name, _, columns in named[:number]])
        except FdfError as error:
            raise _placed(error, dataset) from error
    leaves = []
    for (dataset, source, _, _), (name, pairs, columns) in zip(opened, named, strict=True):
        try:
            measure = choose_measure(settings.unit, columns, tokenizer=settings.tokenizer, name=name)
            if settings.granularity == "block":
                check_blocks(source, measure, columns, name=name)
        except FdfError as error:
            raise _placed(error, dataset) from error
        own = pa.schema([schema.field(new) for new, _ in pairs])
        blocks = settings.granularity == "block"
        leaves.append(Leaf(name=name, source=source, measure=measure, renames=pairs, schema=own, by_blocks=blocks))
    identity = {
        "format": MIXTURE_FORMAT,
        "settings": settings.identity(),
        "leaves": [_leaf_identity(leaf, physical) for leaf, (_, _, physical, _) in zip(leaves, opened, strict=True)],
        "schema": [[f.name, str(f.type)] for f in schema],
    }
    return PlannedMixture(
        settings=settings,
        plan_hash=digest(identity),
        leaves=tuple(leaves),
        schema=schema,
        known_columns=tuple(tuple(physical.names) for _, _, physical, _ in opened),
        pins={"leaves": {dataset.name: pins for dataset, _, _, pins in opened}},
        notes=tuple(notes),
        resolved={d.name: dict(source.pins()) for d, source, _, _ in opened if source.pins()},
    )


def plan_buckets(
    use: StageUse, schema: pa.Schema, *, seed: int, lacking: frozenset[str] = frozenset()
) -> PlannedMixture:
    """Return the plan of a stage's mixture over rows with these columns; some datasets do not have those `lacking`."""
    given = use.mixture or {}
    settings = read_settings(given, given["buckets"], seed=seed)
    check_feasible(settings)
    check_ends(settings)
    if settings.granularity == "block":
        raise PlanError(
            Problem(
                code="FDF349",
                message=f"the buckets of stage `{use.name}` cannot be mixed by `granularity: block`",
                place=use.place,
                help="leave `granularity` out",
            )
        )
    buckets = Buckets([Bucket.read(b) for b in given["buckets"]])
    identity = {
        "format": MIXTURE_FORMAT,
        "settings": settings.identity(),
        "buckets": [b.identity() for b in buckets.top],
    }
    measure = choose_measure(settings.unit, schema, tokenizer=settings.tokenizer, name=use.name, lacking=lacking)
    return PlannedMixture(
        settings=settings,
        plan_hash=digest({**identity, "measure": measure.describe()}),
        buckets=buckets,
        bucket_columns=buckets.columns(schema),
        measure=measure,
    )


def _settings_of(dataset: DatasetUse) -> dict[str, Any]:
    given: dict[str, Any] = {"name": dataset.name}
    for key in ("weight", "cap", "epochs"):
        if getattr(dataset, key) is not None:
            given[key] = getattr(dataset, key)
    return given | ({"datasets": [_settings_of(d) for d in dataset.datasets]} if dataset.datasets else {})


def _opened(
    dataset: DatasetUse, pinned: Mapping[str, Any] | None, *, unsized: bool
) -> tuple[Source, pa.Schema, Mapping[str, Any]]:
    """Return a dataset's source with its listing and columns fixed, and what pins them."""
    source = dataset.source
    assert source is not None
    if unsized and not source.indexed:
        raise PlanError(
            f"`{dataset.name}` is a stream, and how much it holds is known only when it has been read: it has no share "
            "by its size",
            help="give it a `weight`",
        )
    if pinned is not None:
        source = source.pinned(pinned["source"])
        source = source.listed([InputFile(**f) for f in pinned["files"]])
        return source, decode_schema(pinned["schema"]), pinned
    source = source.pinned(source.pins())
    files = source.files() if source.indexed else []
    source = source.listed(files)
    physical = source.physical_schema()
    pins = {
        "source": dict(source.pins()),
        "files": [vars(f) for f in files],
        "schema": encode_schema(physical),
    }
    return source, physical, pins


def _changed(use: MixtureUse, pinned: Mapping[str, Any]) -> list[str]:
    """Return the files that are no longer what an unfinished run planned with: their new rows would pass for the old.

    A file that is gone is missed when it is read, if it is needed at all; one of the hub is read at its commit.
    """
    found = []
    for dataset in use.leaves():
        pins = pinned["leaves"].get(dataset.name)
        if pins is None or not isinstance(dataset.source, FileSource):
            continue
        try:
            versions = {f.uri: f.version for f in dataset.source.files()}
        except PlanError:
            continue
        found += [f["uri"] for f in pins["files"] if versions.get(f["uri"], f["version"]) != f["version"]]
    return found


def _placed(error: FdfError, dataset: DatasetUse) -> FdfError:
    """Give what is wrong with one dataset its place in the recipe."""
    problems = []
    for problem in error.problems:
        message = problem.message if f"`{dataset.name}`" in problem.message else f"`{dataset.name}`: {problem.message}"
        problems.append(
            Problem(
                code=problem.code,
                message=message,
                place=problem.place or (None if problem.about in OF_THE_WHOLE else dataset.place),
                hint=problem.hint,
                help=problem.help,
                about=problem.about,
            )
        )
    return type(error)(*problems)


def _leaf_identity(leaf: Leaf, physical: pa.Schema) -> dict[str, Any]:
    source = leaf.source
    files = [[f.path, f.version, f.size] for f in source.files()] if source.indexed else []
    return {
        "name": leaf.name,
        "type": source.type,
        "version": source.version,
        "columns": source.columns,
        "extra_columns": source.extra_columns,
        "max_row_bytes": source.max_row_bytes,
        "options": source.options(),
        "schema": types_of(source, physical),
        "measure": leaf.measure.describe(),
        # Where there are files their versions say it all, and a commit that changes none is the same dataset.
        "pins": {} if source.indexed else dict(source.pins()),
        "files": digest(files),
    }
