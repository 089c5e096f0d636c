"""Keeps a mixture's numbers in arrays while compiled code makes the decisions, and brings them back.

Without numba there is none: the scheduler then goes on in Python, to the same end.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from fdf.mixture import columns as col
from fdf.mixture.position import Mixed, Position, Sizes
from fdf.mixture.targets import Polynomials, Targets
from fdf.mixture.tree import MACHINE, Mask

NEVER = 2**63 - 1
"""The key of a leaf whose document its target never covers."""
LEAST, MOST, ALL = 256, 65_536, 2**20
"""Sizes kept for compiled code: per leaf at least and at most, and about how many for all together."""
_LOW = 2**64 - 1
WIDE = 2**125


@cache
def compiled_loop() -> Any:
    """Return the module of compiled loops; None where numba is not installed."""
    try:
        from fdf.mixture import compiled
    except ImportError:
        return None
    return compiled


def fits(piece: Polynomials, largest: int) -> bool:
    """Say whether compiled code can follow a piece with documents of up to so many units."""
    # Leads, of one document at most, stay within 126 bits, and so must all that a target gains on a piece with bends.
    reach = max(largest, 1) * piece.scale
    if piece.length is None:
        return reach < WIDE and piece.start < MACHINE
    if piece.bends is not None:
        reach = max(reach, piece.scale * piece.length)
    return reach < WIDE and piece.start + piece.length < MACHINE


def words(numbers: Any) -> tuple[Sizes, Sizes]:
    """Return integers as pairs of words in two's complement."""
    numbers = np.asarray(numbers)
    if numbers.dtype != object:
        return numbers >> 63, numbers
    return (numbers >> 64).astype(np.int64), (numbers & _LOW).astype(np.uint64).view(np.int64)


class Ledger:
    """The arrays. `book` has a row per leaf, whose columns `columns` names."""

    def __init__(
        self, here: Position, targets: Targets, *, total: int | None, caps: Sequence[Sequence[int]], limits: list[int]
    ) -> None:
        leaves = len(here.live)
        self._code = compiled_loop()
        self._pool = np.empty((leaves, min(max(ALL // leaves, LEAST), MOST)), dtype=np.int64)
        self._loaded = [0] * leaves
        self._largest = max(here.largest)
        self._live: Mask = np.ones(leaves, dtype=bool)
        """Who was live when the targets began; only they gain."""
        self._book: Sizes = np.zeros((leaves, col.WIDTH), dtype=np.int64)
        self._state: Sizes = np.zeros(col.STATES, dtype=np.int64)
        self._state[col.TOTAL] = NEVER if total is None else min(total, NEVER)
        self._state[col.UNITS] = here.units
        self._waiting: Sizes = np.zeros((leaves, 2), dtype=np.int64)
        self._ready: Sizes = np.zeros((leaves, 2), dtype=np.int64)
        edges = np.cumsum([0, *(len(c) for c in caps)])
        self._book[:, col.CAPS_FROM], self._book[:, col.CAPS_TO] = edges[:-1], edges[1:]
        self._caps: Sizes = np.array([c for own in caps for c in own], dtype=np.int64)
        self._limits: Sizes = np.array([min(limit, NEVER) for limit in limits], dtype=np.int64)
        self.counted: Sizes = np.zeros(len(limits), dtype=np.int64)
        for column, numbers in self._accounts(here):
            self._book[:, column] = numbers
        self._deviation = np.array([float(d) for d in here.deviation])
        self._began: Sizes | None = None
        self._follow(targets.piece)
        self._book[:, col.TOUCHED] = here.units
        self._set_leads(here, targets.piece)

    def _set_leads(self, here: Position, piece: Polynomials) -> None:
        x = here.units - piece.start
        leads = [done * piece.scale - piece.value(leaf, x) for leaf, done in enumerate(here.delivered)]
        self._book[:, col.LEAD_HIGH], self._book[:, col.LEAD_LOW] = words(np.array(leads, dtype=object))

    def _follow(self, piece: Polynomials) -> None:
        state = self._state
        self._scale = piece.scale
        self._longest = WIDE // piece.scale
        state[col.START] = piece.start
        state[[col.SCALE_HIGH, col.SCALE_LOW]] = [int(half[0]) for half in words(np.array([piece.scale], dtype=object))]
        state[col.HORIZON] = MACHINE if piece.length is None else piece.start + piece.length
        self._book[:, col.SLOPE_HIGH], self._book[:, col.SLOPE_LOW] = words(piece.slopes)
        if piece.bends is None:
            self._book[:, col.BENDS] = 0
        else:
            self._book[:, col.BENDS] = piece.bends != 0
            self._book[:, col.BEND_HIGH], self._book[:, col.BEND_LOW] = words(piece.bends)
        self._endless = piece.length is None

    @staticmethod
    def _accounts(here: Position) -> list[tuple[int, list[int]]]:
        """Return the columns that are a position's own, with its lists."""
        return [
            (col.DELIVERED, here.delivered),
            (col.ROWS, here.rows),
            (col.IN_EPOCH, here.in_epoch),
            (col.LARGEST, here.largest),
        ]

    @property
    def units(self) -> int:
        return int(self._state[col.UNITS])

    def delivered(self) -> Sizes:
        """Return a copy of what each leaf has delivered."""
        return self._book[:, col.DELIVERED].copy()

    def load(self, leaf: int, here: Position, sizes: Sizes, first: int, left: int | None) -> bool:
        """Take the sizes of a leaf's next documents from `first` on, `left` at most, and its accounts.

        Returns whether they are small enough.
        """
        pool = self._pool[leaf]
        count = max(min(len(pool), len(sizes) - first, len(pool) if left is None else left), 0)
        pool[:count] = sizes[first : first + count]
        self._loaded[leaf] = first
        self._book[leaf, col.NEXT], self._book[leaf, col.STOP] = 0, count
        for column, numbers in self._accounts(here):
            self._book[leaf, column] = numbers[leaf]
        self._largest = max(self._largest, int(pool[:count].max(initial=0)))
        return self._largest < self._longest

    def begin_epoch(self, leaf: int) -> None:
        """Count a leaf's documents from 0 again."""
        self._book[leaf, col.IN_EPOCH] = 0

    def settle(self, leaf: int, here: Position) -> int:
        """Bring one leaf's accounts into a position; return how far its sizes were read."""
        here.units = self.units
        for column, numbers in self._accounts(here):
            numbers[leaf] = int(self._book[leaf, column])
        return self._loaded[leaf] + int(self._book[leaf, col.NEXT])

    def settle_all(self, here: Position) -> npt.NDArray[np.int64]:
        """Bring all accounts into a position; return how far each leaf's sizes were read."""
        here.units = self.units
        for column, numbers in self._accounts(here):
            numbers[:] = self._book[:, column].tolist()
        if self._began is not None:
            here.restarted_with = self._began.tolist()
        return np.array(self._loaded, dtype=np.int64) + self._book[:, col.NEXT]

    def fold(self, here: Position) -> None:
        """Bring what was noted into a position. A float tells which leaf may have been farther from its target."""
        high, low = self._book[:, col.FAR_HIGH], self._book[:, col.FAR_LOW].view(np.uint64)
        scale = self._scale
        away = (high * 2.0**64 + low) / float(scale)
        for leaf in np.flatnonzero((away > 0) & (away * (1 + 1e-9) >= self._deviation)).tolist():
            exact, known = (int(high[leaf]) << 64) + int(low[leaf]), here.deviation[leaf]
            if exact * known.denominator > known.numerator * scale:
                here.deviation[leaf] = Fraction(exact, scale)
                self._deviation[leaf] = away[leaf]
        self._book[:, col.FAR_HIGH : col.FAR_LOW + 1] = 0

    def note_all(self) -> None:
        """Note how far all leaves are from their targets."""
        self._code.note_all(self._book, self._state, self._live)

    def restart(self, targets: Targets, live: Mask, here: Position) -> bool:
        """Follow targets that begin again from what was delivered, with nobody queued; say whether that can be."""
        self._began = targets.delivered if isinstance(targets.delivered, np.ndarray) else np.array(targets.delivered)
        if not fits(targets.piece, self._largest):
            return False
        self._live = live.copy()
        self._follow(targets.piece)
        self._book[:, col.LEAD_HIGH : col.LEAD_LOW + 1] = 0
        self._book[:, col.TOUCHED] = here.units
        self._state[col.WAITING] = self._state[col.READY] = 0
        return True

    def run(self, mixed: Mixed, count: int) -> tuple[int, int, int]:
        """Make decisions; return why that ended (see `columns`), the leaf it ended with, and how many are made."""
        why, leaf, count = self._code.run(
            mixed.leaves, mixed.sizes, count, self._book, self._pool, self._state, self._waiting, self._ready,
            self._caps, self.counted, self._limits,
        )  # fmt: skip
        return int(why), int(leaf), int(count)

    def enter(self, leaf: int) -> bool:
        """Queue a leaf whose sizes were loaded; say whether that could be done here."""
        return bool(self._code.enter(self._book, self._pool, self._state, self._waiting, self._ready, leaf))

    def enter_all(self, live: Mask, first: int) -> int | None:
        """Queue the live leaves from `first` on; return the first one that needs sizes or is not to be done here."""
        leaf = int(
            self._code.enter_all(
                self._book, self._pool, self._state, self._waiting, self._ready, live, first, self._endless
            )
        )
        return None if leaf < 0 else leaf

    def place(self, leaf: int, *, release: int, due: int | None) -> bool:
        """Queue a leaf by positions that are known; say whether they fit."""
        if release > self.units:
            heap, size, key = self._waiting, col.WAITING, release
        else:
            heap, size, key = self._ready, col.READY, NEVER if due is None else due
        if key >= MACHINE and key != NEVER:
            return False
        self._code.place(heap, int(self._state[size]), key, leaf)
        self._state[size] += 1
        return True

    def put(self, waiting: list[tuple[int, int]], ready: list[tuple[float, int]]) -> bool:
        """Take over who is queued; say whether all positions fit."""
        self._state[col.WAITING], self._state[col.READY] = len(waiting), len(ready)
        for array, heap in ((self._waiting, waiting), (self._ready, ready)):
            if any(MACHINE <= key < inf for key, _ in heap):
                return False
            for at, (key, leaf) in enumerate(heap):
                array[at] = NEVER if key == inf else key, leaf
        return True

    def queued(self) -> tuple[list[tuple[int, int]], list[tuple[float, int]]]:
        """Return who is queued."""
        waiting = self._waiting[: self._state[col.WAITING]].tolist()
        ready = self._ready[: self._state[col.READY]].tolist()
        return [(k, leaf) for k, leaf in waiting], [(inf if k == NEVER else k, leaf) for k, leaf in ready]
