"""Reads a committed dataset for training: its shards in the manifest's order, once, without holding more than a window.

Every consumer reads the row groups that its own documents lie in, and keeps of them only its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fdf.errors import BadFile, PlanError, Problem, StageFailed, TransientError, did_you_mean
from fdf.plan.job import OUTPUT_LAYOUT, STAGE_LAYOUT
from fdf.schema import ID, SOURCE, is_internal
from fdf.stage.manifest_file import read_manifest
from fdf.storage import open_store
from fdf.storage.base import Store
from fdf.storage.retry import is_transient, retrying
from fdf.training.lots import Lot, Pass
from fdf.training.striping import Integers, Law, Share

MOST_WINDOW, WINDOW_BYTES = 8192, 128 << 20
_BATCH_BYTES, _BATCH_ROWS = 8 << 20, 8192


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The dataset below a root, with the columns that are read of it."""

    root: str
    plan_hash: str
    shards: tuple[tuple[str, int], ...]
    """Each file below the root and its rows, in the manifest's order."""
    schema: pa.Schema
    bytes: int = 0
    """As it is stored."""
    seed: int = 0

    @property
    def where(self) -> str:
        return self.root

    @property
    def documents(self) -> int:
        return sum(rows for _, rows in self.shards)

    @property
    def window(self) -> int:
        """The documents of a window, by default: as many as are some 128 MiB in the store, 8,192 at most."""
        mean = self.bytes / max(1, self.documents)
        return max(64, min(MOST_WINDOW, int(WINDOW_BYTES / max(1.0, mean))))

    def lots(self, within: Pass, share: Share, law: Law) -> Iterator[Lot]:
        total = self.documents
        done = max(0, share.start - within.began)
        reader = _Reader(open_store(self.root), self.shards, self.schema)
        try:
            first = min(total, done) // law.window * law.window
            while first < total:
                count = min(law.window, total - first)
                places = within.began + law.places(first, count, epoch=within.epoch)
                own = np.flatnonzero(share.mine(places))
                rows, places = reader.take(first + own), places[own]
                order = np.argsort(places)
                yield Lot(_taken(rows, order), places[order], within.began + first + count, within)
                first += count
            if done >= total:
                yield Lot(_whole(self.schema.empty_table()), np.empty(0, dtype=np.int64), within.began + total, within)
        finally:
            reader.close()

    def locate(self, within: Pass, place: int, law: Law) -> Pass:
        passes = (place - within.began) // self.documents if self.documents else 0
        return Pass(epoch=within.epoch + passes, began=within.began + passes * self.documents) if passes else within


def open_finished(
    root: str, *, columns: Sequence[str] | None = None, manifest: Mapping[str, Any] | None = None
) -> Finished:
    """Open a committed stage or output. Raises PlanError where there is none, or no parquet in it."""
    store = open_store(root)
    found = manifest or _manifest(store)
    outputs = found["outputs"]
    others = [f["path"] for f in outputs if not f["path"].endswith(".parquet")]
    if others:
        raise PlanError(
            Problem(
                code="FDF360",
                message=f"{root} is not parquet ({others[0]}), so documents cannot be picked out of it",
                help="train on the stage before the output, or write `type: parquet`",
            )
        )
    stored = retrying(partial(_footer, store, outputs[0]["path"]), what=outputs[0]["path"])
    names = wanted_columns(stored, columns, where=root)
    return Finished(
        root=root,
        plan_hash=found["id"],
        shards=tuple((f["path"], f["rows"]) for f in outputs),
        schema=pa.schema([stored.field(n) for n in names]),
        bytes=sum(f["bytes"] for f in outputs),
        seed=found["seed"],
    )


def wanted_columns(there: pa.Schema, columns: Sequence[str] | None, *, where: str) -> list[str]:
    """Return the columns to read: those asked for, or all of the user's with id and source. Raises PlanError."""
    if columns is None:
        return [n for n in there.names if not is_internal(n) or n in (ID, SOURCE)]
    for name in columns:
        if name not in there.names:
            raise PlanError(
                Problem(
                    code="FDF362",
                    message=f"{where} has no column `{name}`",
                    hint=did_you_mean(name, there.names),
                    help=f"it has: {', '.join(there.names)}",
                )
            )
    if not columns:
        raise PlanError("`columns` is empty, so there would be nothing to hand out", help="name one at least")
    return list(dict.fromkeys(columns))


def _manifest(store: Store) -> dict[str, Any]:
    for layout in (STAGE_LAYOUT, OUTPUT_LAYOUT):
        found = read_manifest(store, layout.manifest)
        if found is not None and str(found[0].get("format", "")).startswith("fdf/"):
            return found[0]
    raise PlanError(
        Problem(
            code="FDF352",
            message=f"nothing is committed in {store.root}: there is no manifest.json and no __fdf__/manifest.json",
            help="name a stage or output directory, a recipe that ends in .yaml, or run the recipe first",
        )
    )


def _footer(store: Store, path: str) -> pa.Schema:
    with store.open(path) as stream:
        return pq.ParquetFile(stream).schema_arrow


class _Reader:
    """Reads rows of consecutive shards, wanted in rising order: a row group is read once, or not at all."""

    def __init__(self, store: Store, shards: Sequence[tuple[str, int]], schema: pa.Schema) -> None:
        self._store = store
        self._paths = [path for path, _ in shards]
        self._ends = np.cumsum([rows for _, rows in shards])
        self._schema = schema
        self._shard = -1
        self._stream: Any = None
        self._parquet: Any = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        self._start = self._stop = self._group_stop = 0

    def take(self, rows: Integers) -> pa.Table:
        """Return rows by their number in the dataset, which rises, also from call to call."""
        parts: list[pa.RecordBatch] = []
        at = 0
        while at < len(rows):
            if not self._start <= rows[at] < self._stop:
                self._advance(int(rows[at]))
                continue
            upto = int(np.searchsorted(rows, self._stop))
            wanted = rows[at:upto] - self._start
            assert self._batch is not None
            whole = len(wanted) == self._batch.num_rows
            parts.append(self._batch if whole else self._batch.take(pa.array(wanted)))
            at = upto
        return pa.Table.from_batches(parts, schema=self._schema)

    def close(self) -> None:
        """Let go of the open shard."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _advance(self, row: int) -> None:
        """Read on, up to the next batch or, where a row is in none of this row group, to the one that it is in."""
        try:
            if row >= self._group_stop:
                self._seek(row)
            self._batch = next(self._batches).select(self._schema.names).replace_schema_metadata(None)
        except (pa.ArrowInvalid, OSError, StopIteration) as error:
            where = f"shard {self._paths[self._shard]} of {self._store.root}"
            if isinstance(error, OSError) and is_transient(error):
                raise TransientError(f"{where} could not be read: {error}") from error
            raise BadFile(
                Problem(
                    code="FDF411",
                    message=f"{where} cannot be read: {error or 'it has fewer rows than its manifest says'}",
                    help=f"fdf verify {self._store.root}",
                )
            ) from error
        self._start, self._stop = self._stop, self._stop + self._batch.num_rows

    def _seek(self, row: int) -> None:
        """Open the row group that holds a row."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        if shard != self._shard:
            self.close()
            self._shard = shard
            path = self._paths[shard]
            self._stream = retrying(lambda: self._store.open(path), what=path)
            self._parquet = pq.ParquetFile(self._stream)
        start = int(self._ends[shard - 1]) if shard else 0
        metadata = self._parquet.metadata
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if row < start + group.num_rows:
                size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * group.num_rows // max(1, group.total_byte_size)))
                self._batches = self._parquet.iter_batches(
                    size, row_groups=[number], columns=self._schema.names, use_threads=False
                )
                self._stop, self._group_stop = start, start + group.num_rows
                return
            start += group.num_rows
        raise StageFailed(f"row {row} of the dataset is in no row group", help=f"fdf verify {self._store.root}")


def _taken(rows: pa.Table, order: Integers) -> pa.RecordBatch:
    return _whole(rows.take(pa.array(order)))


def _whole(rows: pa.Table) -> pa.RecordBatch:
    batches = rows.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema)
