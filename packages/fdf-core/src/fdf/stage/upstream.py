"""Reads shards of the stage before: all of a slice's rows, or those between two positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fdf.errors import BadFile, Problem, TransientError
from fdf.plan.job import StageJob
from fdf.plan.task import Task
from fdf.schema import GENERATED_BY, ID, REFINED_BY, SCORES, SOURCE, TAGS
from fdf.sources.base import Slice
from fdf.stage.inputs import BATCH_BYTES, Chunk, InputCount, counted
from fdf.stage.rows import Rows
from fdf.storage import open_store
from fdf.storage.retry import is_transient


def shard_chunks(task: Task, job: StageJob, inputs: list[InputCount]) -> Iterator[Chunk]:
    """Yield the rows of a task's shards."""
    for piece in task.inputs:
        count = counted(piece, inputs)
        with open_shard(job, piece.file.uri) as reader:
            groups, first_row = _row_groups(reader.metadata, piece)
            for rows in _rows(reader, job, piece, groups, first_row):
                yield Chunk(rows, (), count)


def shard_rows_within(piece: Slice, job: StageJob, first: int, last: int) -> Iterator[Rows]:
    """Yield the rows of the row groups that hold the rows `first` to `last` of a shard."""
    with open_shard(job, piece.file.uri) as reader:
        asked = replace(piece, start=first, stop=last + 1)
        groups, first_row = _overlapping(reader.metadata, asked)
        yield from _rows(reader, job, piece, groups, first_row)


def _rows(reader: pq.ParquetFile, job: StageJob, piece: Slice, groups: list[int], position: int) -> Iterator[Rows]:
    wanted = [c for c in (*job.input_schema.names, *job.upstream_marks) if c in reader.schema_arrow.names]
    for batch in reader.iter_batches(
        batch_size=_batch_rows(reader.metadata), row_groups=groups, columns=wanted, use_threads=False
    ):
        yield _shard_rows(batch, job, piece, position)
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
