"""Finds how many rows a model should get at once (`batch_size: auto`): more and more, until that is of no more use."""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST = 8
MOST = 4096
WORTH = 1.1
TIMINGS = 4


@dataclass
class BatchSize:
    """Doubles from 8 rows while a batch twice as large is at least a tenth faster per row; halves where memory ends.

    The first batch of each size is not timed: on a GPU it pays for choosing kernels and for new memory. Of the next
    four the fastest counts, since what else a machine does only makes them slower.

    >>> size = BatchSize()
    >>> for _ in range(40):
    ...     size.observe(size.rows, seconds=max(1.0, size.rows / 64))
    >>> size.rows
    64
    """

    rows: int = FIRST
    settled: bool = False
    _slower: float = 0.0
    _timings: list[float] = field(default_factory=list)

    def observe(self, rows: int, seconds: float) -> None:
        """Note how long the model took. Batches of another size than the one being tried say nothing."""
        if self.settled or rows != self.rows:
            return
        self._timings.append(seconds)
        if len(self._timings) <= TIMINGS:
            return
        rate = rows / max(min(self._timings[1:]), 1e-9)
        self._timings.clear()
        if rate < WORTH * self._slower:
            self._settle(rows // 2)
        elif rows * 2 > MOST:
            self._settle(rows)
        else:
            self._slower, self.rows = rate, rows * 2

    def ran_out(self, rows: int) -> None:
        """Note that so many rows did not fit."""
        if rows <= self.rows:
            self._settle(max(1, rows // 2))

    def _settle(self, rows: int) -> None:
        self.rows, self.settled = rows, True
