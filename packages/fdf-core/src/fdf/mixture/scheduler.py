"""Decides which leaf delivers next: eligible earliest deadline first, in integers.

Eligible is a leaf behind its target, or at it while it rises; of these the one goes whose next document has the
earliest deadline, the smallest position at which its target covers the document; ties go to the lower index. At every
prefix each leaf is less than one document from its target (WF2Q, Bennett and Zhang 1996, section 3, for documents of
any length; the proof for integer deadlines is in docs/mixtures.md).

What is written here is the whole of it, in Python. `ledger` hands long runs of decisions to compiled code, which makes
the same ones, and comes back here for whatever happens less often than once in some hundred documents.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, inf
from typing import Literal, Protocol

import numpy as np

from fdf.errors import StageFailed
from fdf.mixture.columns import FAR, SERVED, STEP
from fdf.mixture.law import Mix, Policy
from fdf.mixture.ledger import Ledger, compiled_loop, fits
from fdf.mixture.position import Cause, Ending, Mixed, Position, Sizes
from fdf.mixture.targets import Polynomials, Stretch, Targets
from fdf.mixture.tree import Parts

__all__ = ["PATIENCE", "Ending", "Feed", "Mix", "Mixed", "Policy", "Position", "Scheduler", "Sizes"]

PATIENCE = 30_000
"""Decisions made in Python before compiled code is loaded: loading it takes as long as some hundred thousand do."""


class Feed(Protocol):
    """Where the sizes of documents come from."""

    def take(self, leaf: int, epoch: int) -> Sizes | None:
        """Return the sizes of the next documents of a leaf in this epoch, at least one; None where it ends.

        May wait: what follows depends on them.
        """


@dataclass
class _Queue:
    """The sizes of a leaf's next documents, as far as they were taken."""

    sizes: Sizes = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    next: int = 0
    size: int = 0
    """The next document's, where the leaf is queued."""


class Scheduler:
    """Draws decisions one after the other. `feed` begins where `position` is.

    `patience` is the number of decisions after which compiled code takes over, where numba is installed; None: never.
    """

    def __init__(
        self, mix: Mix, feed: Feed, position: Position | None = None, *, patience: int | None = PATIENCE
    ) -> None:
        self.mix = mix
        self.events: list[Ending] = []
        self._here = position or Position.start(len(mix.tree.leaves))
        self._feed = feed
        self._patience = patience
        self._queues = [_Queue() for _ in mix.tree.leaves]
        self._waiting: list[tuple[int, int]] = []
        self._ready: list[tuple[float, int]] = []
        self._live = np.array(self._here.live, dtype=bool)
        self._away = [0] * len(mix.tree.leaves)
        """How far leaves were from their targets since the scale last changed, times that scale."""
        self._caps_of: list[list[int]] = [[] for _ in mix.tree.leaves]
        for number, (_, counted) in enumerate(mix.tree.capped):
            for leaf in counted:
                self._caps_of[leaf].append(number)
        self._counted = [sum(self._here.delivered[i] for i in counted) for _, counted in mix.tree.capped]
        self._refused: Polynomials | None = None
        self._ledger: Ledger | None = None
        """The state of what is queued, while compiled code has it."""
        self.targets = self._targets(self._here.restarted_with)
        if not self._here.done:
            self._enter_all()

    @property
    def position(self) -> Position:
        """Where the mixture stands."""
        if self._ledger is not None:
            self._ledger.settle_all(self._here)
        self._fold()
        return self._here

    @property
    def done(self) -> bool:
        """Say whether nothing more is delivered."""
        return self._here.done

    def settle(self) -> None:
        """Note how far each leaf is from its target where the schedule was left off."""
        if not self._here.done:
            self._note_all()

    def draw(self, most: int) -> Mixed:
        """Return up to `most` decisions; fewer only where the mixture ends."""
        mixed = Mixed(np.empty(most, dtype=np.uint16), np.empty(most, dtype=np.int64))
        count = 0
        while count < most and not self._here.done:
            if self._ledger is None and not self._open():
                count = self._draw_in_python(mixed, count, most)
            elif self._ledger is not None:
                count = self._draw_compiled(self._ledger, mixed, count)
        return Mixed(mixed.leaves[:count], mixed.sizes[:count])

    def _draw_in_python(self, mixed: Mixed, count: int, most: int) -> int:
        """Make decisions one by one, as long as no compiled code is wanted; return how many are made then."""
        piece, patient = self.targets.piece, self._patience is None
        leaves: list[int] = []
        sizes: list[int] = []
        while count + len(leaves) < most:
            leaf = self._next()
            if leaf is None:
                self._finish("", "weights", "stopped: no source that is left has weight from here on")
                break
            leaves.append(leaf)
            sizes.append(self._deliver(leaf))
            if self._here.done or not (patient or self._goes_on_in_python(piece)):
                break
        end = count + len(leaves)
        mixed.leaves[count:end], mixed.sizes[count:end] = leaves, sizes
        return end

    def _goes_on_in_python(self, piece: Polynomials) -> bool:
        """Count a decision made in Python; say whether compiled code could not take over now, or could before."""
        if self._patience is None:
            return True
        self._patience -= 1
        return self._patience > 0 or (self._patience < 0 and self.targets.piece is piece)

    def _next(self) -> int | None:
        """Return the leaf that delivers next."""
        units, targets = self._here.units, self.targets
        if targets.stop is not None and units >= targets.stop:
            return None
        piece = targets.piece
        if targets.advance(units):
            self._fold(piece.scale)
        waiting, ready = self._waiting, self._ready
        while waiting and waiting[0][0] <= units:
            _, leaf = heapq.heappop(waiting)
            heapq.heappush(ready, (self._deadline(leaf), leaf))
        return heapq.heappop(ready)[1] if ready else None

    def _deadline(self, leaf: int) -> float:
        """Return the position by which the leaf's next document is due, an integer, or infinity."""
        due = self.targets.first_reaching(leaf, self._here.delivered[leaf] + self._queues[leaf].size)
        return inf if due is None else due

    def _deliver(self, leaf: int) -> int:
        """Account for the leaf's next document and make ready for the one after; return its size."""
        here, queue = self._here, self._queues[leaf]
        size = queue.size
        queue.next += 1
        self._note(leaf)
        here.units += size
        here.delivered[leaf] += size
        here.rows[leaf] += 1
        here.in_epoch[leaf] += 1
        self._note(leaf)
        for number in self._caps_of[leaf]:
            self._counted[number] += size
        if not self._over(leaf) and self._fill(leaf):
            self._enter(leaf)
        return size

    def _note(self, leaf: int) -> None:
        """Remember how far a leaf was from its target: it is farthest just before and just after it delivers."""
        here, piece = self._here, self.targets.piece
        x = here.units - piece.start
        if piece.length is None or x <= piece.length:
            gain = piece.slope[leaf] if piece.bend is None else piece.slope[leaf] + piece.bend[leaf] * x
            away = abs(here.delivered[leaf] * piece.scale - piece.base[leaf] - gain * x)
            if away > self._away[leaf]:  # noqa: PLR1730 (`max` would be one more call per decision)
                self._away[leaf] = away
        else:
            beyond = abs(here.delivered[leaf] - self.targets.value(leaf, here.units))
            here.deviation[leaf] = max(here.deviation[leaf], beyond)

    def _note_all(self) -> None:
        """Note every leaf, where the targets come to an end: one that waits is farthest from its own then."""
        if self._ledger is not None:
            self._ledger.note_all()
            self._ledger.fold(self._here)
            return
        for leaf in range(len(self._queues)):
            self._note(leaf)
        self._fold()

    def _fold(self, scale: int | None = None) -> None:
        """Bring what was noted since the scale last changed into the position."""
        if self._ledger is not None:
            self._ledger.fold(self._here)
            return
        scale, deviation = scale or self.targets.piece.scale, self._here.deviation
        for leaf, away in enumerate(self._away):
            if away * deviation[leaf].denominator > deviation[leaf].numerator * scale:
                deviation[leaf] = Fraction(away, scale)
        self._away = [0] * len(self._away)

    def _enter(self, leaf: int) -> None:
        """Queue a leaf whose next document is known."""
        queue, here = self._queues[leaf], self._here
        queue.size = size = int(queue.sizes[queue.next])
        here.largest[leaf] = max(here.largest[leaf], size)
        release = self.targets.release(leaf, here.delivered[leaf])
        if release is None:
            return
        if release <= here.units:
            heapq.heappush(self._ready, (self._deadline(leaf), leaf))
        else:
            heapq.heappush(self._waiting, (release, leaf))

    def _fill(self, leaf: int) -> bool:
        """Make sure that the leaf's next document is known. Ends the leaf where there is none, and says so."""
        queue, here = self._queues[leaf], self._here
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
        """Say whether the leaf was read as often as it may be."""
        epochs = self._epochs(leaf)
        if epochs is None:
            return False
        if epochs <= self._here.epoch[leaf]:
            return True
        left = self._left(leaf)
        return left is not None and left <= 0

    def _left(self, leaf: int) -> int | None:
        """Return how many documents a leaf has left in an epoch that it reads in part; None where it reads it whole."""
        epochs, here = self._epochs(leaf), self._here
        length = here.lengths[leaf]
        if epochs is None or length is None or epochs - here.epoch[leaf] >= 1:
            return None
        return ceil((epochs - here.epoch[leaf]) * length) - here.in_epoch[leaf]

    def _epochs(self, leaf: int) -> Fraction | None:
        return None if self.mix.on_exhausted == "repeat" else self.mix.tree.leaves[leaf].epochs

    def _begin_again(self, leaf: int) -> bool:
        """Open the leaf's next epoch, or end it. Raises StageFailed where nothing came of the one that is over."""
        here, node = self._here, self.mix.tree.leaves[leaf]
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
        if self._ledger is not None:
            self._ledger.begin_epoch(leaf)
        here.epoch_start[leaf] = here.delivered[leaf]
        if self._epochs_over(leaf):
            self._end(self.mix.tree.leaves[leaf].name, (leaf,), "epochs")
            return False
        if node.epochs is not None and here.epoch[leaf] >= node.epochs:
            self._tell(node.name, "epochs", f"repeated: epoch {here.epoch[leaf]} begins")
        return True

    def _over(self, leaf: int) -> bool:
        """End what this leaf's last document brought to its end; say whether the leaf itself is among it."""
        total = self.mix.total
        if total is not None and self._here.units >= total:
            self._finish("", "total", "stopped")
            return True
        for number in self._caps_of[leaf]:
            node, counted = self.mix.tree.capped[number]
            if self._counted[number] >= (node.cap or 0):
                self._end(node.name, counted, "cap")
                return True
        return False

    def _end(self, name: str, leaves: Sequence[int], cause: Literal["cap", "epochs"]) -> None:
        """End a leaf or a group where it stands, and let its share go by the mixture's policy."""
        here, policy = self._here, self.mix.on_exhausted
        for leaf in leaves:
            here.live[leaf] = False
        self._live[list(leaves)] = False
        if policy == "error":
            why = "reached its cap" if cause == "cap" else "ran out"
            units = sum(self.position.delivered[i] for i in leaves)
            raise StageFailed(
                f"`{name}` {why} after {units} units, at {here.units} units of the mixture",
                help="`on_exhausted: error` asks for this; choose another policy, more `epochs` or a smaller `total`",
            )
        if policy == "stop":
            self._finish(name, cause, "stopped")
            return
        if not self._live.any():
            self._finish(name, cause, "stopped: every source has ended")
            return
        if policy == "fallback" and not self._live[list(self.mix.tree.leaves_of(str(self.mix.fallback)))].any():
            self._finish(name, cause, f"stopped: its fallback `{self.mix.fallback}` has ended")
            return
        self._tell(name, cause, f"its share goes to `{self.mix.fallback}`" if policy == "fallback" else "renormalized")
        self._restart()

    def _finish(self, name: str, cause: Cause, then: str) -> None:
        self._note_all()
        self._here.done = True
        self._tell(name, cause, then)

    def _tell(self, name: str, cause: Cause, then: str) -> None:
        self.events.append(Ending(at=self._here.units, name=name, cause=cause, then=then))

    def _restart(self) -> None:
        """Begin the targets again from what was delivered."""
        self._note_all()
        here, ledger = self._here, self._ledger
        here.restarted_at = here.units
        if ledger is None:
            here.restarted_with = list(here.delivered)
            self.targets = self._targets(here.restarted_with)
        else:
            self.targets = self._targets(ledger.delivered())
            if not ledger.restart(self.targets, self._live, here):
                self._close()
        self._enter_all()

    def _targets(self, delivered: Sequence[int] | Sizes) -> Targets:
        here, live = self._here, self._live.copy()
        start = here.restarted_at
        stop = start if here.done else self.mix.stop(start, live)
        if stop != start:
            return Targets(self.mix.stretches(start, live), start=start, stop=stop, delivered=delivered)
        here.done = True
        nothing = Parts(np.zeros(len(live), dtype=np.int64), 1)
        return Targets([Stretch(start, start, nothing, nothing)], start=start, stop=start, delivered=delivered)

    def _enter_all(self) -> None:
        """Queue every leaf that may come to deliver."""
        targets, ledger = self.targets, self._ledger
        if ledger is not None:
            self._enter_all_compiled(ledger)
            return
        here = self._here
        self._waiting, self._ready = [], []
        for leaf, alive in enumerate(here.live):
            if not alive or targets.release(leaf, here.delivered[leaf]) is None:
                continue
            filled = self._fill(leaf)
            if self.targets is not targets or here.done:
                return  # It ended, and with that all were queued anew.
            if filled:
                self._enter(leaf)

    # --- While compiled code makes the decisions ---

    def _open(self) -> bool:
        """Hand what is queued to compiled code, if it is wanted, there, and up to it; say whether it is."""
        if self._patience is None or self._patience > 0 or self.targets.piece is self._refused:
            return False
        if self._here.units < self.targets.piece.start or self._past_piece():
            return False
        self._refused = self.targets.piece
        if not fits(self.targets.piece, max(self._here.largest)) or compiled_loop() is None:
            return False
        self._fold()
        here, capped = self._here, self.mix.tree.capped
        limits = [node.cap or 0 for node, _ in capped]
        ledger = Ledger(here, self.targets, total=self.mix.total, caps=self._caps_of, limits=limits)
        if not ledger.put(self._waiting, self._ready):
            return False
        ledger.counted[:] = self._counted
        for leaf, queue in enumerate(self._queues):
            if not ledger.load(leaf, here, queue.sizes, queue.next, self._left(leaf)):
                return False
        self._refused, self._ledger = None, ledger
        return True

    def _past_piece(self) -> bool:
        piece = self.targets.piece
        return piece.length is not None and self._here.units >= piece.start + piece.length

    def _close(self) -> None:
        """Take everything back from compiled code."""
        ledger = self._ledger
        assert ledger is not None
        ledger.fold(self._here)
        for queue, at in zip(self._queues, ledger.settle_all(self._here).tolist(), strict=True):
            queue.next = at
            if at < len(queue.sizes):
                queue.size = int(queue.sizes[at])
        self._counted = ledger.counted.tolist()
        self._waiting, self._ready = ledger.queued()
        self._ledger = None

    def _draw_compiled(self, ledger: Ledger, mixed: Mixed, count: int) -> int:
        """Make decisions in compiled code up to one that needs a second look, and take it; return how many are made."""
        why, leaf, count = ledger.run(mixed, count)
        self._here.units = ledger.units
        if why == STEP:
            self._close()
            return self._draw_in_python(mixed, count, count + 1)
        if why == SERVED:
            self._settle(ledger, leaf)
            if not self._over(leaf) and self._fill(leaf):
                if not self._load(ledger, leaf):
                    self._refuse()
                    self._enter(leaf)
                    return count
                why = SERVED if ledger.enter(leaf) else FAR
        if why == FAR:
            self._place(ledger, leaf)
        return count

    def _settle(self, ledger: Ledger, leaf: int) -> None:
        self._queues[leaf].next = ledger.settle(leaf, self._here)
        for number in self._caps_of[leaf]:
            self._counted[number] = int(ledger.counted[number])

    def _load(self, ledger: Ledger, leaf: int) -> bool:
        queue = self._queues[leaf]
        return ledger.load(leaf, self._here, queue.sizes, queue.next, self._left(leaf))

    def _place(self, ledger: Ledger, leaf: int) -> None:
        """Queue a leaf whose place compiled code cannot tell: it is beyond the current piece, or very far."""
        self._settle(ledger, leaf)
        queue, here = self._queues[leaf], self._here
        queue.size = size = int(queue.sizes[queue.next])
        here.largest[leaf] = max(here.largest[leaf], size)
        self._load(ledger, leaf)
        release = self.targets.release(leaf, here.delivered[leaf])
        if release is None:
            return
        due = self.targets.first_reaching(leaf, here.delivered[leaf] + size) if release <= here.units else None
        if not ledger.place(leaf, release=release, due=due):
            self._refuse()
            self._enter(leaf)

    def _refuse(self) -> None:
        """Take everything back until the next piece: there are numbers that compiled code has no room for."""
        self._refused = self.targets.piece
        self._close()

    def _enter_all_compiled(self, ledger: Ledger) -> None:
        targets, here = self.targets, self._here
        leaf = ledger.enter_all(self._live, 0)
        while leaf is not None:
            self._settle(ledger, leaf)
            if targets.release(leaf, here.delivered[leaf]) is not None:
                filled = self._fill(leaf)
                if self.targets is not targets or here.done:
                    return  # It ended, and with that all were queued anew.
                if filled:
                    if not self._load(ledger, leaf):
                        self._refuse()
                    elif not ledger.enter(leaf):
                        self._place(ledger, leaf)
                    if self._ledger is not ledger:
                        self._enter_all()
                        return
            leaf = ledger.enter_all(self._live, leaf + 1)
