"""Opens a task: its inputs as parcels of rows with a stable id each, and what cannot be read set aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from fdf.fingerprint import sha256_hex
from fdf.plan.job import StageJob
from fdf.plan.task import Task
from fdf.schema import row_bytes
from fdf.sources.base import Reject, SourceBatch
from fdf.stage.crashpoints import reach
from fdf.stage.inputs import BATCH_BYTES, Chunk, InputCount, counted, note_extra_columns, unless_bad
from fdf.stage.mixed import Account, leave_out, mixed_chunks, row_ids
from fdf.stage.readers import Readers
from fdf.stage.rows import Rows
from fdf.stage.segment import Parcel, Quarantined
from fdf.stage.upstream import shard_chunks

READ = "read"
"""The name that stands for reading where an operator id is asked for."""


@dataclass
class OpenTask:
    """A task being read. `inputs` grows as parcels are drawn."""

    parcels: Iterator[Parcel]
    inputs: list[InputCount] = field(default_factory=list)
    mixed: Account | None = None
    """What came of each leaf, for a range of a mixture's schedule."""


def open_task(task: Task, job: StageJob, *, readers: Readers | None = None) -> OpenTask:
    """Return the task's rows as parcels of at most 16 MiB, without reading ahead of what is drawn.

    `readers` are what a worker left open at its last range of a mixture.
    """
    opened = OpenTask(parcels=iter(()))
    reach("task-opened")
    if task.mixed is not None:
        opened.mixed = Account()
        chunks = mixed_chunks(task.mixed, job, opened.inputs, opened.mixed, readers or Readers())
    elif job.source is not None:
        chunks = _source_chunks(task, job, opened)
    else:
        chunks = shard_chunks(task, job, opened.inputs)
    opened.parcels = _parcels(chunks, job, task.limit)
    if task.mixed is not None and not task.mixed.order:
        opened.parcels = map(leave_out, opened.parcels)
    return opened


def _source_chunks(task: Task, job: StageJob, opened: OpenTask) -> Iterator[Chunk]:
    source = job.source
    assert source is not None
    physical = pa.schema([(old, job.input_schema.field(new).type) for new, old in job.renames])
    for piece in task.inputs:
        count = counted(piece, opened.inputs)
        prefix = sha256_hex(f"{job.source_name}\0{piece.file.path}")[:16]
        for batch in unless_bad(source.read(piece, schema=physical), source, count):
            note_extra_columns(batch, job.known_columns, source, count)
            rows = Rows(
                data=_renamed(batch, job),
                ordinals=np.empty(len(batch.positions), dtype=np.int64),
                prefix=prefix,
                positions=batch.positions,
            )
            yield Chunk(rows, batch.rejects, count)


def _renamed(batch: SourceBatch, job: StageJob) -> pa.RecordBatch:
    if not job.renames:
        return batch.rows
    columns = [batch.rows.column(old) for _, old in job.renames]
    return pa.RecordBatch.from_arrays(columns, schema=job.input_schema)


def _parcels(chunks: Iterator[Chunk], job: StageJob, limit: int | None) -> Iterator[Parcel]:
    limit_bytes = job.source.max_row_bytes if job.source is not None else None
    sequence = 0
    ordinal = 0
    left = limit
    for chunk in chunks:
        rows, rejects = chunk.rows, chunk.rejects
        if left is not None:
            rows, rejects = _first(rows, rejects, left)
            left -= rows.count + len(rejects)
        chunk.count.rows += rows.count + len(rejects)
        for number, (start, stop, large) in enumerate(_cuts(rows.data, limit_bytes)):
            part = rows.slice(start, stop)
            part.ordinals[:] = np.arange(ordinal, ordinal + part.count)
            ordinal += part.count
            parcel = Parcel(
                sequence=sequence,
                rows=part,
                rows_read=part.count,
                bytes_read=int(part.data.nbytes),
            )
            sequence += 1
            if large is not None:
                _set_aside_large(parcel, large, limit_bytes or 0)
            if number == 0 and rejects:
                ordinal = _set_aside_rejects(parcel, rejects, job, rows.prefix, ordinal, of=chunk.of)
            yield parcel
        if left is not None and left <= 0:
            return


def _first(rows: Rows, rejects: tuple[Reject, ...], left: int) -> tuple[Rows, tuple[Reject, ...]]:
    """Return the first `left` records by position, readable or not."""
    if rows.count + len(rejects) <= left:
        return rows, rejects
    assert rows.positions is not None
    positions = rows.positions.to_numpy()
    bad = np.array([r.position for r in rejects], dtype=np.int64)
    last = np.sort(np.concatenate([positions, bad]))[left - 1]
    return rows.slice(0, int((positions <= last).sum())), tuple(r for r in rejects if r.position <= last)


def _cuts(data: pa.RecordBatch, limit_bytes: int | None) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """Yield (start, stop, rows over the limit) of pieces of at most some 16 MiB; one piece at least."""
    held = data.nbytes
    if held <= BATCH_BYTES * 2 and (limit_bytes is None or held <= limit_bytes):
        yield 0, data.num_rows, None
        return
    weights = row_bytes(data)
    large = weights > limit_bytes if limit_bytes is not None else None
    ends = np.cumsum(weights)
    start = 0
    while start < data.num_rows:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        yield start, stop, large[start:stop] if large is not None and large[start:stop].any() else None
        start = stop


def _set_aside_large(parcel: Parcel, large: np.ndarray, limit: int) -> None:
    gone = parcel.rows.select(large)
    nothing = pa.RecordBatch.from_arrays(
        [pa.nulls(gone.count, f.type) for f in gone.data.schema], schema=gone.data.schema
    )
    errors = pa.repeat(pa.scalar(f"the row is larger than max_row_bytes ({limit})", pa.string()), gone.count)
    unread = Rows(
        data=nothing,
        ordinals=gone.ordinals,
        prefix=gone.prefix,
        positions=gone.positions,
        ids=gone.ids,
        sources=gone.sources,
    )
    parcel.quarantined.append(Quarantined(rows=unread, failed_in=READ, errors=errors))
    parcel.rows = parcel.rows.select(~large)


def _set_aside_rejects(
    parcel: Parcel,
    rejects: tuple[Reject, ...],
    job: StageJob,
    prefix: str,
    ordinal: int,
    *,
    of: tuple[str, int] | None,
) -> int:
    schema = job.input_schema
    count = len(rejects)
    data = pa.RecordBatch.from_arrays([pa.nulls(count, f.type) for f in schema], schema=schema)
    rows = Rows(
        data=data,
        ordinals=np.arange(ordinal, ordinal + count),
        prefix=prefix,
        positions=pa.array([r.position for r in rejects], pa.int64()),
    )
    if of is not None:
        name, epoch = of
        rows = replace(rows, ids=row_ids(prefix, rows.positions, epoch), sources=pa.repeat(name, count))
    parcel.quarantined.append(
        Quarantined(
            rows=rows,
            failed_in=READ,
            errors=pa.array([r.error for r in rejects], pa.string()),
            raw=pa.array([r.raw for r in rejects], pa.binary()),
        )
    )
    parcel.rows_read += count
    return ordinal + count
