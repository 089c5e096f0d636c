"""Writes the rows that leave a stage on the way: dropped ones with reason and evidence, quarantined ones with error.

Rows stand in the order in which they were read, whichever operator rejected them, so that the files do not depend on
how rows were cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fdf.plan.job import StageJob
from fdf.plan.task import SplitKey
from fdf.schema import DROP_EVIDENCE, DROP_REASON, ERROR, FAILED_IN, RAW
from fdf.stage.rows import Integers, Rows, concat_batches, provenance_columns, provenance_schema
from fdf.stage.segment import Dropped, Quarantined
from fdf.stage.shard_file import ShardFile

SAMPLE_SIZE = 100
HELD_BYTES = 32 << 20


def dropped_schema(job: StageJob) -> pa.Schema:
    """Return the schema of dropped rows: provenance, reason, evidence, and the row's own columns by policy."""
    own = [] if job.drops == "ids" else list(job.rejected_schema)
    marks = [pa.field(DROP_REASON, pa.string()), pa.field(DROP_EVIDENCE, pa.string())]
    return pa.schema([*provenance_schema(job), *marks, *own])


def quarantine_schema(job: StageJob) -> pa.Schema:
    """Return the schema of quarantined rows: provenance, where and why, unreadable bytes, the row."""
    marks = [pa.field(FAILED_IN, pa.string()), pa.field(ERROR, pa.string()), pa.field(RAW, pa.binary())]
    return pa.schema([*provenance_schema(job), *marks, *job.rejected_schema])


class DropWriter:
    """Writes the dropped rows of one split by the stage's policy."""

    def __init__(self, file: ShardFile, job: StageJob, key: SplitKey) -> None:
        self._file = file
        self._job = job
        self._schema = dropped_schema(job)
        self._sample = _Sample(key=xxhash.xxh3_64_intdigest(key.location.encode(), seed=job.seed & (2**64 - 1)))
        self._held = _Held(file.beside("held"))

    def write(self, dropped: list[Dropped]) -> None:
        """Take the rows that one batch lost."""
        if not dropped or self._job.drops == "none":
            return
        ordinals = np.concatenate([d.rows.ordinals for d in dropped])
        order = np.argsort(ordinals, kind="stable")
        marks = concat_batches([self._marks(d) for d in dropped]).take(pa.array(order))
        if self._job.drops == "ids":
            self._file.write(marks)
            return
        if self._job.drops == "full":
            own = concat_batches([own_columns(d.whole(), self._job.rejected_schema) for d in dropped])
            self._file.write(_beside(marks, own.take(pa.array(order)), self._schema))
            return
        # Which rows are in the sample is known at the end of the split only; until then the narrow part is held.
        numbers = np.empty(len(order), dtype=np.int64)
        numbers[order] = self._held.rows + np.arange(len(order))
        self._held.add(marks)
        start = 0
        for d in dropped:
            stop = start + d.rows.count
            self._sample.offer(d, numbers[start:stop], self._job.rejected_schema)
            start = stop

    def finish(self) -> None:
        """Write what had to wait for the end of the split."""
        if not self._held.rows:
            return
        numbers, rows = self._sample.chosen(self._job.rejected_schema)
        where = np.full(self._held.rows, -1, dtype=np.int64)
        where[numbers] = np.arange(len(numbers))
        done = 0
        for marks in self._held.batches():
            here = where[done : done + marks.num_rows]
            own = rows.take(pa.array(here, mask=here < 0))
            self._file.write(_beside(marks, own, self._schema))
            done += marks.num_rows

    def discard(self) -> None:
        """Remove what was held aside."""
        self._held.discard()

    def _marks(self, dropped: Dropped) -> pa.RecordBatch:
        schema = provenance_schema(self._job)
        by = pa.repeat(pa.scalar(dropped.operator_id, pa.string()), dropped.rows.count)
        columns = provenance_columns(dropped.rows, self._job, schema, dropped_by=by)
        names = [*schema.names, DROP_REASON, DROP_EVIDENCE]
        return pa.RecordBatch.from_arrays([*columns, dropped.reasons, dropped.evidence], names=names)


class _Held:
    """Batches that wait, in memory up to a bound and then in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._writer: pa.RecordBatchStreamWriter | None = None
        self.rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self._bytes += batch.nbytes
        self.rows += batch.num_rows
        if self._bytes > HELD_BYTES:
            self._spill()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield everything, in the order in which it came."""
        if self._writer is not None:
            self._writer.close()
            with pa.OSFile(str(self._path)) as file:
                yield from pa.ipc.open_stream(file)
        yield from self._batches

    def discard(self) -> None:
        self._batches.clear()
        if self._writer is not None:
            self._writer.close()
            self._path.unlink(missing_ok=True)

    def _spill(self) -> None:
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(str(self._path), self._batches[0].schema, options=options)
        for batch in self._batches:
            self._writer.write_batch(batch)
        self._batches.clear()
        self._bytes = 0


@dataclass
class _Sample:
    """The 100 rows with the lowest keyed hash, per operator and reason."""

    key: int
    _best: dict[tuple[str, str], _Best] = field(default_factory=dict)

    def offer(self, dropped: Dropped, numbers: Integers, schema: pa.Schema) -> None:
        hashes = _mix(dropped.rows.ordinals, self.key)
        for reason in pc.unique(dropped.reasons).to_pylist():
            mine = np.flatnonzero(pc.equal(dropped.reasons, reason).to_numpy(zero_copy_only=False))
            best = self._best.setdefault((dropped.operator_id, reason), _Best())
            mine = mine[hashes[mine] < best.bound]
            if len(mine) > SAMPLE_SIZE:
                mine = mine[np.argsort(hashes[mine], kind="stable")[:SAMPLE_SIZE]]
            if len(mine):
                rows = own_columns(dropped.whole(mine), schema)
                best.add(hashes[mine], numbers[mine], rows)

    def chosen(self, schema: pa.Schema) -> tuple[Integers, pa.RecordBatch]:
        best = list(self._best.values())
        rows = concat_batches(
            [pa.RecordBatch.from_pylist([], schema=schema), *(b.rows for b in best if b.rows is not None)]
        )
        return np.concatenate([np.empty(0, dtype=np.int64), *(b.numbers for b in best)]), rows


class _Best:
    def __init__(self) -> None:
        self.hashes: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self.numbers: Integers = np.empty(0, dtype=np.int64)
        self.rows: pa.RecordBatch | None = None

    @property
    def bound(self) -> np.uint64:
        full = len(self.hashes) >= SAMPLE_SIZE
        return self.hashes.max() if full else np.uint64(2**64 - 1)

    def add(self, hashes: npt.NDArray[np.uint64], numbers: Integers, rows: pa.RecordBatch) -> None:
        self.hashes = np.concatenate([self.hashes, hashes])
        self.numbers = np.concatenate([self.numbers, numbers])
        self.rows = rows if self.rows is None else concat_batches([self.rows, rows])
        if len(self.hashes) > SAMPLE_SIZE:
            lowest = np.sort(np.argsort(self.hashes, kind="stable")[:SAMPLE_SIZE])
            self.hashes, self.numbers = self.hashes[lowest], self.numbers[lowest]
            self.rows = self.rows.take(pa.array(lowest))


class QuarantineWriter:
    """Writes the quarantined rows of one split, whole."""

    def __init__(self, file: ShardFile, job: StageJob) -> None:
        self._file = file
        self._job = job
        self._schema = quarantine_schema(job)

    def write(self, quarantined: list[Quarantined]) -> None:
        """Take the rows that failed in one batch."""
        if not quarantined:
            return
        order = pa.array(np.argsort(np.concatenate([q.rows.ordinals for q in quarantined]), kind="stable"))
        self._file.write(concat_batches([self._batch(q) for q in quarantined]).take(order))

    def _batch(self, rejected: Quarantined) -> pa.RecordBatch:
        count = rejected.rows.count
        columns = provenance_columns(rejected.rows, self._job, provenance_schema(self._job))
        raw = rejected.raw if rejected.raw is not None else pa.nulls(count, pa.binary())
        failed_in = pa.repeat(pa.scalar(rejected.failed_in, pa.string()), count)
        own = own_columns(rejected.rows, self._job.rejected_schema)
        return pa.RecordBatch.from_arrays(
            [*columns, failed_in, rejected.errors, raw, *own.columns], schema=self._schema
        )


def own_columns(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    """Return a row's user columns in the common shape of all rejected rows; what it lacks is null."""
    if not schema.names:
        return rows.data.select([])
    names = rows.data.schema.names
    columns = []
    for wanted in schema:
        if wanted.name not in names:
            columns.append(pa.nulls(rows.count, wanted.type))
            continue
        column = rows.data.column(wanted.name)
        columns.append(column if column.type == wanted.type else _as_text(column))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _as_text(column: pa.Array) -> pa.Array:
    try:
        return pc.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # A nested or undecodable value: rejected rows are few, and a readable form is better than none.
        return pa.array([None if v is None else repr(v) for v in column.to_pylist()], pa.string())


def _beside(left: pa.RecordBatch, right: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([*left.columns, *right.columns], schema=schema)


def _mix(ordinals: Integers, key: int) -> npt.NDArray[np.uint64]:
    """Return a keyed hash per row: the finalizer of SplitMix64 (Steele, Lea and Flood 2014) over ordinal and key."""
    with np.errstate(over="ignore"):
        x = ordinals.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key & (2**64 - 1))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed
