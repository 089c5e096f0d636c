"""Reads a range of a mixture's schedule: the rows of each part from where they stand, then all in the schedule's order.

What a row was planned to weigh is compared with what it weighs; a row that cannot be read is charged as planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import BadFile, Problem
from fdf.fingerprint import sha256_hex
from fdf.plan.job import LeafJob, StageJob
from fdf.plan.task import Part, Range
from fdf.sources.base import Reject, Source, SourceBatch
from fdf.stage.inputs import Chunk, InputCount, counted, note_extra_columns, unless_bad
from fdf.stage.readers import Readers
from fdf.stage.rows import STRINGS, Integers, Rows, concat_rows
from fdf.stage.segment import Dropped, Parcel
from fdf.stage.upstream import shard_rows_within

LEFT_OUT = "mixture"
"""The reason, and the name in `__fdf__/dropped_by`, of rows that a stage's mixture leaves out."""


class InputColumns(Protocol):
    """What reading needs to know of a stage."""

    @property
    def input_schema(self) -> pa.Schema: ...


@dataclass
class Delivered:
    """What came of one leaf in a range: rows and units as planned and as found."""

    rows: int = 0
    planned: int = 0
    delivered: int = 0
    off: int = 0
    """The sum of the differences between what rows were planned to weigh and what they weigh."""

    def to_json(self) -> list[int]:
        return [self.rows, self.planned, self.delivered, self.off]


@dataclass
class Account:
    """What came of a range, by leaf."""

    leaves: dict[str, Delivered] = field(default_factory=dict)
    left_out: dict[str, Delivered] = field(default_factory=dict)


@dataclass(frozen=True)
class PartRows:
    """One part as read: its readable rows in their order, which of the planned ones they are, and the rest."""

    rows: Rows
    present: np.ndarray
    rejects: tuple[Reject, ...]


def mixed_chunks(
    mixed: Range, job: StageJob, inputs: list[InputCount], account: Account, readers: Readers
) -> Iterator[Chunk]:
    """Yield the rows of a range in the schedule's order, and then the rejects of each part."""
    parts = [_part(part, job, inputs, account, readers, left_out=not mixed.order) for part in mixed.parts]
    yield Chunk(in_schedule(mixed, [found for found, _ in parts]), (), InputCount(uri="", version="", bytes=0))
    for part, (found, count) in zip(mixed.parts, parts, strict=True):
        if found.rejects:
            leaf = job.leaves[part.leaf]
            none = replace(nothing(job), prefix=prefix_of(part, leaf))
            yield Chunk(none, found.rejects, count, of=(leaf.name, part.epoch))


def _part(
    part: Part, job: StageJob, inputs: list[InputCount], account: Account, readers: Readers, *, left_out: bool
) -> tuple[PartRows, InputCount]:
    leaf = job.leaves[part.leaf]
    count = counted(part.piece, inputs)
    positions = np.frombuffer(part.positions, dtype="<i8")
    first, last = int(positions.min()), int(positions.max())
    if leaf.source is None:
        found = shard_part(
            part, leaf, job.stage, shard_rows_within(part.piece, job, first, last), account, left_out=left_out
        )
    else:
        physical = pa.schema([(old, job.input_schema.field(new).type) for new, old in leaf.renames])
        found_batches = readers.read(part.leaf, leaf.source, part.piece, first=first, last=last, schema=physical)
        batches = unless_bad(found_batches, leaf.source, count)
        noted = _noted(batches, leaf, leaf.source, count)
        found = source_part(part, leaf, job, noted, account, skipped=lambda: count.error is not None)
    count.rows = found.rows.count
    return found, count


def _noted(batches: Iterator[SourceBatch], leaf: LeafJob, source: Source, count: InputCount) -> Iterator[SourceBatch]:
    for batch in batches:
        note_extra_columns(batch, leaf.known_columns, source, count)
        yield batch


def leave_out(parcel: Parcel) -> Parcel:
    """Drop every row of a parcel, by the mixture, with the bucket that it is left in."""
    rows = parcel.rows
    if not rows.count:
        return parcel
    assert rows.tags is not None
    # The last tag of a row of a stage's mixture is its bucket.
    ends = pc.subtract(pc.cumulative_sum(pc.list_value_length(rows.tags)), 1)
    buckets = rows.tags.flatten().take(ends)
    parcel.dropped.append(
        Dropped(
            rows=replace(rows, data=rows.data.select([])),
            judged=rows.data,
            places=np.arange(rows.count),
            operator_id=LEFT_OUT,
            reasons=pa.repeat(LEFT_OUT, rows.count),
            evidence=pc.binary_join_element_wise('{"bucket":"', buckets, '"}', ""),
        )
    )
    parcel.rows = rows.slice(0, 0)
    return parcel


def in_schedule(mixed: Range, parts: list[PartRows]) -> Rows:
    """Return the rows of all parts in the order of the schedule."""
    rows = concat_rows([p.rows for p in parts])
    present = np.concatenate([p.present for p in parts])
    order = np.frombuffer(mixed.order, dtype="<u2")
    if not len(order):
        return rows
    # Parts come by leaf: a stable sort of the leaves says at which place of the schedule each of their rows stands.
    planned = np.empty(len(order), dtype=np.int64)
    planned[np.argsort(order, kind="stable")] = np.arange(len(order))
    found = np.cumsum(present) - 1
    return rows.take(found[planned][present[planned]])


def source_part(
    part: Part,
    leaf: LeafJob,
    job: InputColumns,
    batches: Iterator[SourceBatch],
    account: Account,
    *,
    skipped: Callable[[], bool] = lambda: False,
) -> PartRows:
    """Return the wanted rows of a slice that holds them, and account for them.

    `skipped` says, when `batches` are over, that a bad rest of the file was passed by: rows that are missing then are
    charged as planned, as those are that cannot be read.
    """
    wanted = np.frombuffer(part.positions, dtype="<i8")
    ascending = np.argsort(wanted, kind="stable")
    sorted_wanted = wanted[ascending]
    data: list[pa.RecordBatch] = []
    found: list[Integers] = []
    rejects: list[Reject] = []
    for batch in batches:
        positions = batch.positions.to_numpy(zero_copy_only=False)
        mask = _among(positions, sorted_wanted)
        if mask.any():
            data.append(_named(batch.rows, leaf, job.input_schema, len(positions)).filter(pa.array(mask)))
            found.append(positions[mask])
        rejects += [r for r in batch.rejects if _among(np.array([r.position]), sorted_wanted)[0]]
    where = np.concatenate([np.empty(0, dtype=np.int64), *found])
    if not skipped():
        _refuse_lost(part, len(wanted), len(where) + len(rejects))
    rows = _rows(part, leaf, job, data, where)
    place = np.searchsorted(where, wanted)
    present = np.zeros(len(wanted), dtype=bool)
    inside = place < len(where)
    present[inside] = where[place[inside]] == wanted[inside]
    rows = rows.take(place[present].astype(np.int64))
    part_rows = PartRows(rows, present, tuple(rejects))
    _count(part, part_rows, leaf, account)
    return part_rows


def shard_part(
    part: Part, leaf: LeafJob, stage: str, chunks: Iterator[Rows], account: Account, *, left_out: bool
) -> PartRows:
    """Return the wanted rows of an earlier stage's shard, and account for them."""
    wanted = np.frombuffer(part.positions, dtype="<i8")
    ascending = np.sort(wanted)
    kept = []
    for rows in chunks:
        assert rows.positions is not None
        mask = _among(rows.positions.to_numpy(), ascending)
        if mask.any():
            kept.append(rows.select(mask))
    count = sum(r.count for r in kept)
    _refuse_lost(part, len(wanted), count)
    rows = concat_rows(kept)
    assert rows.positions is not None
    rows = rows.take(np.searchsorted(rows.positions.to_numpy(), wanted).astype(np.int64))
    rows = _tagged(rows, leaf.name, stage, part.epoch)
    part_rows = PartRows(rows, np.ones(len(wanted), dtype=bool), ())
    _count(part, part_rows, leaf, account, left_out=left_out)
    return part_rows


def nothing(job: InputColumns) -> Rows:
    """Return no rows, with the columns of the stage's input."""
    empty = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in job.input_schema], schema=job.input_schema)
    strings = pa.array([], pa.string())
    return Rows(
        data=empty, ordinals=np.empty(0, dtype=np.int64), ids=strings, sources=strings, tags=pa.array([], STRINGS)
    )


def row_ids(prefix: str, positions: pa.Array, epoch: int) -> pa.Array:
    """Return the ids of a slice's rows; those of a repeated epoch say which."""
    ids = pc.binary_join_element_wise(prefix, pc.cast(positions, pa.string()), ":")
    return pc.binary_join_element_wise(ids, f"#{epoch}", "") if epoch else ids


def prefix_of(part: Part, leaf: LeafJob) -> str:
    """Return the first half of the ids of a part's rows."""
    return sha256_hex(f"{leaf.name}\0{part.piece.file.path}")[:16]


def _named(rows: pa.RecordBatch, leaf: LeafJob, schema: pa.Schema, count: int) -> pa.RecordBatch:
    """Return a leaf's rows with the mixture's columns: those that it has under their names, null for the rest."""
    old = dict(leaf.renames)
    columns = [rows.column(old[f.name]) if f.name in old else pa.nulls(count, f.type) for f in schema]
    if not columns:
        return pa.RecordBatch.from_arrays([pa.nulls(count)], names=["_"]).select([])
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _rows(part: Part, leaf: LeafJob, job: InputColumns, data: list[pa.RecordBatch], where: Integers) -> Rows:
    if not data:
        return nothing(job)
    table = pa.Table.from_batches(data).combine_chunks()
    (batch,) = table.to_batches() or [nothing(job).data]
    count = len(where)
    ends = pa.array(np.arange(count + 1, dtype=np.int32))
    return Rows(
        data=batch,
        ordinals=np.empty(count, dtype=np.int64),
        ids=row_ids(prefix_of(part, leaf), pa.array(where), part.epoch),
        sources=pa.repeat(leaf.name, count),
        tags=pa.ListArray.from_arrays(ends, pa.repeat(leaf.name, count)),
    )


def _tagged(rows: Rows, name: str, stage: str, epoch: int) -> Rows:
    """Return rows that say which bucket they came through, and in which epoch of this stage.

    Without the stage's name, a row repeated here would take the id of one that the input or a stage before repeated.
    """
    own = pa.ListArray.from_arrays(pa.array(np.arange(rows.count + 1, dtype=np.int32)), pa.repeat(name, rows.count))
    tags = own
    if rows.tags is not None:
        before = pc.list_value_length(rows.tags).to_numpy(zero_copy_only=False).astype(np.int64)
        values = pa.concat_arrays([rows.tags.flatten(), own.flatten()])
        ends = np.zeros(rows.count + 1, dtype=np.int64)
        np.cumsum(before + 1, out=ends[1:])
        order = np.empty(len(values), dtype=np.int64)
        last = ends[1:] - 1
        earlier = np.ones(len(values), dtype=bool)
        earlier[last] = False
        order[earlier] = np.arange(int(before.sum()))
        order[last] = int(before.sum()) + np.arange(rows.count)
        tags = pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), values.take(pa.array(order)))
    ids = rows.id_array()
    return replace(rows, tags=tags, ids=pc.binary_join_element_wise(ids, f"#{stage}.{epoch}", "") if epoch else ids)


def _among(positions: Integers, ascending: Integers) -> np.ndarray:
    place = np.searchsorted(ascending, positions)
    inside = place < len(ascending)
    found = np.zeros(len(positions), dtype=bool)
    found[inside] = ascending[place[inside]] == positions[inside]
    return found


def _refuse_lost(part: Part, wanted: int, found: int) -> None:
    if found == wanted:
        return
    raise BadFile(
        Problem(
            code="FDF413",
            message=f"{part.piece.file.uri} holds {found} of the {wanted} rows that were planned from it: it changed "
            "since it was measured",
            help="run again: a file that changed is listed and measured anew",
        )
    )


def _count(part: Part, found: PartRows, leaf: LeafJob, account: Account, *, left_out: bool = False) -> None:
    planned = np.frombuffer(part.sizes, dtype="<i8")
    actual = planned
    measure = leaf.measure
    if measure is not None and all(c in found.rows.data.schema.names for c in measure.reads) and measure.columns:
        actual = planned.copy()
        actual[found.present] = measure.of(found.rows.data)
    into = (account.left_out if left_out else account.leaves).setdefault(leaf.name, Delivered())
    into.rows += len(planned)
    into.planned += int(planned.sum())
    into.delivered += int(actual.sum())
    into.off += int(np.abs(actual - planned).sum())
