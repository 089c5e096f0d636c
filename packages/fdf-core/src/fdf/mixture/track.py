"""Keeps how far each leaf was from its target at moments spread evenly over a schedule, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fdf.mixture.scheduler import Scheduler

MOST = 128


@dataclass
class Track:
    """Notes a schedule's moments; of more than `MOST` every other one is kept, again and again."""

    _every: int = 1
    _seen: int = 0
    _moments: list[tuple[int, list[float]]] = field(default_factory=list)

    def note(self, scheduler: Scheduler) -> None:
        """Note where each leaf is now."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        here = scheduler.position
        if self._moments and self._moments[-1][0] == here.units:
            return
        away = [float(a - scheduler.targets.value(i, here.units)) for i, a in enumerate(here.delivered)]
        self._moments.append((here.units, away))
        if len(self._moments) > MOST:
            self._moments = self._moments[::2]
            self._every *= 2

    def to_json(self) -> list[dict[str, Any]]:
        """Return the moments: the units delivered, and by how much each leaf was ahead of its target."""
        return [{"units": units, "ahead": [round(a, 3) for a in away]} for units, away in self._moments]
