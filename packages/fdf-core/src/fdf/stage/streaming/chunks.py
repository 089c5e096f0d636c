"""Cuts a stream of records into chunks that depend on the records alone, and lays a chunk out as an Arrow file.

A chunk holds consecutive records, those that cannot be read included, in the order of the stream. Where it is cut does
not depend on how batches came, nor on where the stream was reopened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import BadFile
from fdf.fingerprint import sha256_hex
from fdf.mixture.sizes import Measure
from fdf.row_groups import RowGroups, whole
from fdf.sources.base import Reject, SourceBatch

MOST_ROWS = 8192
MOST_BYTES = 16 << 20
"""A chunk ends with the record that reaches one of these."""

POSITION, ERROR, RAW, SIZE = "position", "error", "raw", "size"
_OWN = (
    pa.field(POSITION, pa.int64()),
    pa.field(ERROR, pa.string()),
    pa.field(RAW, pa.binary()),
    pa.field(SIZE, pa.int64()),
)
_COLUMN = "="
"""What the source's own columns begin with in the file, so that none of them is taken for one of ours."""


@dataclass(frozen=True, kw_only=True)
class Counting:
    """How the records of a stream are counted. `columns` are its measure's columns as the source names them."""

    measure: Measure
    columns: tuple[str, ...]
    schema: pa.Schema
    """The columns that are read, under the source's names."""

    @property
    def layout(self) -> pa.Schema:
        """The columns of a chunk's file."""
        return pa.schema([*_OWN, *(pa.field(_COLUMN + f.name, f.type) for f in self.schema)])

    def sizes(self, rows: pa.RecordBatch, count: int) -> npt.NDArray[np.int64]:
        """Return what each readable record weighs."""
        if not self.columns:
            return np.ones(count, dtype=np.int64)
        arrays = [rows.column(name) for name in self.columns]
        return self.measure.of(pa.RecordBatch.from_arrays(arrays, names=list(self.measure.columns)))

    @property
    def unreadable(self) -> int:
        """What a record weighs that cannot be read."""
        return 0 if self.columns else 1


class Chunker:
    """Collects what a stream yields from record `start` on, and gives a chunk back whenever one is whole."""

    def __init__(self, counting: Counting, *, start: int, most_rows: int, most_bytes: int) -> None:
        self.next = start
        """The record that must come next."""
        self._counting = counting
        self._groups = RowGroups(counting.layout, max_bytes=most_bytes, max_rows=most_rows)
        self._last: pa.RecordBatch | None = None

    def add(self, batch: SourceBatch) -> Iterator[pa.RecordBatch]:
        """Take records; yield the chunks that they complete. Raises BadFile where they are not the next ones."""
        records = as_records(batch, self._counting)
        positions = records.column(POSITION).to_numpy()
        expected = np.arange(self.next, self.next + len(positions))
        if not np.array_equal(positions, expected):
            wrong = int(np.flatnonzero(positions != expected)[0])
            raise BadFile(
                f"the stream gave record {positions[wrong]} where record {expected[wrong]} comes next",
                help="this is a mistake of its source: positions are record numbers, each once and in order",
            )
        if not len(positions):
            return
        self.next += len(positions)
        self._last = records.slice(len(positions) - 1)
        for group in self._groups.add(records):
            yield _compact(whole(group))

    def rest(self) -> Iterator[pa.RecordBatch]:
        """Yield what is left when the stream has ended."""
        for group in self._groups.rest():
            yield _compact(whole(group))

    @property
    def last(self) -> str | None:
        """What tells the record before the next one from others; None where nothing came yet."""
        return None if self._last is None else fingerprint(self._last)


def as_records(batch: SourceBatch, counting: Counting) -> pa.RecordBatch:
    """Return a batch's rows and rejects together, by position."""
    count = len(batch.positions)
    sizes = counting.sizes(batch.rows, count)
    if len(sizes) and sizes.min() < 0:
        raise BadFile(
            f"a row has a negative number of {counting.measure.unit}",
            help=f"check the column `{counting.columns[0]}`, or leave it out with `columns:`",
        )
    columns = [batch.positions, pa.nulls(count, pa.string()), pa.nulls(count, pa.binary()), pa.array(sizes)]
    rows = pa.RecordBatch.from_arrays([*columns, *batch.rows.columns], schema=counting.layout)
    if not batch.rejects:
        return rows
    bad = len(batch.rejects)
    own = [
        pa.array([r.position for r in batch.rejects], pa.int64()),
        pa.array([r.error for r in batch.rejects], pa.string()),
        pa.array([r.raw for r in batch.rejects], pa.binary()),
        pa.array(np.full(bad, counting.unreadable), pa.int64()),
    ]
    rejected = pa.RecordBatch.from_arrays(
        [*own, *(pa.nulls(bad, f.type) for f in counting.schema)], schema=counting.layout
    )
    both = pa.concat_batches([rows, rejected])
    return both.take(pc.sort_indices(both, sort_keys=[(POSITION, "ascending")]))


def fingerprint(records: pa.RecordBatch) -> str:
    """Return what tells the last of some records from any other: a hash of its values."""
    last = records.slice(records.num_rows - 1)
    if last.column(ERROR).null_count == 0:
        return "unreadable"
    # The number that it bears is checked apart.
    return sha256_hex(_compact(last.drop_columns([POSITION])).serialize().to_pybytes())[:16]


def encoded(records: pa.RecordBatch) -> bytes:
    """Return a chunk as an Arrow file; the same records give the same bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, records.schema) as writer:
        writer.write_batch(records)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decoded(file: pa.NativeFile, schema: pa.Schema) -> SourceBatch:
    """Return a chunk's readable rows with these columns, and its rejects."""
    records = pa.ipc.open_file(file).get_batch(0)
    names = [_COLUMN + n for n in schema.names]
    errors = records.column(ERROR)
    readable = records.select([POSITION, *names])
    rejects: tuple[Reject, ...] = ()
    if errors.null_count < len(errors):
        bad = records.filter(errors.is_valid())
        readable = readable.filter(errors.is_null())
        rejects = tuple(
            Reject(position=p, error=e, raw=r or b"")
            for p, e, r in zip(*(bad.column(n).to_pylist() for n in (POSITION, ERROR, RAW)), strict=True)
        )
    columns = [readable.column(n) for n in names]
    rows = pa.RecordBatch.from_arrays(columns, schema=schema) if names else readable.select([])
    return SourceBatch(rows, readable.column(POSITION), rejects)


def _compact(records: pa.RecordBatch) -> pa.RecordBatch:
    """Return a copy whose buffers hold these records alone, whatever buffers they came in."""
    return records.take(pa.array(np.arange(records.num_rows)))
