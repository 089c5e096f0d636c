"""Commits a task: writes what came of its rows aside, puts the files in place, then its receipt, exactly once.

Until the receipt is there nothing has happened; when it is there, all of it has. Of two attempts at one task the
first receipt wins, and the loser's files go with the commit of the stage.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import StageFailed
from fdf.plan.job import StageJob
from fdf.plan.task import Task
from fdf.schema import OPERATOR_VERSIONS
from fdf.sinks.parquet import ParquetSink
from fdf.stage.crashpoints import reach
from fdf.stage.reading import READ, OpenTask
from fdf.stage.receipt import COUNTS, Receipt
from fdf.stage.rejects import DropWriter, QuarantineWriter, dropped_schema, quarantine_schema
from fdf.stage.rows import Rows, kept_batch, kept_schema
from fdf.stage.segment import Parcel
from fdf.stage.shard_file import FileEntry, ShardFile
from fdf.stage.tally import Tally
from fdf.storage.base import Store


class _Kept:
    """Counts kept rows by source, in the unit of the run's mixture."""

    def __init__(self, job: StageJob) -> None:
        self._measure = job.counted
        self._name = job.source_name
        self._columns = set(job.output_schema.names)
        self._counts: dict[str, list[int]] = {}

    def add(self, rows: Rows) -> None:
        if self._measure is None or not rows.count:
            return
        sources = rows.sources if rows.sources is not None else pa.repeat(self._name, rows.count)
        coded = pc.dictionary_encode(sources)
        codes = coded.indices.to_numpy(zero_copy_only=False)
        units = None
        if self._columns.issuperset(self._measure.reads):
            units = self._measure.of(rows.data)
        for code, name in enumerate(coded.dictionary.to_pylist()):
            mask = codes == code
            entry = self._counts.setdefault(name, [0, 0])
            entry[0] += int(mask.sum())
            entry[1] += int(units[mask].sum()) if units is not None else 0

    def to_json(self) -> dict[str, list[int]]:
        return dict(sorted(self._counts.items()))


class _Account:
    """Adds up what the parcels of one task say."""

    def __init__(self, job: StageJob) -> None:
        self.tallies = {step.id: Tally() for step in job.steps}
        self.counts = dict.fromkeys(COUNTS, 0)
        self.read_errors: Counter[str] = Counter()
        self._operators = {step.id: step.use.operator for step in job.steps}

    def add(self, parcel: Parcel) -> None:
        for operator_id, tally in parcel.tallies.items():
            self.tallies[operator_id].add(tally, self._operators[operator_id])
            self.counts["rows_generated"] += tally.generated
            self.counts["rows_expanded"] += tally.expanded
        self.counts["rows_in"] += parcel.rows_read
        self.counts["rows_out"] += parcel.rows.count
        self.counts["rows_dropped"] += sum(d.rows.count for d in parcel.dropped)
        self.counts["rows_quarantined"] += sum(q.rows.count for q in parcel.quarantined)
        for rejected in parcel.quarantined:
            if rejected.failed_in == READ:
                self.read_errors.update(str(e)[:200] for e in rejected.errors.to_pylist())


def commit_task(
    task: Task, job: StageJob, parcels: Iterable[Parcel], store: Store, *, opened: OpenTask, attempts: int = 1
) -> Receipt:
    """Write the task's rows and commit them; return the receipt that counts, which may be another attempt's.

    Raises StageFailed, and commits nothing, where rows went missing on the way.
    """
    started = time.perf_counter()
    schema = kept_schema(job)
    constants = {OPERATOR_VERSIONS: job.operator_versions}
    kept = ShardFile(store, job.sink, schema, constants=constants if job.provenance == "full" else None)
    rejects_sink = ParquetSink()
    dropped = ShardFile(store, rejects_sink, dropped_schema(job), constants=constants)
    failed = ShardFile(store, rejects_sink, quarantine_schema(job), constants=constants)
    drops = DropWriter(dropped, job, task.key)
    quarantine = QuarantineWriter(failed, job)
    account = _Account(job)
    by_source = _Kept(job)
    try:
        for parcel in parcels:
            account.add(parcel)
            drops.write(parcel.dropped)
            quarantine.write(parcel.quarantined)
            if parcel.rows.count:
                by_source.add(parcel.rows)
                kept.write(kept_batch(parcel.rows, job, schema))
        drops.finish()
        for file in (kept, dropped, failed):
            file.finish()
        reach("shard-written")
        layout = job.layout
        receipt = Receipt(
            key=task.key,
            name=task.name,
            source=job.source_name,
            fingerprint=job.fingerprint,
            nonce=uuid.uuid4().hex,
            counts=account.counts,
            tallies=account.tallies,
            outputs=_entries(kept.place(layout.data, task.key, position=task.position)),
            dropped=_entries(dropped.place(layout.dropped, task.key, position=task.position)),
            quarantine=_entries(failed.place(layout.quarantine, task.key, position=task.position)),
            inputs=tuple(vars(i) for i in opened.inputs),
            read_errors=dict(account.read_errors.most_common(10)),
            seconds=time.perf_counter() - started,
            attempts=attempts,
            mixed=_mixed(opened, by_source),
        )
    finally:
        drops.discard()
        for file in (kept, dropped, failed):
            file.discard()
    reach("shard-placed")
    if not receipt.balances:
        raise StageFailed(
            f"rows of split {task.name} went missing in stage `{job.stage}`: {account.counts}",
            help="this is a fault in FDF or in an operator's `keep_parent`; nothing of this split was committed",
        )
    path = f"{job.receipts}{task.key.receipt_name}"
    if store.put_if_absent(path, receipt.to_bytes()):
        reach("receipt-written")
        return receipt
    # Files of this attempt that the winner does not name go with the next commit: one of them may, with the same
    # name and content, belong to a manifest that readers still hold.
    return Receipt.from_bytes(store.read(path))


def _mixed(opened: OpenTask, kept: _Kept) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if opened.mixed is not None:
        for name, part in (("leaves", opened.mixed.leaves), ("left_out", opened.mixed.left_out)):
            if part:
                said[name] = {leaf: found.to_json() for leaf, found in part.items()}
    by_source = kept.to_json()
    return said | ({"kept": by_source} if by_source else {})


def _entries(entry: FileEntry | None) -> tuple[FileEntry, ...]:
    return () if entry is None else (entry,)
