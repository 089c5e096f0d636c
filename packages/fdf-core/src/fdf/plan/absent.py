"""Finds the columns that operators read of a mixture and that datasets lack: null there, and said so.

A single source that lacks a column is a plan error. In a mixture the others may have it; and one of the columns whose
type goes without saying may be in none at first, such as `image` where only URLs are there yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from fdf.errors import FdfError
from fdf.predicate import Predicate
from fdf.schema import ID

if TYPE_CHECKING:
    from fdf.plan.mixing import PlannedMixture
    from fdf.recipe.model import OperatorUse

Chain = Sequence["OperatorUse"]
WELL_KNOWN: dict[str, pa.DataType] = {
    "text": pa.string(),
    "url": pa.string(),
    "image": pa.binary(),
    "audio": pa.binary(),
    "video": pa.binary(),
}


def with_absent(mixture: PlannedMixture, stages: Sequence[Chain]) -> PlannedMixture:
    """Return a mixture with the well-known columns that some operator reads and no dataset has, all null, and with a
    note for each dataset that lacks a column which is read."""
    assert mixture.schema is not None
    schema = mixture.schema
    while (name := _first_missing(stages, schema)) in WELL_KNOWN and name not in schema.names:
        schema = schema.append(pa.field(name, WELL_KNOWN[name]))
    if _first_missing(stages, schema) is not None:
        # The chain ends in an error all the same, which is told of the columns that there are.
        schema = mixture.schema
    notes = []
    for name, reader in _read(stages, schema).items():
        without = [leaf.name for leaf in mixture.leaves if name not in leaf.schema.names]
        notes += [f"column `{name}` is absent from `{leaf}`{_advice(name, reader)}" for leaf in without]
    return replace(mixture, schema=schema, notes=(*mixture.notes, *notes))


def _advice(name: str, reader: str) -> str:
    if name == "image":
        return f"; insert FetchImages (`{reader}` finds null there)"
    return f": `{reader}` finds null there (if it goes by another name, say so with `columns:`)"


def _read(stages: Sequence[Chain], schema: pa.Schema) -> dict[str, str]:
    """Return the columns of the input that operators read before another writes them, each with its first reader."""
    found: dict[str, str] = {}
    written: set[str] = set()
    for use, asked, writes, _ in _walk(stages, schema):
        for name in asked:
            if name in schema.names and name not in written:
                found.setdefault(name, use.id)
        written |= {n for n, kind in writes.items() if kind is not None}
    return found


def _first_missing(stages: Sequence[Chain], schema: pa.Schema) -> str | None:
    """Return the first column that an operator asks for where rows do not have it."""
    for _, asked, _, there in _walk(stages, schema):
        missing = [n for n in asked if n not in there.names and n != ID]
        if missing:
            return missing[0]
    return None


def _walk(
    stages: Sequence[Chain], schema: pa.Schema
) -> Iterator[tuple[OperatorUse, tuple[str, ...], dict[str, pa.DataType | None], pa.Schema]]:
    """Yield each operator with what it reads and writes, as far as columns can be followed, and the columns before."""
    for use in (u for chain in stages for u in chain):
        try:
            asked = tuple(use.operator.reads(schema))
            asked += Predicate.compile(use.when).columns_in(schema) if use.when else ()
            if any(n not in schema.names and n != ID for n in asked):
                yield use, asked, {}, schema
                return
            writes = dict(use.operator.writes(schema))
        except FdfError:
            return
        if use.write_fields is not None:
            writes = {k: v for k, v in writes.items() if k in use.write_fields}
        yield use, asked, writes, schema
        types = {f.name: f.type for f in schema} | writes
        schema = pa.schema([(n, kind) for n, kind in types.items() if kind is not None])
