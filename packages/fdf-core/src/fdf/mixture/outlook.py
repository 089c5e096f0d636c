"""Foresees a mixture from what its sources hold: where each ends, how often it is read, and what its share is when.

The law is followed in amounts, without documents: what really happens differs by less than a document of each source
where holdings are exact, and by what they are off where they are estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any, Literal

import numpy as np

from fdf.mixture.holdings import Holding
from fdf.mixture.scheduler import Ending, Mix, Position, Scheduler, Sizes
from fdf.mixture.targets import Targets

FAR = 1 << 60
"""Nothing is looked for beyond so many units."""


@dataclass(frozen=True, kw_only=True)
class LeafOutlook:
    """What will come of one source."""

    name: str
    share: Fraction
    """Its share of the first unit."""
    holding: Holding
    delivered: int
    epochs: float | None
    ends_at: int | None
    """Units of the whole when it reaches its cap or was read as often as it may; None where it does not."""
    cause: str | None


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What will come of a mixture."""

    leaves: tuple[LeafOutlook, ...]
    events: tuple[Ending, ...]
    units: int | None
    """Where it ends; None where nothing ends it."""
    exact: bool
    """Whether every holding that decides something is known."""
    curve: tuple[tuple[int, tuple[Fraction, ...]], ...]
    """Each source's share from a position on."""
    shortfall: str | None = None
    """Why `total` cannot be reached."""


class _Any:
    """A feed for a scheduler that is only asked for its targets."""

    def take(self, leaf: int, epoch: int) -> Sizes:
        return np.ones(1, dtype=np.int64)


def foresee(mix: Mix, holdings: Sequence[Holding]) -> Outlook:
    """Return what will come of a mixture whose sources hold so much."""
    return _Walk(mix, holdings).to_the_end()


@dataclass
class _End:
    """Something that ends: at which position, what, and why."""

    at: int
    name: str
    leaves: tuple[int, ...]
    cause: Literal["cap", "epochs", "total", "weights"]
    again: bool = False
    """Under `repeat`, where a source begins again."""


@dataclass
class _Walk:
    mix: Mix
    holdings: Sequence[Holding]
    here: Position = field(init=False)
    events: list[Ending] = field(default_factory=list)
    curve: list[tuple[int, tuple[Fraction, ...]]] = field(default_factory=list)
    ends: dict[int, _End] = field(default_factory=dict)
    repeated: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.here = Position.start(len(self.mix.tree.leaves))

    def to_the_end(self) -> Outlook:
        endless = False
        while not self.here.done:
            scheduler = Scheduler(self.mix, _Any(), self.here)
            targets = scheduler.targets
            if scheduler.done:
                self._tell(_End(self.here.units, "", (), "weights"), "stopped: no source that is left has weight")
                break
            end = self._next(targets)
            self._note_curve(targets, end)
            if end is None:
                endless = True
                break
            self._go_to(end, targets)
        return self._outlook(endless=endless)

    def _next(self, targets: Targets) -> _End | None:
        """Return what ends first from here on."""
        ends: list[_End] = []
        if targets.stop is not None:
            ends.append(_End(targets.stop, "", (), "weights"))
        if self.mix.total is not None:
            ends.append(_End(self.mix.total, "", (), "total"))
        for leaf, node in enumerate(self.mix.tree.leaves):
            amount = self._supply(leaf)
            if amount is None or not self.here.live[leaf] or leaf in self.repeated:
                continue
            at = targets.first_reaching(leaf, amount)
            if at is not None:
                ends.append(_End(at, node.name, (leaf,), "epochs", again=self.mix.on_exhausted == "repeat"))
        for node, counted in self.mix.tree.capped:
            if any(self.here.live[i] for i in counted):
                at = _first_sum(targets, counted, node.cap or 0)
                if at is not None:
                    ends.append(_End(at, node.name, counted, "cap"))
        return min((e for e in ends if e.at < FAR), key=lambda e: e.at, default=None)

    def _supply(self, leaf: int) -> int | None:
        """Return how much a source delivers until it was read as often as it may; None where that is not known."""
        units, epochs = self.holdings[leaf].units, self.mix.tree.leaves[leaf].epochs
        return None if units is None or epochs is None else ceil(units * epochs)

    def _go_to(self, end: _End, targets: Targets) -> None:
        """Move to where something ends, and let its share go by the mixture's policy."""
        here, policy = self.here, self.mix.on_exhausted
        here.units = max(here.units, end.at)
        here.delivered = _whole([targets.value(i, here.units) for i in range(len(here.live))], here.units)
        for leaf in end.leaves:
            self.ends.setdefault(leaf, end)
        if end.again:
            self.repeated |= {*end.leaves}
            self._tell(end, "repeated")
        elif end.cause in ("total", "weights") or policy in ("stop", "error"):
            here.done = True
            self._tell(end, "failed: `on_exhausted: error`" if end.name and policy == "error" else "stopped")
        else:
            for leaf in end.leaves:
                here.live[leaf] = False
            heirs = self.mix.tree.leaves_of(self.mix.fallback) if self.mix.fallback is not None else ()
            if not any(here.live):
                here.done = True
                self._tell(end, "stopped: every source has ended")
            elif policy == "fallback" and not any(here.live[i] for i in heirs):
                here.done = True
                self._tell(end, f"stopped: its fallback `{self.mix.fallback}` has ended")
            else:
                heir = f"its share goes to `{self.mix.fallback}`" if policy == "fallback" else "renormalized"
                self._tell(end, heir)
        here.restarted_at, here.restarted_with = here.units, list(here.delivered)

    def _tell(self, end: _End, then: str) -> None:
        self.events.append(Ending(at=end.at, name=end.name, cause=end.cause, then=then))

    def _note_curve(self, targets: Targets, end: _End | None) -> None:
        """Note the shares where this part begins, at the schedule's points inside, and half way up each ramp."""
        start, stop = self.here.units, end.at if end else None
        marks = {start}
        for piece in self.mix.curve.pieces:
            marks |= {piece.start} if piece.stop is None else {piece.start, (piece.start + piece.stop) // 2, piece.stop}
        for at in sorted(m for m in marks if m >= start and (stop is None or m < stop)):
            shares = tuple(targets.value(i, at + 1) - targets.value(i, at) for i in range(len(self.here.live)))
            if not self.curve or self.curve[-1][1] != shares:
                self.curve.append((at, shares))

    def _outlook(self, *, endless: bool) -> Outlook:
        here, total = self.here, self.mix.total
        leaves = []
        for number, (node, holding) in enumerate(zip(self.mix.tree.leaves, self.holdings, strict=True)):
            end = self.ends.get(number)
            delivered = here.delivered[number]
            leaves.append(
                LeafOutlook(
                    name=node.name,
                    share=self.curve[0][1][number] if self.curve else Fraction(0),
                    holding=holding,
                    delivered=delivered,
                    epochs=None if endless or not holding.units else delivered / holding.units,
                    ends_at=end.at if end else None,
                    cause=end.cause if end else None,
                )
            )
        slack = sum(h.largest for h in self.holdings)
        short = total is not None and here.done and here.units + slack < total
        return Outlook(
            leaves=tuple(leaves),
            events=tuple(self.events),
            units=None if endless else here.units,
            exact=all(h.exact for h in self.holdings),
            curve=tuple(self.curve),
            shortfall=self._why(total or 0) if short else None,
        )

    def _why(self, total: int) -> str:
        last = self.events[-1]
        what = f"`{last.name}` {'reaches its cap' if last.cause == 'cap' else 'runs out'}" if last.name else "it ends"
        return f"{what} at {last.at:,} units, before the `total` of {total:,} ({last.then})"


def _first_sum(targets: Targets, leaves: Sequence[int], amount: int) -> int | None:
    """Return the smallest position at which the targets of these leaves add up to an amount."""
    if len(leaves) == 1:
        return targets.first_reaching(leaves[0], amount)

    def reached(units: int) -> bool:
        return sum((targets.value(i, units) for i in leaves), Fraction(0)) >= amount

    low, high = targets.start, targets.start + 1
    while not reached(high):
        if high >= FAR:
            return None
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return low


def _whole(amounts: Sequence[Fraction], total: int) -> list[int]:
    """Round amounts down or up so that they add up to a total: up those that lose most."""
    floors = [int(a) for a in amounts]
    left = total - sum(floors)
    for i in sorted(range(len(amounts)), key=lambda i: floors[i] - amounts[i])[: max(0, left)]:
        floors[i] += 1
    return floors


def to_json(outlook: Outlook) -> dict[str, Any]:
    """Return an outlook as plain JSON values."""
    return {
        "ends_at": outlook.units,
        "exact": outlook.exact,
        "shortfall": outlook.shortfall,
        "leaves": [
            {
                "name": leaf.name,
                "share": str(leaf.share),
                "holds": {
                    "units": leaf.holding.units,
                    "rows": leaf.holding.rows,
                    "exact": leaf.holding.exact,
                    "from": leaf.holding.how,
                    "largest": leaf.holding.largest,
                },
                "delivered": leaf.delivered if outlook.units is not None else None,
                "epochs": leaf.epochs,
                "ends_at": leaf.ends_at,
                "cause": leaf.cause,
            }
            for leaf in outlook.leaves
        ],
        "events": [e.to_json() for e in outlook.events],
        "curve": [
            {"at": at, "shares": {leaf.name: float(s) for leaf, s in zip(outlook.leaves, shares, strict=True)}}
            for at, shares in outlook.curve
        ],
    }
