"""Rows in flight: user columns, and beside them what FDF remembers of each row until it is written.

Provenance is kept in the cheapest form that holds it (numbers, masks) and becomes columns only where a row is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.plan.job import StageJob
from fdf.schema import (
    DROPPED_BY,
    GENERATED_BY,
    ID,
    REFINED_BY,
    SCORES,
    SOURCE,
    TAGS,
)
from fdf.sharing import follow, follow_piece

Booleans: TypeAlias = npt.NDArray[np.bool_]
Integers: TypeAlias = npt.NDArray[np.int64]

STRINGS = pa.list_(pa.string())


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A batch of rows.

    `ordinals` number the rows of the split in the order in which they were read; rows that an operator made share
    their parent's. Ids are either given (`ids`) or still to be made from `prefix` and `positions`.
    """

    data: pa.RecordBatch
    ordinals: Integers
    prefix: str = ""
    positions: pa.Array | None = None
    ids: pa.Array | None = None
    sources: pa.Array | None = None
    tags: pa.Array | None = None
    scores: dict[str, pa.Array] = field(default_factory=dict)
    refined: dict[str, Booleans] = field(default_factory=dict)
    generated: dict[str, Booleans] = field(default_factory=dict)
    earlier_refined: pa.Array | None = None
    earlier_generated: pa.Array | None = None

    @property
    def count(self) -> int:
        return len(self.ordinals)

    def with_ids(self) -> Rows:
        """Make the ids, if they are not made yet."""
        if self.ids is not None:
            return self
        ids = pc.binary_join_element_wise(self.prefix, pc.cast(self.positions, pa.string()), ":")
        return replace(self, ids=ids)

    def id_array(self) -> pa.Array:
        """Return the ids, one string per row."""
        ids = self.with_ids().ids
        assert ids is not None
        return ids

    def select(self, keep: Booleans) -> Rows:
        """Return the rows where `keep` is true."""
        if keep.all():
            return self
        mask = pa.array(keep)
        data = self.data.filter(mask)
        follow(self.data, data, keep)
        return self._mapped(lambda a: a.filter(mask), data, lambda a: a[keep])

    def take(self, rows: Integers) -> Rows:
        """Return the rows at these indices, in this order."""
        indices = pa.array(rows)
        return self._mapped(lambda a: a.take(indices), self.data.take(indices), lambda a: a[rows])

    def slice(self, start: int, stop: int) -> Rows:
        """Return rows `start` to `stop`, without copying."""
        data = self.data.slice(start, stop - start)
        follow_piece(self.data, data, start, stop)
        return self._mapped(lambda a: a.slice(start, stop - start), data, lambda a: a[start:stop])

    def _mapped(self, arrow: Callable[[Any], Any], data: pa.RecordBatch, numpy: Callable[[Any], Any]) -> Rows:
        def optional(array: pa.Array | None) -> pa.Array | None:
            return None if array is None else arrow(array)

        return replace(
            self,
            data=data,
            ordinals=numpy(self.ordinals),
            positions=optional(self.positions),
            ids=optional(self.ids),
            sources=optional(self.sources),
            tags=optional(self.tags),
            scores={k: arrow(v) for k, v in self.scores.items()},
            refined={k: numpy(v) for k, v in self.refined.items()},
            generated={k: numpy(v) for k, v in self.generated.items()},
            earlier_refined=optional(self.earlier_refined),
            earlier_generated=optional(self.earlier_generated),
        )


def concat_rows(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, which have the same columns, in order."""
    if len(parts) == 1:
        return parts[0]
    if any(p.ids is not None for p in parts):
        parts = [p.with_ids() for p in parts]

    def optional(arrays: list[pa.Array | None]) -> pa.Array | None:
        return None if any(a is None for a in arrays) else pa.concat_arrays(arrays)

    first = parts[0]
    return replace(
        first,
        data=concat_batches([p.data for p in parts]),
        ordinals=np.concatenate([p.ordinals for p in parts]),
        positions=optional([p.positions for p in parts]),
        ids=optional([p.ids for p in parts]),
        sources=optional([p.sources for p in parts]),
        tags=optional([p.tags for p in parts]),
        scores={k: pa.concat_arrays([p.scores[k] for p in parts]) for k in first.scores},
        refined=_concat_masks(parts, "refined"),
        generated=_concat_masks(parts, "generated"),
        earlier_refined=optional([p.earlier_refined for p in parts]),
        earlier_generated=optional([p.earlier_generated for p in parts]),
    )


def concat_batches(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return one batch with the rows of all, which share a schema."""
    if len(batches) == 1:
        return batches[0]
    schema = batches[0].schema
    columns = [pa.concat_arrays([b.column(i) for b in batches]) for i in range(len(schema))]
    if not columns:
        return _no_columns(sum(b.num_rows for b in batches))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _no_columns(rows: int) -> pa.RecordBatch:
    # A batch without columns still has a length; building it from arrays would lose that.
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["_"]).select([])


def _concat_masks(parts: list[Rows], name: str) -> dict[str, Booleans]:
    keys = dict.fromkeys(k for p in parts for k in getattr(p, name))
    return {k: np.concatenate([getattr(p, name).get(k, np.zeros(p.count, dtype=bool)) for p in parts]) for k in keys}


def provenance_schema(job: StageJob) -> pa.Schema:
    """Return the provenance columns of a dropped or quarantined row, and of a kept row under `full`."""
    fields = [
        pa.field(ID, pa.string()),
        pa.field(SOURCE, pa.string()),
        pa.field(TAGS, STRINGS),
        pa.field(DROPPED_BY, pa.string()),
        pa.field(REFINED_BY, STRINGS),
        pa.field(GENERATED_BY, STRINGS),
    ]
    if job.score_names:
        # A struct without fields cannot be stored as parquet.
        fields.insert(3, pa.field(SCORES, pa.struct([pa.field(n, pa.float32()) for n in job.score_names])))
    return pa.schema(fields)


def kept_schema(job: StageJob) -> pa.Schema:
    """Return the schema of a kept row as it is handed to the sink, without `__fdf__/operator_versions`."""
    fields = list(job.output_schema)
    if job.provenance != "none":
        wanted = {ID, SOURCE, DROPPED_BY} if job.provenance == "lite" else set(provenance_schema(job).names)
        fields += [f for f in provenance_schema(job) if f.name in wanted]
    return pa.schema(fields)


def provenance_columns(
    rows: Rows, job: StageJob, schema: pa.Schema, dropped_by: pa.Array | None = None
) -> list[pa.Array]:
    """Return the provenance columns that `schema` names, in its order."""
    made: list[pa.Array] = []
    for name in schema.names:
        if name == ID:
            made.append(rows.id_array())
        elif name == SOURCE:
            made.append(rows.sources if rows.sources is not None else pa.repeat(job.source_name, rows.count))
        elif name == TAGS:
            made.append(rows.tags if rows.tags is not None else _empty_lists(rows.count))
        elif name == SCORES:
            made.append(_score_struct(rows, job))
        elif name == DROPPED_BY:
            made.append(dropped_by if dropped_by is not None else pa.nulls(rows.count, pa.string()))
        elif name == REFINED_BY:
            made.append(_names_per_row(rows.count, rows.refined, rows.earlier_refined))
        elif name == GENERATED_BY:
            made.append(_names_per_row(rows.count, rows.generated, rows.earlier_generated))
    return made


def kept_batch(rows: Rows, job: StageJob, schema: pa.Schema) -> pa.RecordBatch:
    """Return kept rows with their provenance, in the stage's own column order."""
    user = [rows.data.column(n) for n in job.output_schema.names]
    extra = provenance_columns(rows, job, pa.schema(list(schema)[len(user) :]))
    if not user and not extra:
        return _no_columns(rows.count)
    return pa.RecordBatch.from_arrays([*user, *extra], schema=schema)


def _empty_lists(rows: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1, dtype=np.int32)), pa.array([], pa.string()))


def _score_struct(rows: Rows, job: StageJob) -> pa.Array:
    names = job.score_names
    nothing = pa.nulls(rows.count, pa.float32())
    return pa.StructArray.from_arrays([rows.scores.get(n, nothing) for n in names], names=list(names))


def _names_per_row(count: int, masks: dict[str, Booleans], earlier: pa.Array | None) -> pa.Array:
    masks = {k: v for k, v in masks.items() if v.any()}
    if not masks:
        return earlier if earlier is not None else _empty_lists(count)
    grid = np.stack(list(masks.values()), axis=1)
    lengths = grid.sum(axis=1)
    names = pa.array(list(masks), pa.string()).take(pa.array(np.nonzero(grid)[1]))
    offsets = np.zeros(count + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    own = pa.ListArray.from_arrays(pa.array(offsets), names)
    if earlier is None:
        return own
    # Both lists of a row, the earlier first: interleave the two value arrays by index.
    before = earlier.flatten()
    before_lengths = pc.list_value_length(earlier).to_numpy(zero_copy_only=False).astype(np.int64)
    total = before_lengths + lengths
    ends = np.zeros(count + 1, dtype=np.int32)
    np.cumsum(total, out=ends[1:])
    is_own = np.repeat(np.tile([False, True], count), np.stack([before_lengths, lengths], axis=1).ravel())
    order = np.empty(len(is_own), dtype=np.int64)
    order[~is_own] = np.arange(len(before))
    order[is_own] = len(before) + np.arange(len(names))
    values = pa.concat_arrays([before, names]).take(pa.array(order))
    return pa.ListArray.from_arrays(pa.array(ends), values)
