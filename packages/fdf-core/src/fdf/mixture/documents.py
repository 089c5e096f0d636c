"""The documents of a mixture's leaves in the order in which each leaf delivers them: shard by shard, window by window.

Sizes come as they are measured, by threads that run ahead of the schedule; what was taken can be drawn again as rows of
shards, to be handed to workers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from fdf.mixture.measuring import Integers, Measurable, Measured, listing
from fdf.mixture.order import shard_order, window_order
from fdf.mixture.scheduler import Mix, Position
from fdf.mixture.sizes import Sizes
from fdf.sources.base import Slice

_UNKNOWN = 4096.0
AHEAD = 2
"""Measured parts that may wait for the schedule, per leaf."""


@dataclass(frozen=True)
class Chunk:
    """Documents of one shard, in the order of their delivery."""

    epoch: int
    piece: Slice
    positions: Integers
    sizes: Sizes
    weight: float
    """About how many bytes of memory one of them takes."""

    def __len__(self) -> int:
        return len(self.positions)

    def cut(self, start: int, stop: int) -> Chunk:
        """Return some of them."""
        return Chunk(self.epoch, self.piece, self.positions[start:stop], self.sizes[start:stop], self.weight)


class _Line:
    """One leaf's documents in order, from where a position stands."""

    def __init__(
        self, leaf: Measurable, number: int, seed: int, pool: ThreadPoolExecutor, position: Position | None
    ) -> None:
        self._leaf = leaf
        self._seed = seed
        self._pool = pool
        self._pieces: list[Slice] | None = None
        self._skip = position.in_epoch[number] if position else 0
        self._ahead: deque[Future[Chunk | None]] = deque()
        self._epoch = position.epoch[number] if position else 0
        self._parts = self._chunks(self._epoch)
        self.taken: deque[Chunk] = deque()

    def start(self) -> None:
        """Begin to measure, without waiting."""
        if not self._ahead:
            self._ahead.append(self._pool.submit(self._step, self._parts, None))

    def take(self, epoch: int) -> Chunk | None:
        """Return the next documents of an epoch, or None at its end."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._ahead.clear()
            self._parts = self._chunks(epoch)
        self.start()
        chunk = self._ahead.popleft().result()
        last = self._ahead[-1] if self._ahead else None
        while chunk is not None and len(self._ahead) < AHEAD:
            # Each step waits for the one before it: a leaf is read in order.
            last = self._pool.submit(self._step, self._parts, last)
            self._ahead.append(last)
        if chunk is not None:
            self.taken.append(chunk)
        return chunk

    @staticmethod
    def _step(parts: Iterator[Chunk], before: Future[Chunk | None] | None) -> Chunk | None:
        if before is not None and before.result() is None:
            return None
        return next(parts, None)

    def _chunks(self, epoch: int) -> Iterator[Chunk]:
        if self._pieces is None:
            self._pieces = listing(self._leaf)
        name, skip = self._leaf.name, self._skip
        self._skip = 0
        for piece in shard_order(self._pieces, seed=self._seed, name=name, epoch=epoch):
            first, bytes_each = 0, self._leaf.record_bytes(piece)
            for part in self._leaf.measured(piece):
                if not len(part):
                    continue
                chunk = self._ordered(part, piece, epoch, first=first, bytes_each=bytes_each)
                first += len(part)
                passed = min(skip, len(chunk))
                skip -= passed
                if passed < len(chunk):
                    yield chunk.cut(passed, len(chunk))

    def _ordered(self, part: Measured, piece: Slice, epoch: int, *, first: int, bytes_each: float) -> Chunk:
        order = window_order(len(part), seed=self._seed, name=self._leaf.name, epoch=epoch, piece=piece, first=first)
        weight = max(part.bytes / len(part), bytes_each) or _UNKNOWN
        return Chunk(epoch, piece, part.positions[order], part.sizes[order], weight)


def first_position(mix: Mix, leaves: Sequence[Measurable]) -> Position:
    """Return where a mixture starts. The rows of a leaf that is read for less than one epoch are counted for it.

    There may be more leaves than the mixture has: those whose rows it leaves out.
    """
    position = Position.start(len(mix.tree.leaves))
    for number, (leaf, node) in enumerate(zip(leaves, mix.tree.leaves, strict=False)):
        if mix.on_exhausted != "repeat" and node.epochs is not None and node.epochs < 1:
            position.lengths[number] = leaf.records()
    return position


class Documents:
    """The feed of a scheduler over indexed leaves. Close it, or use it in `with`."""

    def __init__(self, leaves: Sequence[Measurable], *, seed: int, position: Position | None = None) -> None:
        threads = max(2, min(16, os.cpu_count() or 2))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fdf-measure")
        self._lines = [_Line(leaf, n, seed=seed, pool=self._pool, position=position) for n, leaf in enumerate(leaves)]
        for number, line in enumerate(self._lines):
            if position is None or position.live[number]:
                line.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop measuring."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def take(self, leaf: int, epoch: int) -> Sizes | None:
        """Return the sizes of the next documents of a leaf; waits until they are measured."""
        chunk = self._lines[leaf].take(epoch)
        return None if chunk is None else chunk.sizes

    def drawn(self, leaf: int, count: int) -> Iterator[Chunk]:
        """Yield the leaf's next `count` documents that were not drawn yet, in as few pieces as they come from."""
        taken = self._lines[leaf].taken
        while count:
            chunk = taken.popleft()
            if len(chunk) > count:
                taken.appendleft(chunk.cut(count, len(chunk)))
                chunk = chunk.cut(0, count)
            count -= len(chunk)
            yield chunk

    def rest(self, leaf: int, epoch: int) -> Iterator[Chunk]:
        """Yield what is left of a leaf's epoch after what was drawn."""
        taken = self._lines[leaf].taken
        while True:
            while taken:
                yield taken.popleft()
            if self._lines[leaf].take(epoch) is None:
                return

    def weights(self, leaf: int, count: int) -> np.ndarray:
        """Return about how many bytes each of the leaf's next `count` documents takes, without drawing them."""
        out = np.empty(count)
        done = 0
        for chunk in self._lines[leaf].taken:
            part = min(len(chunk), count - done)
            out[done : done + part] = chunk.weight
            done += part
            if done == count:
                break
        return out
