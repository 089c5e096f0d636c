"""Deals documents out: each document has a place, and its place says which rank and which worker takes it.

Places number the documents from 0 on, through all passes. Inside windows they are a keyed permutation of the documents'
own order: dealt out as they stand, a deterministic mixture of two equal sources would give one of two ranks all of
the first (docs/adr/0019-striping-and-state.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fdf.errors import PlanError
from fdf.fingerprint import sha256_hex
from fdf.mixture.order import mixed

Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """One reader of many: worker `worker` of `workers` in rank `rank` of `ranks`.

    The workers of a rank take turns: each takes `turn` of the rank's documents, and then it is the next one's turn.
    """

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1
    turn: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise PlanError(
                f"rank {self.rank} of {self.ranks} cannot be: ranks count from 0",
                help="check `rank` and `world_size`, or RANK and WORLD_SIZE in the environment",
            )


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a consumer takes from place `start` on. Its rank's documents are counted from place `origin`."""

    consumer: Consumer
    origin: int = 0
    start: int = 0

    def mine(self, places: Integers) -> Booleans:
        """Say for each place whether this consumer takes it."""
        who = self.consumer
        number = (places - self._first) // who.ranks
        rank: Booleans = (places >= self.start) & (places % who.ranks == who.rank)
        turn: Booleans = number // who.turn % who.workers == who.worker
        return rank & turn

    def number(self, place: int) -> int:
        """Return which of its rank's documents since `origin` stands at a place."""
        return (place - self._first) // self.consumer.ranks

    def round_end(self, places: Integers) -> Integers:
        """Return up to which place all documents are taken once every rank has taken as many as this one, each place
        included."""
        ends: Integers = self.origin + ((places - self._first) // self.consumer.ranks + 1) * self.consumer.ranks
        return ends

    def position(self, place: int | None) -> int:
        """Return from which place this consumer goes on after it took `place` (None: nothing yet).

        Without other workers that is the same for all ranks that have taken equally many.
        """
        who = self.consumer
        taken = max(0, -(-(self.start - self._first) // who.ranks)) if place is None else self.number(place) + 1
        turn = taken // who.turn
        wait = (who.worker - turn) % who.workers
        if wait:
            taken = (turn + wait) * who.turn
        return self.origin + taken * who.ranks

    @property
    def _first(self) -> int:
        who = self.consumer
        return self.origin + (who.rank - self.origin) % who.ranks


@lru_cache(maxsize=4)
def window_places(count: int, *, seed: int, epoch: int, window: int) -> Integers:
    """Return the place of each of a window's documents, from 0 to `count`: a permutation keyed by these numbers."""
    key = np.uint64(int(sha256_hex(f"{seed}\0training\0{epoch}\0{window}")[:16], 16))
    order = np.argsort(mixed(np.arange(count, dtype=np.uint64) ^ key))
    places = np.empty(count, dtype=np.int64)
    places[order] = np.arange(count)
    places.flags.writeable = False
    return places


@dataclass(frozen=True, kw_only=True)
class Law:
    """What decides the places: the seed of the permutation and the number of documents in its windows."""

    seed: int
    window: int

    def places(self, first: int, count: int, *, epoch: int) -> Integers:
        """Return the places inside a pass of its documents `first` to `first + count`.

        `first` begins a window, and `count` ends one, or the pass.
        """
        if self.window == 1:
            return np.arange(first, first + count)
        parts = []
        for start in range(first, first + count, self.window):
            size = min(self.window, first + count - start)
            number = start // self.window
            parts.append(start + window_places(size, seed=self.seed, epoch=epoch, window=number))
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])
