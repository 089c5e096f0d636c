"""Runs several splits of a stage at once in one worker, where a change of models is dear and each split is small.

Splits are begun, read and committed one after the other, in the order in which they come; what overlaps is their
waiting. Their batches share one bound in bytes, so that many small splits hold no more than one large one. One baton is
passed between all of them (`fdf.stage.ahead`): at any moment the worker is at work on one split, and tells which.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Protocol

from fdf.errors import TransientError
from fdf.plan.task import Task
from fdf.stage.ahead import BEARER, THREADS, Ahead
from fdf.stage.blame import Attempt
from fdf.stage.events import CancelToken
from fdf.stage.reading import OpenTask
from fdf.stage.segment import Parcel

LOOK_ROUND = 0.1


class Coming(Protocol):
    """Splits that arrive while others are under way."""

    def draw(self, *, beside: int) -> tuple[Task, Attempt] | None:
        """Return the next split of the same stage, to run beside so many others; None where there is none now.

        Then one is asked for, where there are others: there is room for it as soon as it comes.
        """

    def ring(self, bell: Callable[[], None] | None) -> None:
        """Call `bell`, from any thread, whenever something has arrived; None: nothing any more."""


@dataclass(eq=False)
class UnderWay:
    """A split that was begun: the batches that are read of it, and what a batch goes through."""

    task: Task
    attempt: Attempt
    opened: OpenTask
    parcels: Iterator[Parcel]
    work: Callable[[Parcel], Parcel]


@dataclass(eq=False)
class _Piece:
    """A batch under way, or the end of a split. It bears the baton while it is at work."""

    split: UnderWay
    at: Callable[[UnderWay], None]
    bell: Callable[[], None]
    weight: int = 0
    future: Future[Parcel] | None = None
    """None: what was read of the split ends here."""
    error: Exception | None = None
    """Why it ends before its time."""
    waiting: bool = False

    @property
    def done(self) -> bool:
        return self.future is None or self.future.done()

    def waits(self) -> None:
        self.waiting = True
        self.bell()

    def goes_on(self) -> None:
        self.waiting = False
        self.at(self.split)

    def run(self, parcel: Parcel, ahead: Ahead) -> Parcel:
        BEARER.set(self)
        with ahead.baton.held():
            self.at(self.split)
            return self.split.work(parcel)


class Together:
    """Brings splits to their receipts until none is under way and none has come.

    Parameters:
        begin: opens a split.
        commit: writes a split's batches and commits them. A TransientError it raises leaves the split aside.
        at: is told the location of the split that is worked on, before the work, whenever that changes.
    """

    def __init__(
        self,
        coming: Coming,
        *,
        ahead: Ahead,
        cancel: CancelToken,
        begin: Callable[[Task, Attempt], UnderWay],
        commit: Callable[[UnderWay, Iterator[Parcel]], None],
        at: Callable[[str], None],
    ) -> None:
        self._coming = coming
        self._ahead = ahead
        self._cancel = cancel
        self._begin = begin
        self._commit = commit
        self._tell = at
        self._told = ""
        self._bell = threading.Event()
        self._splits: deque[UnderWay] = deque()
        self._reading: UnderWay | None = None
        self._next: Parcel | None = None
        """What was read and did not fit yet."""
        self._pieces: deque[_Piece] = deque()
        self._newest: _Piece | None = None
        self._batches = 0
        self._bytes = 0
        self._aside: list[tuple[Task, Attempt]] = []

    def run(self) -> list[tuple[Task, Attempt]]:
        """Return the splits that a fault which may pass has kept from their receipts: they are to be run again."""
        self._coming.ring(self._bell.set)
        with self._ahead.baton.carried():
            self._pool = ThreadPoolExecutor(self._ahead.most, thread_name_prefix=THREADS)
            try:
                while (split := self._oldest()) is not None:
                    try:
                        self._commit(split, self._parcels(split))
                    except TransientError:
                        self._set_aside(split)
                    self._splits.popleft()
            finally:
                self._end()
        return self._aside

    def _end(self) -> None:
        for piece in self._pieces:
            if piece.future is not None:
                piece.future.cancel()
        self._ahead.baton.give_up()
        with self._ahead.baton.handed_on():
            self._pool.shutdown()
        self._coming.ring(None)

    def _oldest(self) -> UnderWay | None:
        if not self._splits:
            self._fill()
        return self._splits[0] if self._splits else None

    def _parcels(self, split: UnderWay) -> Iterator[Parcel]:
        """Yield the oldest split's batches when they are done; meanwhile go on with those that come after them."""
        while True:
            self._wait_for_first()
            piece = self._pieces.popleft()
            self._bytes -= piece.weight
            self._at(split)
            if piece.future is None:
                if piece.error is not None:
                    raise piece.error
                return
            self._batches -= 1
            parcel = piece.future.result()
            # While the next one is waited for, nothing here holds this one.
            del piece
            yield parcel
            del parcel

    def _wait_for_first(self) -> None:
        while True:
            self._bell.clear()
            self._fill()
            if self._pieces and self._pieces[0].done:
                return
            with self._ahead.baton.handed_on():
                self._bell.wait(LOOK_ROUND)
            self._cancel.raise_if_cancelled()

    def _fill(self) -> None:
        """Begin the next batch where there is room; only one, so that what it prepares is known before the next."""
        ahead = self._ahead
        if self._newest is not None and not (self._newest.waiting or self._newest.done):
            return
        if self._batches >= ahead.most or len(self._pieces) >= 2 * ahead.most:
            return
        if self._bytes >= ahead.room or ahead.crowded():
            return
        parcel = self._drawn()
        if parcel is None:
            return
        if self._batches and self._bytes + parcel.bytes_read > ahead.room:
            self._next = parcel
            return
        assert self._reading is not None
        piece = _Piece(self._reading, self._at, self._bell.set, parcel.bytes_read)
        # Each has a context of its own: what is shared within a batch is shared by the threads that it takes.
        piece.future = self._pool.submit(copy_context().run, piece.run, parcel, ahead)
        piece.future.add_done_callback(lambda _: self._bell.set())
        self._pieces.append(piece)
        self._newest = piece
        self._batches += 1
        self._bytes += piece.weight

    def _drawn(self) -> Parcel | None:
        """Return the next batch, of the split at hand or of one that has come; None where there is none now."""
        parcel: Parcel | None
        if self._next is not None:
            parcel, self._next = self._next, None
            return parcel
        while True:
            if self._reading is None:
                given = self._coming.draw(beside=len(self._splits))
                if given is None:
                    return None
                self._reading = self._begin(*given)
                self._splits.append(self._reading)
            self._at(self._reading)
            error: Exception | None = None
            try:
                parcel = next(self._reading.parcels, None)
            except Exception as raised:  # noqa: BLE001 (it is raised when the split's turn has come)
                parcel, error = None, raised
            if parcel is not None:
                return parcel
            self._pieces.append(_Piece(self._reading, self._at, self._bell.set, error=error))
            self._reading = None

    def _set_aside(self, split: UnderWay) -> None:
        """Drop what is under way of the oldest split; what its threads still do is waited for at the end."""
        if self._reading is split:
            self._reading = self._next = None
        while self._pieces and self._pieces[0].split is split:
            piece = self._pieces.popleft()
            self._bytes -= piece.weight
            if piece.future is not None:
                piece.future.cancel()
                self._batches -= 1
        self._aside.append((split.task, split.attempt))

    def _at(self, split: UnderWay) -> None:
        location = split.task.key.location
        if location != self._told:
            self._told = location
            self._tell(location)
