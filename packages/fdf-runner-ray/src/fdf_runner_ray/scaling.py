"""How many actors should hold a model: more while requests pile up at each, fewer where some have little to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CROWDED = 3
"""So many requests wait at an actor whose device never does: one is inferred, one is copied to it, one is next."""
PATIENCE = 20.0
SLACK = 0.2


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an actor was for a while: the fewest requests that it had at once, and the share of time with any."""

    least: int
    busy: float


@dataclass
class Scaling:
    """Decides on the size of one pool, between 1 and a bound that may change."""

    idle_since: float | None = None

    def wanted(self, loads: Sequence[Load], *, most: int, now: float) -> int:
        """Return how many actors the pool should have, from the newest load of each that is there.

        It doubles when every one of them was crowded all the time; and has one less when, for a while, one less would
        have done.

        >>> Scaling().wanted([Load(4, 1.0), Load(3, 1.0)], most=8, now=0.0)
        4
        >>> quiet = [Load(0, 0.2), Load(0, 0.3)]
        >>> pool = Scaling()
        >>> [pool.wanted(quiet, most=8, now=seconds) for seconds in (0.0, 10.0, 20.0)]
        [2, 2, 1]
        """
        there = len(loads)
        if there and all(load.least >= CROWDED for load in loads):
            self.idle_since = None
            return max(1, min(most, 2 * there))
        if there < 2 or sum(load.busy for load in loads) > there - 1 - SLACK:
            self.idle_since = None
            return max(1, min(most, there))
        if self.idle_since is None:
            self.idle_since = now
        if now - self.idle_since < PATIENCE:
            return max(1, min(most, there))
        self.idle_since = None
        return max(1, min(most, there - 1))
