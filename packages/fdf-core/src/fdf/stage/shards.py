"""The shards of the stage before as the leaves of a mixture: each row in its bucket, with what it weighs.

A shard is looked at once: only the columns that conditions and the unit need are read, and what came of it is kept in
`$FDF_CACHE/mixture-sizes` under the shard's checksum.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fdf.histogram import Histogram, observe
from fdf.mixture.buckets import Buckets, Codes, Quantile, Thresholds
from fdf.mixture.measuring import STEP, Measured
from fdf.mixture.sidecar import Sidecar
from fdf.mixture.sizes import Measure, Sizes
from fdf.plan.job import StageJob
from fdf.sources.base import InputFile, Slice
from fdf.stage.shard_file import FileEntry
from fdf.stage.upstream import open_shard
from fdf.storage.retry import retrying

_REMEMBERED = 16
_KEPT = pa.schema([("code", pa.uint16()), ("size", pa.int64()), ("bytes", pa.float64())])


@dataclass(frozen=True)
class Sorted:
    """One shard's rows: the bucket of each, and its size."""

    codes: Codes
    sizes: Sizes
    bytes_each: float


@dataclass
class Shards:
    """The upstream shards, looked at by need and from several threads."""

    job: StageJob
    entries: Sequence[FileEntry]
    buckets: Buckets
    measure: Measure
    thresholds: Thresholds
    columns: tuple[str, ...]
    _known: OrderedDict[str, Sorted] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)

    def pieces(self) -> list[Slice]:
        """Return the shards that have rows, in order."""
        return [
            Slice(file=InputFile(uri=e.path, path=e.split, size=e.bytes, version=e.sha256))
            for e in self.entries
            if e.rows
        ]

    def sorted(self, piece: Slice) -> Sorted:
        """Return a shard's rows by bucket; looks at it the first time."""
        name = piece.file.version
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            found = self._known.get(name)
            if found is None:
                found = self._load(piece) or self._look(piece)
            with self._lock:
                self._known[name] = found
                self._known.move_to_end(name)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return found

    def _look(self, piece: Slice) -> Sorted:
        found = retrying(partial(self._read, piece), what=piece.file.uri)
        self._save(piece, found)
        return found

    def _read(self, piece: Slice) -> Sorted:
        codes, sizes = [np.empty(0, dtype=np.uint16)], [np.empty(0, dtype=np.int64)]
        with open_shard(self.job, piece.file.uri) as reader:
            held = sum(reader.metadata.row_group(i).total_byte_size for i in range(reader.metadata.num_row_groups))
            for batch in _batches(reader, self.columns):
                codes.append(self.buckets.codes(batch, self.thresholds))
                sizes.append(self.measure.of(batch))
            rows = reader.metadata.num_rows
        return Sorted(np.concatenate(codes), np.concatenate(sizes), held / max(1, rows))

    def _sidecar(self, piece: Slice) -> Sidecar:
        return Sidecar(
            {
                "shard": piece.file.version,
                "buckets": [b.identity() for b in self.buckets.top],
                "thresholds": {k: list(v) for k, v in sorted(self.thresholds.items())},
                "measure": self.measure.describe(),
            }
        )

    def _load(self, piece: Slice) -> Sorted | None:
        batches = self._sidecar(piece).load()
        if not batches:
            return None
        (batch,) = batches
        return Sorted(batch["code"].to_numpy(), batch["size"].to_numpy(), float(batch["bytes"][0].as_py()))

    def _save(self, piece: Slice, found: Sorted) -> None:
        each = np.full(len(found.codes), found.bytes_each)
        self._sidecar(piece).save([pa.record_batch([found.codes, found.sizes, each], schema=_KEPT)], _KEPT)


@dataclass(frozen=True)
class BucketLeaf:
    """One bucket's rows across the shards, as documents of a mixture."""

    name: str
    number: int
    measure: Measure
    shards: Shards
    by_blocks: bool = False

    def describe(self) -> dict[str, Any]:
        """Return where the sizes come from, for the manifest."""
        return self.measure.describe()

    def pieces(self) -> list[Slice]:
        """Return the shards."""
        return self.shards.pieces()

    def measured(self, piece: Slice) -> Iterator[Measured]:
        """Yield the bucket's rows of a shard, by their row numbers."""
        found = self.shards.sorted(piece)
        rows = np.flatnonzero(found.codes == self.number).astype(np.int64)
        for start in range(0, len(rows), STEP):
            part = rows[start : start + STEP]
            yield Measured(part, found.sizes[part], 0)

    def record_bytes(self, piece: Slice) -> float:
        """Return what a row takes in memory, by the shard's footer."""
        return self.shards.sorted(piece).bytes_each

    def records(self) -> int:
        """Return how many rows it has."""
        return sum(len(part) for piece in self.pieces() for part in self.measured(piece))

    def total(self) -> int:
        """Return what all rows weigh."""
        return sum(int(part.sizes.sum()) for piece in self.pieces() for part in self.measured(piece))


def thresholds(
    quantiles: Mapping[str, Quantile], job: StageJob, entries: Sequence[FileEntry], manifest: Mapping[str, Any]
) -> tuple[dict[str, tuple[float | None, float | None]], dict[str, dict[str, Any]]]:
    """Return the values at the asked quantiles of the stage before, and where each was taken from."""
    values: dict[str, tuple[float | None, float | None]] = {}
    told: dict[str, dict[str, Any]] = {}
    columns: dict[tuple[str, bool], _Column] = {}
    for bucket, quantile in quantiles.items():
        key = (quantile.field, quantile.exact)
        if key not in columns:
            columns[key] = _Column(quantile, job, entries, manifest)
        column = columns[key]
        # Below the last quantile is everything: the largest values too.
        low, high = column.at(quantile.ge), column.at(None if quantile.lt == 1 else quantile.lt)
        values[bucket] = (low, high)
        told[bucket] = {"field": quantile.field, "from": low, "below": high, "by": column.origin}
    return values, told


class _Column:
    """The distribution of one column: as the manifest tells it, or from reading the column."""

    def __init__(
        self, quantile: Quantile, job: StageJob, entries: Sequence[FileEntry], manifest: Mapping[str, Any]
    ) -> None:
        self._sorted: np.ndarray | None = None
        self._histogram: Histogram | None = None
        if quantile.exact:
            self.origin = "the exact values"
            parts = [a.to_numpy(zero_copy_only=False) for a in _column(quantile.field, job, entries)]
            whole = np.concatenate([np.empty(0), *parts])
            self._sorted = np.sort(whole[~np.isnan(whole)])
            return
        self._histogram = _told(quantile.field, manifest)
        self.origin = "the histogram in the manifest of the stage before"
        if self._histogram is None:
            # What the manifest tells is of the rows that were scored, which may be more than were kept.
            self.origin = "a histogram of the column"
            self._histogram = Histogram()
            for array in _column(quantile.field, job, entries):
                self._histogram = self._histogram.merge(observe(array))

    def at(self, part: float | None) -> float | None:
        """Return the smallest value that at least `part` of the rows do not exceed; None for no bound at all."""
        if part is None:
            return None
        if self._sorted is not None:
            if not len(self._sorted):
                return None
            return float(self._sorted[max(0, int(np.ceil(part * len(self._sorted))) - 1)])
        assert self._histogram is not None
        found = self._histogram.quantile(part)
        return None if found is None else float(found.value)


def _told(field: str, manifest: Mapping[str, Any]) -> Histogram | None:
    # The last operator that wrote the column has what rows hold now.
    for operator in reversed(manifest["operators"]):
        told = operator["histograms"].get(field)
        if told is not None:
            histogram = Histogram.from_json(told)
            return histogram if histogram.rows == manifest["counts"]["rows_out"] else None
    return None


def _column(field: str, job: StageJob, entries: Sequence[FileEntry]) -> Iterator[pa.Array]:
    for entry in entries:
        with open_shard(job, entry.path) as reader:
            for batch in _batches(reader, (field,)):
                yield batch.column(field).cast(pa.float64())


def _batches(reader: Any, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield a shard's rows; where no column is wanted, as many rows without one."""
    if columns:
        yield from reader.iter_batches(batch_size=65_536, columns=list(columns), use_threads=False)
        return
    rows = reader.metadata.num_rows
    for start in range(0, rows, 65_536):
        count = min(65_536, rows - start)
        yield pa.RecordBatch.from_arrays([pa.nulls(count)], names=["_"]).select([])
