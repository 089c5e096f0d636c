"""Keeps the slices that a mixture reads open from one range of the schedule to the next.

A range takes a few windows of each slice, the next one takes the windows after these. Where a source cannot start in
the middle (a compressed file, a large row group), reading from the start each time would read the slice once per range;
so a reader is left where it stands and goes on. Memory is bounded: the readers used least recently are closed.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from fdf.mixture.order import WINDOW
from fdf.sources.base import Slice, Source, SourceBatch

MOST_BYTES = 192 << 20
MOST_OPEN = 64


@dataclass
class _Reader:
    """One open slice: what was read last, and what comes next."""

    batches: Iterator[SourceBatch]
    held: deque[SourceBatch] = field(default_factory=deque)
    reached: int = -1
    """The last position that was read."""

    @property
    def first(self) -> int:
        """The first position that is still held."""
        return _first(self.held[0]) if self.held else self.reached + 1

    @property
    def bytes(self) -> int:
        return sum(b.rows.nbytes for b in self.held)

    def read(self, first: int, last: int) -> Iterator[SourceBatch]:
        """Yield the batches that hold the positions `first` to `last`; keep the end for the range after this one."""
        for batch in self.held:
            if _last(batch) >= first:
                yield batch
        while self.reached < last:
            drawn = next(self.batches, None)
            if drawn is None:
                break
            if not (len(drawn.positions) or drawn.rejects):
                continue
            self.held.append(drawn)
            self.reached = _last(drawn)
            if self.reached >= first:
                yield drawn
            self._forget()
        self._forget()

    def _forget(self) -> None:
        """Drop what no later range asks for: a range begins at most a window before where the last one ended."""
        while len(self.held) > 1 and sum(len(b.positions) + len(b.rejects) for b in list(self.held)[1:]) >= WINDOW:
            self.held.popleft()


class Readers:
    """The open slices of one worker."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, Slice], _Reader] = OrderedDict()

    def read(
        self, leaf: int, source: Source, piece: Slice, *, first: int, last: int, schema: pa.Schema
    ) -> Iterator[SourceBatch]:
        """Yield batches of a slice that hold the positions `first` to `last`, and perhaps others."""
        key = (leaf, piece)
        reader = self._open.pop(key, None)
        landmark = source.landmark(piece, first)
        if reader is None or first < reader.first or landmark > reader.reached:
            # Open from where reading has to begin anyway, and to the end of the slice: later ranges go on from here.
            start = source.within(piece, max(landmark, 0), last).start
            onward = Slice(file=piece.file, start=max(start, piece.start), stop=piece.stop, share=piece.share)
            reader = _Reader(source.read(onward, schema=schema))
        yield from reader.read(first, last)
        self._open[key] = reader  # Only where nothing went wrong.
        self._bound()

    def close(self) -> None:
        """Close all of them."""
        self._open.clear()

    def _bound(self) -> None:
        while self._open and (len(self._open) > MOST_OPEN or sum(r.bytes for r in self._open.values()) > MOST_BYTES):
            self._open.popitem(last=False)


def _first(batch: SourceBatch) -> int:
    starts = [r.position for r in batch.rejects]
    if len(batch.positions):
        starts.append(batch.positions[0].as_py())
    return int(min(starts))


def _last(batch: SourceBatch) -> int:
    ends = [r.position for r in batch.rejects]
    if len(batch.positions):
        ends.append(batch.positions[-1].as_py())
    return int(max(ends))
