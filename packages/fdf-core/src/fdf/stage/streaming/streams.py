"""The streams of a mixture as the driver sees them: leaves whose chunks come from the journal, and then from a reader.

The driver never touches the rows. It starts a reader where the journal ends, hears of each chunk when that is durable,
and has a chunk's file removed when all of its rows have their receipts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from fdf.errors import PlanError, StageFailed
from fdf.mixture.documents import Chunk
from fdf.mixture.measuring import Leaf, Measurable, Measured
from fdf.mixture.sizes import Measure
from fdf.plan.job import StageJob
from fdf.plan.task import Task
from fdf.sources.base import Slice
from fdf.stage.streaming import chunks as cutting
from fdf.stage.streaming.chunks import Counting
from fdf.stage.streaming.process import ReaderEnded, ReaderProcess
from fdf.stage.streaming.reader import Order
from fdf.stage.streaming.spool import Entry, Spool, SpooledSource, changed, clear, entry_name

CREDIT = 2
"""Chunks that a reader may have made before the schedule has asked for them; the schedule asks two ahead itself."""
MOST_DEATHS = 5
"""How often in a row a reader may die without having made a chunk."""


class StreamedLeaf:
    """One stream of a mixture. Its documents come in its own order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._spool = Spool(order.root, order.folder, order.leaf)
        self._known: set[str] | None = None
        self._there: set[str] = set()
        self._left: dict[str, int] = {}
        self._before: dict[str, str | None] = {}
        self._readers: set[ReaderProcess] = set()
        self._closed = False
        self._lock = Lock()

    @property
    def name(self) -> str:
        return self._order.leaf

    @property
    def measure(self) -> Measure:
        return self._order.counting.measure

    @property
    def by_blocks(self) -> bool:
        return False

    def describe(self) -> dict[str, Any]:
        return self.measure.describe()

    def pieces(self) -> list[Slice]:
        raise self._no_total()

    def measured(self, piece: Slice) -> Iterator[Measured]:
        raise self._no_total()

    def record_bytes(self, piece: Slice) -> float:
        return 0.0

    def total(self) -> int:
        raise self._no_total()

    def records(self) -> int:
        raise self._no_total()

    def chunks(self, epoch: int) -> Iterator[Chunk]:
        """Yield an epoch's chunks: those of the journal, and from there on what a reader makes."""
        start, last = 0, None
        known = self._listed()
        while (name := entry_name(epoch, start)) in known:
            entry = self._spool.entry(name)
            if entry.end:
                return
            yield self._chunk(entry, last)
            start, last = entry.stop, entry.last
        deaths = 0
        while True:
            try:
                for entry, reader in self._read(epoch, start, last, credit=CREDIT):
                    deaths = 0
                    if entry.end:
                        return
                    with self._lock:
                        self._there.add(entry.piece(self.name).file.uri)
                    yield self._chunk(entry, last)
                    start, last = entry.stop, entry.last
                    reader.allow_one()
            except ReaderEnded as death:
                deaths += 1
                if self._closed:
                    return
                if deaths == MOST_DEATHS:
                    raise StageFailed(
                        f"the process that reads the stream of `{self.name}` ended {deaths} times at record {start}, "
                        f"last {death}",
                        help="see what it wrote above; if it was killed for memory, have the stream yield smaller rows",
                    ) from death

    def provide(self, piece: Slice, epoch: int) -> None:
        """Make sure that a chunk's file is there: it is read again from the stream where it is not."""
        if self._spool.holds(piece):
            return
        before = self._before[piece.file.uri]
        for entry, _ in self._read(epoch, piece.start, before, credit=1):
            if entry.end or entry.version != piece.file.version:
                raise changed(self.name, f"records {piece.start} to {(piece.stop or 0) - 1} are others now")
            break
        with self._lock:
            self._there.add(piece.file.uri)

    def settled(self, piece: Slice, records: int) -> None:
        """Note that so many of a chunk's records have their receipt; its file goes with the last."""
        uri = piece.file.uri
        with self._lock:
            self._left[uri] -= records
            done = not self._left[uri] and uri in self._there
            if done:
                self._there.discard(uri)
        if done:
            self._spool.remove([piece])

    def close(self) -> None:
        """End the readers."""
        self._closed = True
        with self._lock:
            readers = list(self._readers)
        for reader in readers:
            reader.close()

    def _read(self, epoch: int, start: int, last: str | None, *, credit: int) -> Iterator[tuple[Entry, ReaderProcess]]:
        """Yield what a new reader announces. Raises what it failed of, ReaderEnded where it died."""
        reader = ReaderProcess(replace(self._order, epoch=epoch, start=start, last=last, credit=credit))
        with self._lock:
            self._readers.add(reader)
        try:
            if self._closed:
                raise ReaderEnded("before it began")
            while True:
                entry = reader.hear()
                yield entry, reader
                if entry.end:
                    return
        finally:
            reader.close()
            with self._lock:
                self._readers.discard(reader)

    def _listed(self) -> set[str]:
        """Return the names of the journal's entries as they were when this run began."""
        if self._known is None:
            names = self._spool.names()
            self._known = {n for n in names if n.endswith(".journal")}
            self._there |= {f"{self.name}/{n.removesuffix('.arrow')}" for n in names if n.endswith(".arrow")}
        return self._known

    def _chunk(self, entry: Entry, before: str | None) -> Chunk:
        piece = entry.piece(self.name)
        count = len(entry.sizes)
        with self._lock:
            self._left[piece.file.uri] = count
            self._before[piece.file.uri] = before
        positions = np.arange(entry.start, entry.stop)
        return Chunk(entry.epoch, piece, positions, entry.sizes, entry.row_bytes / count)

    def _no_total(self) -> PlanError:
        return PlanError(
            f"`{self.name}` is a stream: how much it holds is known only when it has been read",
            help="give it a `weight`, and `epochs` of 1 or more; a `cap` ends it earlier",
        )


@dataclass
class Streams:
    """All streams of a mixture, by the numbers of their leaves."""

    leaves: Mapping[int, StreamedLeaf] = field(default_factory=dict)
    root: str = ""
    spool: str = ""
    """Where all spools of the stage are, below its root."""
    folder: str = ""
    """This run's own."""
    _taken: dict[str, list[tuple[StreamedLeaf, Slice, int]]] = field(default_factory=dict)

    def among(self, leaves: Sequence[Leaf]) -> Sequence[Measurable]:
        """Return the mixture's leaves with the streams in their places."""
        return [self.leaves.get(number, leaf) for number, leaf in enumerate(leaves)]

    def job(self, job: StageJob) -> StageJob:
        """Return the stage as workers get it: streams are read from their spool."""
        if not self.leaves:
            return job
        spooled = SpooledSource(root=self.root, folder=self.folder)
        leaves = [replace(leaf, source=spooled) if n in self.leaves else leaf for n, leaf in enumerate(job.leaves)]
        return replace(job, leaves=tuple(leaves))

    def note(self, task: Task) -> Task:
        """Remember which chunks a task takes rows of."""
        parts = task.mixed.parts if task.mixed is not None and self.leaves else ()
        taken = [(self.leaves[p.leaf], p.piece, len(p.positions) // 8) for p in parts if p.leaf in self.leaves]
        if taken:
            self._taken[task.key.location] = taken
        return task

    def provided(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Yield tasks that are to be run, each when the chunks that it reads are in their place."""
        for task in tasks:
            for part in task.mixed.parts if task.mixed is not None else ():
                if part.leaf in self.leaves:
                    self.leaves[part.leaf].provide(part.piece, part.epoch)
            yield task

    def settled(self, location: str | None) -> None:
        """Let go of what a task read, when it has its receipt."""
        for leaf, piece, records in self._taken.pop(location or "", ()):
            leaf.settled(piece, records)

    def close(self) -> None:
        """End all readers."""
        for leaf in self.leaves.values():
            leaf.close()

    def clear(self, *, before: float) -> None:
        """Remove the spool of the stage, which is committed; others' that are older than the time `before` too."""
        if self.leaves:
            clear(self.root, self.spool, self.folder, before=before)


def open_streams(leaves: Sequence[Leaf], job: StageJob) -> Streams:
    """Return the streams among a mixture's leaves."""
    generation = job.receipts.removeprefix(job.layout.receipts)
    folder = f"{job.layout.spool}{generation}"
    found = {}
    for number, leaf in enumerate(leaves):
        if leaf.source.indexed:
            continue
        named = dict(leaf.renames)
        counted = tuple(named[c] for c in leaf.measure.columns)
        wanted = {old for _, old in job.leaves[number].renames} | {*counted}
        # Under the source's names; one that is read under two names has one type.
        columns = dict.fromkeys(old for _, old in leaf.renames if old in wanted)
        types = {old: leaf.schema.field(new).type for new, old in leaf.renames}
        schema = pa.schema([(old, types[old]) for old in columns])
        found[number] = StreamedLeaf(
            Order(
                leaf=leaf.name,
                source=leaf.source,
                counting=Counting(measure=leaf.measure, columns=counted, schema=schema),
                known_columns=job.leaves[number].known_columns,
                root=job.root,
                folder=folder,
                most_rows=cutting.MOST_ROWS,
                most_bytes=cutting.MOST_BYTES,
            )
        )
    return Streams(leaves=found, root=job.root, spool=job.layout.spool, folder=folder)
