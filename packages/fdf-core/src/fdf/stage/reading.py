"""Opens a task: its inputs as parcels of rows with a stable id each, and what cannot be read set aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fdf.errors import BadFile, Problem, TransientError
from fdf.fingerprint import sha256_hex
from fdf.plan.job import LeafJob, StageJob
from fdf.plan.task import Part, Range, Task
from fdf.schema import GENERATED_BY, ID, REFINED_BY, SCORES, SOURCE, TAGS, row_bytes
from fdf.sources.base import Reject, Slice, Source, SourceBatch
from fdf.stage.crashpoints import reach
from fdf.stage.mixed import (
    LEFT_OUT,
    Account,
    PartRows,
    in_schedule,
    nothing,
    prefix_of,
    row_ids,
    shard_part,
    source_part,
)
from fdf.stage.readers import Readers
from fdf.stage.rows import Rows
from fdf.stage.segment import Dropped, Parcel, Quarantined
from fdf.storage import open_store
from fdf.storage.retry import is_transient

BATCH_BYTES = 16 << 20
READ = "read"
"""The name that stands for reading where an operator id is asked for."""


@dataclass
class InputCount:
    """What was read of one input."""

    uri: str
    version: str
    bytes: int
    rows: int = 0
    extra_columns: tuple[str, ...] = ()
    """Columns that the stage's fixed schema does not have, left out (`extra_columns: drop`)."""
    error: str | None = None
    """Why the file, or the rest of it, was skipped (`on_bad_file: skip`)."""


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
        chunks = _mixed_chunks(task.mixed, job, opened, opened.mixed, readers or Readers())
    elif job.source is not None:
        chunks = _source_chunks(task, job, opened)
    else:
        chunks = _shard_chunks(task, job, opened)
    opened.parcels = _parcels(chunks, job, task.limit)
    if task.mixed is not None and not task.mixed.order:
        opened.parcels = map(_left_out, opened.parcels)
    return opened


@dataclass(frozen=True)
class _Chunk:
    """Rows as one reader returned them; `ordinals` and size limits are still to come."""

    rows: Rows
    rejects: tuple[Reject, ...]
    count: InputCount
    of: tuple[str, int] | None = None
    """For rejects of a mixture: their leaf and epoch."""


def _source_chunks(task: Task, job: StageJob, opened: OpenTask) -> Iterator[_Chunk]:
    source = job.source
    assert source is not None
    physical = pa.schema([(old, job.input_schema.field(new).type) for new, old in job.renames])
    for piece in task.inputs:
        count = _counted(piece, opened)
        prefix = sha256_hex(f"{job.source_name}\0{piece.file.path}")[:16]
        for batch in _unless_bad(source.read(piece, schema=physical), source, count):
            _note_extra_columns(batch, job.known_columns, source, count)
            rows = Rows(
                data=_renamed(batch, job),
                ordinals=np.empty(len(batch.positions), dtype=np.int64),
                prefix=prefix,
                positions=batch.positions,
            )
            yield _Chunk(rows, batch.rejects, count)


def _note_extra_columns(batch: SourceBatch, known: tuple[str, ...], source: Source, count: InputCount) -> None:
    """Note columns that the fixed schema does not have; raise BadFile where they are an error."""
    extra = {*batch.extra_columns} - {*known} - {*count.extra_columns}
    if not extra:
        return
    if source.extra_columns == "error":
        raise BadFile(
            Problem(
                code="FDF412",
                message=f"{count.uri} has the columns {sorted(extra)}, which the schema of the input does not have",
                help="declare them with `schema:`, or leave them out with `extra_columns: drop`",
            )
        )
    count.extra_columns = tuple(sorted({*count.extra_columns, *extra}))


def _unless_bad(batches: Iterator[SourceBatch], source: Source, count: InputCount) -> Iterator[SourceBatch]:
    """Pass batches on; under `on_bad_file: skip` an unreadable rest of a file is noted and left out."""
    try:
        yield from batches
    except BadFile as error:
        if source.on_bad_file == "fail":
            raise error.of(count.uri) from error
        count.error = error.problems[0].message


def _renamed(batch: SourceBatch, job: StageJob) -> pa.RecordBatch:
    if not job.renames:
        return batch.rows
    columns = [batch.rows.column(old) for _, old in job.renames]
    return pa.RecordBatch.from_arrays(columns, schema=job.input_schema)


def _mixed_chunks(
    mixed: Range, job: StageJob, opened: OpenTask, account: Account, readers: Readers
) -> Iterator[_Chunk]:
    """Yield the rows of a range in the schedule's order, and then the rejects of each part."""
    parts = [_part(part, job, opened, account, readers, left_out=not mixed.order) for part in mixed.parts]
    yield _Chunk(in_schedule(mixed, [found for found, _ in parts]), (), InputCount(uri="", version="", bytes=0))
    for part, (found, count) in zip(mixed.parts, parts, strict=True):
        if found.rejects:
            leaf = job.leaves[part.leaf]
            none = replace(nothing(job), prefix=prefix_of(part, leaf))
            yield _Chunk(none, found.rejects, count, of=(leaf.name, part.epoch))


def _part(
    part: Part, job: StageJob, opened: OpenTask, account: Account, readers: Readers, *, left_out: bool
) -> tuple[PartRows, InputCount]:
    leaf = job.leaves[part.leaf]
    count = _counted(part.piece, opened)
    positions = np.frombuffer(part.positions, dtype="<i8")
    first, last = int(positions.min()), int(positions.max())
    if leaf.source is None:
        found = shard_part(
            part, leaf, job.stage, _shard_rows_within(part, job, first, last), account, left_out=left_out
        )
    else:
        physical = pa.schema([(old, job.input_schema.field(new).type) for new, old in leaf.renames])
        found_batches = readers.read(part.leaf, leaf.source, part.piece, first=first, last=last, schema=physical)
        batches = _unless_bad(found_batches, leaf.source, count)
        noted = _noted(batches, leaf, leaf.source, count)
        found = source_part(part, leaf, job, noted, account, skipped=lambda: count.error is not None)
    count.rows = found.rows.count
    return found, count


def _noted(batches: Iterator[SourceBatch], leaf: LeafJob, source: Source, count: InputCount) -> Iterator[SourceBatch]:
    for batch in batches:
        _note_extra_columns(batch, leaf.known_columns, source, count)
        yield batch


def _shard_rows_within(part: Part, job: StageJob, first: int, last: int) -> Iterator[Rows]:
    with open_shard(job, part.piece.file.uri) as reader:
        piece = replace(part.piece, start=first, stop=last + 1)
        groups, position = _overlapping(reader.metadata, piece)
        wanted = [c for c in (*job.input_schema.names, *job.upstream_marks) if c in reader.schema_arrow.names]
        for batch in reader.iter_batches(
            batch_size=_batch_rows(reader.metadata), row_groups=groups, columns=wanted, use_threads=False
        ):
            yield _shard_rows(batch, job, piece, position)
            position += batch.num_rows


def _overlapping(metadata: pq.FileMetaData, piece: Slice) -> tuple[list[int], int]:
    """Return the row groups that hold rows of the slice, and the number of the first row in them."""
    groups: list[int] = []
    first_row = row = 0
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        if row < (piece.stop or 0) and row + rows > piece.start:
            if not groups:
                first_row = row
            groups.append(number)
        row += rows
    return groups, first_row


def _left_out(parcel: Parcel) -> Parcel:
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


def _shard_chunks(task: Task, job: StageJob, opened: OpenTask) -> Iterator[_Chunk]:
    marks = job.upstream_marks
    for piece in task.inputs:
        count = _counted(piece, opened)
        with open_shard(job, piece.file.uri) as reader:
            groups, first_row = _row_groups(reader.metadata, piece)
            position = first_row
            wanted = [c for c in (*job.input_schema.names, *marks) if c in reader.schema_arrow.names]
            for batch in reader.iter_batches(
                batch_size=_batch_rows(reader.metadata), row_groups=groups, columns=wanted, use_threads=False
            ):
                yield _Chunk(_shard_rows(batch, job, piece, position), (), count)
                position += batch.num_rows


@contextmanager
def open_shard(job: StageJob, path: str) -> Iterator[pq.ParquetFile]:
    """Open a shard of the stage before. Raises BadFile naming it, also for what goes wrong while it is read."""
    assert job.upstream_root is not None
    try:
        with open_store(job.upstream_root).open(path) as stream:
            yield pq.ParquetFile(stream)
    except (pa.ArrowInvalid, OSError) as error:
        if is_transient(error):
            raise TransientError(f"shard {path} of {job.upstream_root} could not be read: {error}") from error
        raise BadFile(
            Problem(
                code="FDF411",
                message=f"shard {path} of {job.upstream_root} cannot be read: {error}",
                help=f"run again if another run wrote there meanwhile; else: fdf verify {job.upstream_root}",
            )
        ) from error


def _row_groups(metadata: pq.FileMetaData, piece: Slice) -> tuple[list[int], int]:
    """Return the row groups that begin within the slice's rows, and the number of the first of these rows."""
    groups: list[int] = []
    first_row = row = 0
    for number in range(metadata.num_row_groups):
        if piece.start <= row and (piece.stop is None or row < piece.stop):
            if not groups:
                first_row = row
            groups.append(number)
        row += metadata.row_group(number).num_rows
    return groups, first_row


def _batch_rows(metadata: pq.FileMetaData) -> int:
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return max(1, int(BATCH_BYTES * metadata.num_rows / max(1, size))) if metadata.num_rows else 1


def _shard_rows(batch: pa.RecordBatch, job: StageJob, piece: Slice, position: int) -> Rows:
    names = batch.schema.names

    def mark(name: str) -> pa.Array | None:
        return batch.column(name) if name in names else None

    scores = {}
    if SCORES in names:
        struct = batch.column(SCORES)
        scores = {f.name: a for f, a in zip(struct.type, struct.flatten(), strict=True)}
    data = batch.select(job.input_schema.names).replace_schema_metadata(None)
    return Rows(
        data=data.cast(job.input_schema) if data.schema != job.input_schema else data,
        ordinals=np.empty(batch.num_rows, dtype=np.int64),
        prefix=piece.file.path[:16],
        positions=pa.array(np.arange(position, position + batch.num_rows)),
        ids=mark(ID),
        sources=mark(SOURCE),
        tags=mark(TAGS),
        scores=scores,
        earlier_refined=mark(REFINED_BY),
        earlier_generated=mark(GENERATED_BY),
    )


def _counted(piece: Slice, opened: OpenTask) -> InputCount:
    count = InputCount(uri=piece.file.uri, version=piece.file.version, bytes=piece.bytes)
    opened.inputs.append(count)
    return count


def _parcels(chunks: Iterator[_Chunk], job: StageJob, limit: int | None) -> Iterator[Parcel]:
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
