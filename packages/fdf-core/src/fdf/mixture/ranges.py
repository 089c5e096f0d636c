"""Cuts a mixture's schedule into ranges that workers read on their own, of bounded rows and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fdf.mixture.documents import Chunk, Documents
from fdf.mixture.scheduler import Scheduler
from fdf.mixture.track import Track

MOST_ROWS = 65_536
MOST_BYTES = 48 << 20
_BLOCK = 16_384
_LEAST_BLOCK = 64


@dataclass(frozen=True)
class Cut:
    """Consecutive documents of the schedule. `chunks` are by leaf, and within a leaf in order."""

    start: int
    leaves: npt.NDArray[np.uint16]
    chunks: tuple[tuple[int, Chunk], ...]

    def __len__(self) -> int:
        return len(self.leaves)


@dataclass
class Ranges:
    """Draws the schedule and cuts it. Which documents share a range depends on the schedule alone."""

    scheduler: Scheduler
    documents: Documents
    most_rows: int = field(default_factory=lambda: MOST_ROWS)
    most_bytes: int = field(default_factory=lambda: MOST_BYTES)
    limit: int | None = None
    """The documents after which to stop."""
    drawn: int = 0
    """Documents that were cut so far."""
    track: Track = field(default_factory=Track)
    """How far leaves were from their targets as the schedule went on."""
    _held: list[npt.NDArray[np.uint16]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Cut]:
        while (cut := self._next()) is not None:
            yield cut

    def _next(self) -> Cut | None:
        most = self.most_rows if self.limit is None else min(self.most_rows, self.limit - self.drawn)
        leaves = self._leaves(most)
        if not len(leaves):
            return None
        start = self.drawn
        self.drawn += len(leaves)
        counts = np.bincount(leaves)
        chunks = tuple(
            (int(leaf), chunk)
            for leaf in np.flatnonzero(counts)
            for chunk in self.documents.drawn(int(leaf), int(counts[leaf]))
        )
        return Cut(start, leaves, chunks)

    def _leaves(self, most: int) -> npt.NDArray[np.uint16]:
        """Return the leaves of the next documents: at least one, while there are any, and as many as fit."""
        held = self._held
        while (count := sum(map(len, held))) < most or not held:
            if most <= 0:
                break
            if count and self._bytes(np.concatenate(held))[-1] > self.most_bytes:
                break
            mixed = self.scheduler.draw(min(self._block(count), most - count))
            if not len(mixed):
                break
            self.track.note(self.scheduler)
            held.append(mixed.leaves)
        leaves = np.concatenate([np.empty(0, dtype=np.uint16), *held])
        if not len(leaves):
            return leaves
        fit = int(np.searchsorted(self._bytes(leaves), self.most_bytes, side="right"))
        stop = max(1, min(fit, most, len(leaves)))
        self._held = [leaves[stop:]] if stop < len(leaves) else []
        return leaves[:stop]

    def _block(self, held: int) -> int:
        """Return how many documents to draw at once: few at first, so that the track of a short schedule is fine."""
        return min(_BLOCK, max(_LEAST_BLOCK, (self.drawn + held) // _LEAST_BLOCK))

    def _bytes(self, leaves: npt.NDArray[np.uint16]) -> np.ndarray:
        """Return about how many bytes the first 1, 2, ... of the documents take together."""
        weights = np.empty(len(leaves))
        for leaf in np.unique(leaves):
            chosen = leaves == leaf
            weights[chosen] = self.documents.weights(int(leaf), int(chosen.sum()))
        total: np.ndarray = np.cumsum(weights)
        return total
