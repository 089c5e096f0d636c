"""Measure how many decisions the scheduler makes per CPU-second, in Python and in compiled code.

    python benchmarks/mixture_scheduler.py [python|compiled]

Sizes are lognormal (median 400, sigma 1.2: tokens of web documents), given out in arrays of 100,000 rows or less;
weights are Dirichlet (alpha 1), rounded to 17 digits as a recipe's floats are. CPU time of this process, best of three.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from fdf.mixture.curve import Curve, Point
from fdf.mixture.scheduler import Mix, Scheduler, Sizes
from fdf.mixture.tree import Node, Tree

RNG = np.random.default_rng(0)
SIZES = np.maximum(RNG.lognormal(6.0, 1.2, 100_000), 1).astype(np.int64)


class Endless:
    """Gives every leaf the same sizes, from another place each."""

    def take(self, leaf: int, epoch: int) -> Sizes:
        return np.roll(SIZES, -37 * leaf)


class Short:
    """Gives every leaf some twenty documents, then its end."""

    def __init__(self, leaves: int) -> None:
        self._left = [1] * leaves

    def take(self, leaf: int, epoch: int) -> Sizes | None:
        if not self._left[leaf]:
            return None
        self._left[leaf] = 0
        return SIZES[leaf : leaf + 15 + leaf % 11]


def mixture(leaves: int, points: tuple[Point, ...] = (), policy: str = "stop") -> Mix:
    """Return a mixture of so many leaves."""
    weights = RNG.dirichlet(np.ones(leaves))
    tree = Tree([Node(name=f"s{i}", weight=Fraction(str(w)), epochs=Fraction(1)) for i, w in enumerate(weights)])
    return Mix(tree=tree, curve=Curve(tree.weights, points), on_exhausted=policy)  # type: ignore[arg-type]


def rate(make: Callable[[], Scheduler], most: int) -> tuple[float, int]:
    """Return decisions per CPU-second without what opening costs, and how many were made."""
    best, count = 0.0, 0
    for _ in range(3):
        scheduler = make()
        warm = len(scheduler.draw(1000))
        start, count = time.process_time(), 0
        while count < most and not scheduler.done:
            count += len(scheduler.draw(min(most - count, 200_000)))
        best = max(best, (count + warm * (most > 10**12)) / (time.process_time() - start))
    return best, count


def main() -> None:
    """Print a line per case."""
    compiled = sys.argv[1:] != ["python"]
    patience = 0 if compiled else None
    most = 3_000_000 if compiled else 200_000
    for leaves in (3, 64, 1_000, 10_000):
        law = mixture(leaves)
        got, _ = rate(lambda law=law: Scheduler(law, Endless(), patience=patience), most)  # type: ignore[misc]
        print(f"{leaves:>6} leaves, constant weights: {got:>12,.0f} decisions per CPU-second")
    for leaves in (3, 64):
        whole = {f"s{i}": Fraction(i + 1, 100) for i in range(leaves)}
        law = mixture(leaves, (Point(at=0, weights={k: Fraction(1, 10) for k in whole}),
                               Point(at=10**10, weights=whole, ramp="linear")))  # fmt: skip
        got, _ = rate(lambda law=law: Scheduler(law, Endless(), patience=patience), most)  # type: ignore[misc]
        print(f"{leaves:>6} leaves, linear ramp:      {got:>12,.0f} decisions per CPU-second")
    for leaves in (100, 1_000) + ((10_000,) if compiled else ()):
        law = mixture(leaves, policy="renormalize")
        start = time.process_time()
        scheduler = Scheduler(law, Short(leaves), patience=patience)
        count = 0
        while not scheduler.done:
            count += len(scheduler.draw(100_000))
        print(f"{leaves:>6} leaves that all end:      {time.process_time() - start:>12.2f} CPU-seconds for {count:,}")


if __name__ == "__main__":
    main()
