"""Re-cuts a stream of batches into groups that depend on the rows alone, so that files have the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.schema import decoded, row_bytes


def as_plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with exactly this plain schema: dictionaries decoded, metadata gone."""
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    columns = []
    for field in schema:
        column = decoded(batch.column(field.name))
        columns.append(column if column.type.equals(field.type) else pc.cast(column, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def schema_with(schema: pa.Schema, constants: dict[str, str]) -> pa.Schema:
    """Return a schema with a further string column for each constant."""
    return pa.schema([*schema, *(pa.field(name, pa.string()) for name in constants)])


def batch_with(batch: pa.RecordBatch, constants: dict[str, str]) -> pa.RecordBatch:
    """Return a batch with each constant in every row of a further column."""
    if not constants:
        return batch
    same = [pa.repeat(pa.scalar(value, pa.string()), batch.num_rows) for value in constants.values()]
    return pa.RecordBatch.from_arrays([*batch.columns, *same], schema=schema_with(batch.schema, constants))


def whole(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return one contiguous batch with the rows of all, of which there is one at least."""
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def even(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Re-cut batches into chunks of exactly so many rows, the last one of fewer.

    A chunk that lies within one batch is a view of it: only what crosses the border of two batches is copied.
    """
    held: list[pa.RecordBatch] = []
    missing = rows
    for batch in batches:
        start = 0
        while batch.num_rows - start >= missing:
            yield whole([*held, batch.slice(start, missing)])
            start += missing
            held, missing = [], rows
        if start < batch.num_rows:
            held.append(batch.slice(start))
            missing -= batch.num_rows - start
    if held:
        yield whole(held)


class RowGroups:
    """Collects rows; gives a group back whenever its bytes reach `max_bytes` or its rows `max_rows`.

    The row that reaches the limit is the group's last one. Weights come from logical values, so the cuts are at the
    same rows however the rows arrived.
    """

    def __init__(self, schema: pa.Schema, *, max_bytes: int, max_rows: int) -> None:
        self._schema = schema
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._held: list[pa.RecordBatch] = []
        self._rows = 0
        # What is held weighs `_bytes`, but for the last `_unweighed` batches, which weigh `_at_most` or less.
        self._bytes = 0
        self._unweighed = 0
        self._at_most = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[list[pa.RecordBatch]]:
        """Take rows and yield the groups that they complete, each as the batches or parts of batches that it is of."""
        batch = as_plain(batch, self._schema)
        bound = _most_bytes(batch)
        if self._bytes + self._at_most + bound < self._max_bytes and self._rows + batch.num_rows < self._max_rows:
            # Far from any cut: weighing row by row can wait until it matters, for small files for ever.
            self._hold(batch)
            self._unweighed += 1
            self._at_most += bound
            return
        self._weigh_held()
        ends = np.cumsum(row_bytes(batch))
        start = 0
        while start < batch.num_rows:
            before = int(ends[start - 1]) if start else 0
            # The first row at which the group's bytes reach the limit, and the one at which its rows do.
            by_bytes = int(np.searchsorted(ends, before + self._max_bytes - self._bytes)) + 1
            stop = min(by_bytes, start + self._max_rows - self._rows)
            if stop > batch.num_rows:
                self._hold(batch.slice(start))
                self._bytes += int(ends[-1]) - before
                return
            stop = max(stop, start + 1)
            self._hold(batch.slice(start, stop - start))
            yield self._release()
            start = stop

    def rest(self) -> Iterator[list[pa.RecordBatch]]:
        """Yield what is left, if anything is."""
        if self._rows:
            yield self._release()

    def _hold(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._rows += batch.num_rows

    def _weigh_held(self) -> None:
        fresh = self._held[len(self._held) - self._unweighed :]
        self._bytes += sum(int(row_bytes(batch).sum()) for batch in fresh)
        self._unweighed = self._at_most = 0

    def _release(self) -> list[pa.RecordBatch]:
        group, self._held = self._held, []
        self._bytes = self._rows = self._unweighed = self._at_most = 0
        return group


def _most_bytes(batch: pa.RecordBatch) -> int:
    """Return what the rows weigh at most: their buffers, and what `row_bytes` rounds up for bits, nulls and offsets."""
    held: int = batch.nbytes
    # A bit in a list is weighed as a byte, and how many there are is not known from the number of rows.
    bits = 8 if any(pa.types.is_nested(f.type) for f in batch.schema) else 1
    leaves: int = sum(_leaves(f.type) for f in batch.schema)
    rows: int = batch.num_rows
    return held * bits + 8 * rows * leaves


@lru_cache(maxsize=1024)
def _leaves(kind: pa.DataType) -> int:
    inner: int = sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    return 1 + inner
