"""Makes the tasks of a stage: from the splits of a source, the shards of the stage before, or groups of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow.parquet as pq

from fdf.fingerprint import sha256_hex
from fdf.operator import Resources
from fdf.plan.job import StageJob
from fdf.plan.model import StagePlan
from fdf.plan.task import SplitKey, StageRef, Task
from fdf.sources.base import InputFile, Slice, Source
from fdf.stage.shard_file import FileEntry
from fdf.stage.upstream import open_shard
from fdf.storage.retry import retrying


class Piece(NamedTuple):
    """A split before it is a task."""

    key: SplitKey
    inputs: tuple[Slice, ...]
    bytes: int
    """About how many it holds."""
    position: str = ""
    """Where its rows stand in a mixture's schedule."""


def stage_tasks(
    stage: StagePlan, job: StageJob, upstream: Sequence[FileEntry] | None, *, limit: int | None
) -> Iterator[Task]:
    """Yield the tasks of a stage in input order; a source is listed as tasks are drawn."""
    ref = StageRef.of(job)
    resources = needed_resources(job)
    if upstream is None:
        assert job.source is not None
        pieces = _source_pieces(job.source, job.source_name)
    elif stage.group_bytes is not None:
        pieces = _whole_or_parts(upstream, stage.group_bytes, job)
    else:
        pieces = (_shard_piece(entry) for entry in upstream)
    if upstream is None and limit is not None:
        assert job.source is not None
        yield from _limited(pieces, job.source, limit, ref, resources)
        return
    if stage.group_bytes is None:
        for piece in pieces:
            yield Task(key=piece.key, stage=ref, inputs=piece.inputs, resources=resources, position=piece.position)
        return
    for group in grouped(pieces, stage.group_bytes):
        key = group_key([piece.key for piece in group])
        inputs = tuple(i for piece in group for i in piece.inputs)
        position = group[0].position
        yield Task(key=key, kind="group", stage=ref, inputs=inputs, resources=resources, position=position)


def grouped(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """Join consecutive pieces into groups of about `size` bytes, whose borders mostly stay when pieces are appended.

    A group is closed at half the size or more where the location's hash says so, and before it would exceed twice.
    """
    group: list[Piece] = []
    held = 0
    for piece in pieces:
        key, weight = piece.key, piece.bytes
        if group and held + weight > 2 * size:
            yield group
            group, held = [], 0
        group.append(piece)
        held += weight
        if held >= 2 * size or (held >= size / 2 and int(key.location, 16) % 4 == 0):
            yield group
            group, held = [], 0
    if group:
        yield group


def group_key(members: Sequence[SplitKey]) -> SplitKey:
    """Name a group by its first member; its version is that of all members."""
    if len(members) == 1:
        return members[0]
    version = sha256_hex("\n".join(f"{m.location} {m.version}" for m in members))[:16]
    return SplitKey(location=sha256_hex(f"{members[0].location}+")[:32], version=version)


def _source_pieces(source: Source, name: str) -> Iterator[Piece]:
    for split in source.splits():
        key = SplitKey.of(name, split.location, split.version)
        yield Piece(key, split.slices, sum(s.bytes for s in split.slices))


def _shard_piece(entry: FileEntry) -> Piece:
    file = InputFile(uri=entry.path, path=entry.split, size=entry.bytes, version=entry.sha256)
    key = SplitKey(location=entry.split, version=entry.sha256[:16])
    return Piece(key, (Slice(file=file),), entry.bytes, entry.position)


def _whole_or_parts(entries: Iterable[FileEntry], size: int, job: StageJob) -> Iterator[Piece]:
    """Cut shards of more than twice the size at row groups."""
    for entry in entries:
        piece = _shard_piece(entry)
        key, (whole,) = piece.key, piece.inputs
        if entry.bytes <= 2 * size:
            yield piece
            continue
        metadata = retrying(partial(_footer, job, entry.path), what=entry.path)
        start = row = held = 0
        scale = entry.bytes / max(1, sum(_group_bytes(metadata, i) for i in range(metadata.num_row_groups)))
        for number in range(metadata.num_row_groups):
            held += int(_group_bytes(metadata, number) * scale)
            row += metadata.row_group(number).num_rows
            if held >= size or number == metadata.num_row_groups - 1:
                part = Slice(file=whole.file, start=start, stop=row, share=held / entry.bytes)
                yield Piece(SplitKey.of(key.location, f"{start}:{row}", key.version), (part,), held, entry.position)
                start, held = row, 0


def _footer(job: StageJob, path: str) -> pq.FileMetaData:
    with open_shard(job, path) as reader:
        return reader.metadata


def _group_bytes(metadata: pq.FileMetaData, number: int) -> int:
    group = metadata.row_group(number)
    return sum(group.column(i).total_compressed_size for i in range(group.num_columns))


def _limited(
    pieces: Iterable[Piece], source: Source, limit: int, ref: StageRef, resources: Resources
) -> Iterator[Task]:
    """Yield tasks for the first `limit` records in input order, counting them as far as needed."""
    left = limit
    for piece in pieces:
        whole, inputs = piece.key, piece.inputs
        if left <= 0:
            return
        here = sum(retrying(partial(source.count_rows, i, at_most=left), what=f"counting {i.file.uri}") for i in inputs)
        key = whole
        if here >= left:
            # How much of this split is taken depends on the splits before it.
            key = SplitKey(location=whole.location, version=sha256_hex(f"{whole.version} first {left}")[:16])
        yield Task(key=key, stage=ref, inputs=inputs, resources=resources, limit=left)
        left -= here


def needed_resources(job: StageJob) -> Resources:
    """Return what a worker of a stage needs: of each resource the most that one of its operators asks for."""
    asked = [s.use.resources for s in job.steps]
    return Resources(
        cpus=max((r.cpus for r in asked), default=1),
        gpus=max((r.gpus for r in asked), default=0),
        memory=max((r.memory for r in asked), default=0),
    )
