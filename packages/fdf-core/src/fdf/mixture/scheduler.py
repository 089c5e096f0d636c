"""Decides which leaf delivers next: eligible earliest deadline first, in integers.

Eligible is a leaf behind its target, or at it while it rises; of these the one goes whose next document has the
earliest deadline, the smallest position at which its target covers the document; ties go to the lower index. At every
prefix each leaf is less than one document from its target (WF2Q, Bennett and Zhang 1996, section 3, for documents of
any length; the proof for integer deadlines is in docs/mixtures.md).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fdf.errors import StageFailed
from fdf.mixture.curve import Curve, Piece
from fdf.mixture.targets import Stretch, Targets
from fdf.mixture.tree import Tree

Sizes: TypeAlias = npt.NDArray[np.int64]
Policy: TypeAlias = Literal["stop", "renormalize", "repeat", "error", "fallback"]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A mixture's law: everything that decides the order but the documents themselves."""

    tree: Tree
    curve: Curve
    total: int | None = None
    on_exhausted: Policy = "stop"
    fallback: str | None = None
    """The node that takes over, under `fallback`."""
    may_be_empty: bool = False
    """A leaf without documents ends where it begins, as one that ran out does; otherwise it is an error."""


class Feed(Protocol):
    """Where the sizes of documents come from."""

    def take(self, leaf: int, epoch: int) -> Sizes | None:
        """Return the sizes of the next documents of a leaf in this epoch, at least one; None where it ends.

        May wait: what follows depends on them.
        """


@dataclass(frozen=True)
class Mixed:
    """Consecutive decisions: the leaf and the size of each document."""

    leaves: npt.NDArray[np.uint16]
    sizes: Sizes

    def __len__(self) -> int:
        return len(self.leaves)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A leaf, a group or the whole came to an end, or began again, at a position."""

    at: int
    name: str
    cause: Literal["cap", "epochs", "total", "weights", "exhausted"]
    then: str

    def to_json(self) -> dict[str, Any]:
        """Return the event as the manifest tells it."""
        return {"at": self.at, "name": self.name, "cause": self.cause, "then": self.then}


@dataclass
class Position:
    """Where a mixture stands: some numbers per leaf, from which it goes on exactly."""

    units: int
    delivered: list[int]
    rows: list[int]
    live: list[bool]
    epoch: list[int]
    in_epoch: list[int]
    """Documents delivered in the current epoch."""
    lengths: list[int | None]
    """Documents in one epoch, where that is known: after the first."""
    epoch_start: list[int]
    """Units delivered when the current epoch began."""
    restarted_at: int
    restarted_with: list[int]
    largest: list[int]
    """The largest document that was delivered or is next."""
    deviation: list[Fraction]
    done: bool = False

    @classmethod
    def start(cls, leaves: int) -> Position:
        """Return the position before the first document."""
        return cls(
            units=0,
            delivered=[0] * leaves,
            rows=[0] * leaves,
            live=[True] * leaves,
            epoch=[0] * leaves,
            in_epoch=[0] * leaves,
            lengths=[None] * leaves,
            epoch_start=[0] * leaves,
            restarted_at=0,
            restarted_with=[0] * leaves,
            largest=[0] * leaves,
            deviation=[Fraction(0)] * leaves,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the position as plain values."""
        return {**vars(self), "deviation": [str(d) for d in self.deviation]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Position:
        """Return a position that was stored."""
        copied: dict[str, Any] = {k: list(v) if isinstance(v, list) else v for k, v in value.items()}
        copied["deviation"] = [Fraction(d) for d in value["deviation"]]
        return cls(**copied)


@dataclass
class _Queue:
    """The sizes of a leaf's next documents, as far as they were taken."""

    sizes: Sizes = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    next: int = 0


class Scheduler:
    """Draws decisions one after the other. `feed` begins where `position` is."""

    def __init__(self, mix: Mix, feed: Feed, position: Position | None = None) -> None:
        self.mix = mix
        self.position = position or Position.start(len(mix.tree.leaves))
        self.events: list[Ending] = []
        self._feed = feed
        self._queues = [_Queue() for _ in mix.tree.leaves]
        self._waiting: list[tuple[int, int]] = []
        self._ready: list[tuple[float, int]] = []
        self.targets = self._targets()
        if not self.position.done:
            self._enter_all()

    @property
    def done(self) -> bool:
        """Say whether nothing more is delivered."""
        return self.position.done

    def settle(self) -> None:
        """Note how far each leaf is from its target where the schedule was left off."""
        if not self.position.done:
            self._note_all()

    def draw(self, most: int) -> Mixed:
        """Return up to `most` decisions; fewer only where the mixture ends."""
        leaves = np.empty(most, dtype=np.uint16)
        sizes = np.empty(most, dtype=np.int64)
        count = 0
        while count < most and not self.position.done:
            leaf = self._next()
            if leaf is None:
                self._finish("", "weights", "stopped: no source that is left has weight from here on")
                break
            leaves[count], sizes[count] = leaf, self._deliver(leaf)
            count += 1
        return Mixed(leaves[:count], sizes[:count])

    def _next(self) -> int | None:
        """Return the leaf that delivers next."""
        units = self.position.units
        stop = self.targets.stop
        if stop is not None and units >= stop:
            return None
        self.targets.advance(units)
        while self._waiting and self._waiting[0][0] <= units:
            _, leaf = heapq.heappop(self._waiting)
            heapq.heappush(self._ready, (self._deadline(leaf), leaf))
        return heapq.heappop(self._ready)[1] if self._ready else None

    def _deadline(self, leaf: int) -> float:
        """Return the position by which the leaf's next document is due, an integer, or infinity."""
        queue = self._queues[leaf]
        due = self.targets.first_reaching(leaf, self.position.delivered[leaf] + int(queue.sizes[queue.next]))
        return float("inf") if due is None else due

    def _deliver(self, leaf: int) -> int:
        """Account for the leaf's next document and make ready for the one after; return its size."""
        here, queue = self.position, self._queues[leaf]
        size = int(queue.sizes[queue.next])
        queue.next += 1
        self._note(leaf)
        here.units += size
        here.delivered[leaf] += size
        here.rows[leaf] += 1
        here.in_epoch[leaf] += 1
        self._note(leaf)
        if self._total_reached() or self._cap_reached(leaf):
            return size
        if self._fill(leaf):
            self._enter(leaf)
        return size

    def _note(self, leaf: int) -> None:
        """Remember how far a leaf was from its target: it is farthest just before and just after it delivers."""
        here = self.position
        away = abs(here.delivered[leaf] - self.targets.value(leaf, here.units))
        here.deviation[leaf] = max(here.deviation[leaf], away)

    def _note_all(self) -> None:
        """Note every leaf, where the targets come to an end: one that waits is farthest from its own then."""
        for leaf in range(len(self._queues)):
            self._note(leaf)

    def _enter(self, leaf: int) -> None:
        """Queue a leaf whose next document is known."""
        queue, here = self._queues[leaf], self.position
        here.largest[leaf] = max(here.largest[leaf], int(queue.sizes[queue.next]))
        release = self.targets.release(leaf, self.position.delivered[leaf])
        if release is None:
            return
        if release <= self.position.units:
            heapq.heappush(self._ready, (self._deadline(leaf), leaf))
        else:
            heapq.heappush(self._waiting, (release, leaf))

    def _fill(self, leaf: int) -> bool:
        """Make sure that the leaf's next document is known. Ends the leaf where there is none, and says so."""
        queue, here = self._queues[leaf], self.position
        while queue.next >= len(queue.sizes) or self._epochs_over(leaf):
            if self._epochs_over(leaf):
                self._end(self.mix.tree.leaves[leaf].name, (leaf,), "epochs")
                return False
            sizes = self._feed.take(leaf, here.epoch[leaf])
            if sizes is None:
                if not self._begin_again(leaf):
                    return False
                continue
            queue.sizes, queue.next = sizes, 0
        return True

    def _epochs_over(self, leaf: int) -> bool:
        """Say whether the leaf was read as often as it may be; a part of an epoch counts in documents."""
        epochs, here = self._epochs(leaf), self.position
        if epochs is None:
            return False
        left = epochs - here.epoch[leaf]
        if left <= 0:
            return True
        length = here.lengths[leaf]
        return left < 1 and length is not None and here.in_epoch[leaf] >= ceil(left * length)

    def _epochs(self, leaf: int) -> Fraction | None:
        return None if self.mix.on_exhausted == "repeat" else self.mix.tree.leaves[leaf].epochs

    def _begin_again(self, leaf: int) -> bool:
        """Open the leaf's next epoch, or end it. Raises StageFailed where nothing came of the one that is over."""
        here, node = self.position, self.mix.tree.leaves[leaf]
        if not here.in_epoch[leaf] and not here.epoch[leaf] and self.mix.may_be_empty:
            self._end(node.name, (leaf,), "epochs")
            return False
        if not here.in_epoch[leaf]:
            raise StageFailed(
                f"`{node.name}` has no rows, so it cannot have a share of the mixture",
                help="check its source, or take it out of the mixture",
            )
        if here.delivered[leaf] == here.epoch_start[leaf]:
            raise StageFailed(
                f"all {here.in_epoch[leaf]} rows of `{node.name}` weigh 0 in the mixture's unit",
                help="choose another `unit`, or take it out of the mixture",
            )
        here.lengths[leaf] = here.in_epoch[leaf]
        here.epoch[leaf] += 1
        here.in_epoch[leaf] = 0
        here.epoch_start[leaf] = here.delivered[leaf]
        if self._epochs_over(leaf):
            self._end(self.mix.tree.leaves[leaf].name, (leaf,), "epochs")
            return False
        if node.epochs is not None and here.epoch[leaf] >= node.epochs:
            self._tell(node.name, "epochs", f"repeated: epoch {here.epoch[leaf]} begins")
        return True

    def _total_reached(self) -> bool:
        total = self.mix.total
        if total is not None and self.position.units >= total:
            self._finish("", "total", "stopped")
        return self.position.done

    def _cap_reached(self, leaf: int) -> bool:
        """End what this leaf's last document brought to its cap; say whether the leaf itself is among it."""
        here = self.position
        for node, counted in self.mix.tree.capped:
            if leaf in counted and sum(here.delivered[i] for i in counted) >= (node.cap or 0):
                self._end(node.name, counted, "cap")
                return True
        return False

    def _end(self, name: str, leaves: Sequence[int], cause: Literal["cap", "epochs"]) -> None:
        """End a leaf or a group where it stands, and let its share go by the mixture's policy."""
        here, policy = self.position, self.mix.on_exhausted
        for leaf in leaves:
            here.live[leaf] = False
        if policy == "error":
            why = "reached its cap" if cause == "cap" else "ran out"
            units = sum(here.delivered[i] for i in leaves)
            raise StageFailed(
                f"`{name}` {why} after {units} units, at {here.units} units of the mixture",
                help="`on_exhausted: error` asks for this; choose another policy, more `epochs` or a smaller `total`",
            )
        if policy == "stop":
            self._finish(name, cause, "stopped")
            return
        if not any(here.live):
            self._finish(name, cause, "stopped: every source has ended")
            return
        if policy == "fallback" and not any(here.live[i] for i in self.mix.tree.leaves_of(str(self.mix.fallback))):
            self._finish(name, cause, f"stopped: its fallback `{self.mix.fallback}` has ended")
            return
        self._tell(name, cause, f"its share goes to `{self.mix.fallback}`" if policy == "fallback" else "renormalized")
        self._restart()

    def _finish(self, name: str, cause: Literal["cap", "epochs", "total", "weights", "exhausted"], then: str) -> None:
        self._note_all()
        self.position.done = True
        self._tell(name, cause, then)

    def _tell(self, name: str, cause: Any, then: str) -> None:
        self.events.append(Ending(at=self.position.units, name=name, cause=cause, then=then))

    def _restart(self) -> None:
        """Begin the targets again from what was delivered."""
        self._note_all()
        here = self.position
        here.restarted_at, here.restarted_with = here.units, list(here.delivered)
        self.targets = self._targets()
        self._enter_all()

    def _enter_all(self) -> None:
        """Queue every leaf that may come to deliver."""
        here, targets = self.position, self.targets
        self._waiting, self._ready = [], []
        for leaf, alive in enumerate(here.live):
            if not alive or targets.release(leaf, here.delivered[leaf]) is None:
                continue
            filled = self._fill(leaf)
            if self.targets is not targets or here.done:
                return  # It ended, and with that all were queued anew.
            if filled:
                self._enter(leaf)

    def _targets(self) -> Targets:
        here = self.position
        stretches = [] if here.done else list(self._stretches(here.restarted_at))
        if not stretches:
            here.done = True
            nothing = [Fraction(0)] * len(here.live)
            stretches = [Stretch(here.restarted_at, None, nothing, nothing)]
        last, stop = stretches[-1], stretches[-1].stop
        if stop is not None:
            # The document that crosses the end is measured against the shares that held until there.
            stretches.append(Stretch(stop, None, last.last, last.last))
        return Targets(stretches, start=here.restarted_at, delivered=here.restarted_with, stop=stop)

    def _stretches(self, start: int) -> Iterator[Stretch]:
        """Yield the shares of the live leaves from a position on, as far as one of them has weight."""
        for piece in self.mix.curve.after(start):
            first, last = self._shares(piece, lambda p: p.first), self._shares(piece, lambda p: p.last)
            if first is None and last is None:
                return
            first, last = first or last, last or first
            assert first is not None
            assert last is not None
            yield Stretch(piece.start, piece.stop, first, first if piece.first is piece.last else last)

    def _shares(self, piece: Piece, end: Callable[[Piece], Mapping[str, Fraction]]) -> list[Fraction] | None:
        """Return the leaves' shares at one end of a piece, with those that ended handed on."""
        tree, live = self.mix.tree, {i for i, alive in enumerate(self.position.live) if alive}
        if self.mix.on_exhausted != "fallback":
            return tree.shares(end(piece), live)
        whole = tree.shares(end(piece), range(len(tree.leaves)))
        heirs = tree.shares(end(piece), live & {*tree.leaves_of(str(self.mix.fallback))})
        if whole is None:
            return None
        freed = sum((s for i, s in enumerate(whole) if i not in live), Fraction(0))
        if not freed:
            return whole
        if heirs is None:
            even = [i for i in tree.leaves_of(str(self.mix.fallback)) if i in live]
            heirs = [Fraction(int(i in even), len(even)) for i in range(len(whole))]
        return [(s if i in live else Fraction(0)) + freed * heirs[i] for i, s in enumerate(whole)]
