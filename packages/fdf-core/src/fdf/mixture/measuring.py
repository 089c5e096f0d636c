"""Measures the documents of indexed sources ahead of the schedule, shard after shard, and remembers what it found.

Only the columns that count are read. What was measured of a shard is kept in `$FDF_CACHE/mixture-sizes` under the
shard's content version, so that resuming and later runs read it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.errors import BadFile, StageFailed
from fdf.mixture.order import WINDOW
from fdf.mixture.sidecar import Sidecar
from fdf.mixture.sizes import Measure, Sizes
from fdf.schema import row_bytes
from fdf.sources.base import Slice, Source, SourceBatch
from fdf.storage.retry import retrying

STEP = 32 * WINDOW
"""Records that are measured before the first of them can be scheduled."""
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """Consecutive records of a shard, those that cannot be read included: where they stand and what each weighs."""

    positions: Integers
    sizes: Sizes
    bytes: int
    """Bytes of the measured columns: at least so much a reader will hold."""

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One indexed source of a mixture, as far as measuring and scheduling know it."""

    name: str
    source: Source
    measure: Measure
    renames: tuple[tuple[str, str], ...]
    """Every column it has: (name in the mixture, name in its files)."""
    schema: pa.Schema
    """The columns under the mixture's names and types."""
    by_blocks: bool = False
    """Whether a part is a block of the file, of the size that its footer says."""

    def record_bytes(self, piece: Slice) -> float:
        """Return about how many bytes of memory a record takes, as far as the source can tell."""
        return self.source.record_bytes(piece)

    def pieces(self) -> list[Slice]:
        """Return the shards, in input order."""
        return [piece for split in self.source.splits() for piece in split.slices]

    def measured(self, piece: Slice) -> Iterator[Measured]:
        """Yield a shard's records in order, `STEP` at a time, or block by block; from the cache where it is known."""
        if self.by_blocks:
            yield from self._blocks(piece)
            return
        found = self.known(piece)
        if found is not None:
            yield from found
            return
        parts: list[Measured] = []
        for part in _stepped(self._read(piece)):
            parts.append(part)
            yield part
        _sidecar(self, piece).save(map(_as_batch, parts), _KEPT)

    def records(self) -> int:
        """Return how many records there are, those that cannot be read included, or blocks; measures what may end
        early.
        """
        if self.by_blocks:
            return sum(1 for piece in self.pieces() for _ in self._blocks(piece))
        if self.source.on_bad_file == "skip":
            return sum(len(part) for piece in self.pieces() for part in self.measured(piece))
        count = 0
        for piece in self.pieces():
            try:
                count += retrying(partial(self.source.count_rows, piece, at_most=1 << 62), what=piece.file.uri)
            except BadFile as error:
                raise error.of(piece.file.uri) from error
        return count

    def known(self, piece: Slice) -> list[Measured] | None:
        """Return a shard's records where they were measured before; None where they were not."""
        batches = _sidecar(self, piece).load()
        return None if batches is None else [_from_batch(b) for b in batches]

    def sample(self, piece: Slice, rows: int) -> tuple[Measured, bool]:
        """Return at least so many first records of a shard, and whether they are all; nothing is remembered."""
        parts: list[Measured] = []
        for part in self._read(piece):
            parts.append(part)
            if sum(map(len, parts)) >= rows:
                return joined(parts), False
        return joined(parts), True

    def total(self) -> int:
        """Return what all records weigh; measures every shard."""
        return sum(int(part.sizes.sum()) for piece in self.pieces() for part in self.measured(piece))

    def describe(self) -> dict[str, Any]:
        """Return where the sizes come from, for the manifest."""
        said = self.measure.describe()
        return {**said, "method": f"footers, for: {said['method']}"} if self.by_blocks else said

    def _blocks(self, piece: Slice) -> Iterator[Measured]:
        """Yield the blocks of a shard; a block's size is spread evenly over its rows."""
        named = dict(self.renames)
        columns = [named[c] for c in self.measure.columns]
        try:
            blocks = self.source.blocks(piece, columns)
        except BadFile as error:
            if self.source.on_bad_file == "skip":
                return
            raise error.of(piece.file.uri) from error
        for block in blocks:
            size = self.measure.of_block(block.rows, block.bytes.values(), block.values.values())
            sizes = np.full(block.rows, size // block.rows, dtype=np.int64)
            sizes[: size % block.rows] += 1
            yield Measured(np.arange(block.start, block.start + block.rows, dtype=np.int64), sizes, 0)

    def _read(self, piece: Slice) -> Iterator[Measured]:
        named = dict(self.renames)
        old = [named[c] for c in self.measure.columns]
        wanted = pa.schema([(o, self.schema.field(n).type) for o, n in zip(old, self.measure.columns, strict=True)])
        batches = self.source.read(piece, schema=wanted)
        unreadable = 1 if self.measure.method == "rows" else 0
        while (batch := self._next(batches, piece)) is not None:
            rows = batch.rows.rename_columns(list(self.measure.columns)) if old else batch.rows
            positions = batch.positions.to_numpy(zero_copy_only=False)
            # A batch without columns has no rows of its own: its positions count.
            sizes = self.measure.of(rows) if old else np.ones(len(positions), dtype=np.int64)
            if batch.rejects:
                rejected = np.array([r.position for r in batch.rejects], dtype=np.int64)
                positions = np.concatenate([positions, rejected])
                sizes = np.concatenate([sizes, np.full(len(rejected), unreadable, dtype=np.int64)])
                order = np.argsort(positions, kind="stable")
                positions, sizes = positions[order], sizes[order]
            if len(sizes) and sizes.min() < 0:
                where = f"{piece.file.uri}, at {positions[int(sizes.argmin())]}"
                raise StageFailed(
                    f"a row of `{self.name}` has a negative number of {self.measure.unit}: {where}",
                    help=f"check the column `{self.measure.columns[0]}`, or leave it out with `columns:`",
                )
            yield Measured(positions, sizes, int(row_bytes(rows).sum()) if old else 0)

    def _next(self, batches: Iterator[SourceBatch], piece: Slice) -> SourceBatch | None:
        try:
            return next(batches, None)
        except BadFile as error:
            if self.source.on_bad_file == "skip":
                return None
            raise error.of(piece.file.uri) from error


def _stepped(parts: Iterator[Measured]) -> Iterator[Measured]:
    """Join and cut parts so that all but the last hold `STEP` records."""
    held: list[Measured] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        if count < STEP:
            continue
        whole = joined(held)
        full = count - count % STEP
        for start in range(0, full, STEP):
            share = whole.bytes * STEP // count
            yield Measured(whole.positions[start : start + STEP], whole.sizes[start : start + STEP], share)
        held = [Measured(whole.positions[full:], whole.sizes[full:], whole.bytes * (count - full) // count)]
        count -= full
    if count:
        yield joined(held)


def joined(parts: Sequence[Measured]) -> Measured:
    """Return the records of all parts."""
    none = np.empty(0, dtype=np.int64)
    return Measured(
        np.concatenate([none, *(p.positions for p in parts)]),
        np.concatenate([none, *(p.sizes for p in parts)]),
        sum(p.bytes for p in parts),
    )


_KEPT = pa.schema([("position", pa.int64()), ("size", pa.int64()), ("bytes", pa.int64())])


def _sidecar(leaf: Leaf, piece: Slice) -> Sidecar:
    """Return where what is known of one shard's records is kept: a record batch per part."""
    named = dict(leaf.renames)
    return Sidecar(
        {
            "uri": piece.file.uri,
            "version": piece.file.version,
            "range": [piece.start, piece.stop],
            "source": [leaf.source.type, leaf.source.version, leaf.source.options()],
            "measure": leaf.measure.describe(),
            "columns": [[n, named[n], str(leaf.schema.field(n).type)] for n in leaf.measure.columns],
            "step": STEP,
            # What a bad file held before it broke is all there is of it only where its rest is passed by.
            **({"on_bad_file": "skip"} if leaf.source.on_bad_file == "skip" else {}),
        }
    )


def _as_batch(part: Measured) -> pa.RecordBatch:
    held = np.full(len(part), part.bytes, dtype=np.int64)
    return pa.record_batch([part.positions, part.sizes, held], schema=_KEPT)


def _from_batch(batch: pa.RecordBatch) -> Measured:
    return Measured(batch["position"].to_numpy(), batch["size"].to_numpy(), int(batch["bytes"][0].as_py()))


class Measurable(Protocol):
    """What a mixture needs of a leaf, wherever its documents stand."""

    @property
    def name(self) -> str: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def by_blocks(self) -> bool: ...
    def describe(self) -> dict[str, Any]: ...
    def pieces(self) -> list[Slice]: ...
    def measured(self, piece: Slice) -> Iterator[Measured]: ...
    def record_bytes(self, piece: Slice) -> float: ...
    def records(self) -> int: ...
    def total(self) -> int: ...


def listing(leaf: Measurable) -> list[Slice]:
    """Return a leaf's shards; faults of the store that pass are waited for."""
    return retrying(partial(leaf.pieces), what=f"listing `{leaf.name}`")
