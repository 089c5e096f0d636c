"""Lets a worker go on with the next batch while one waits for a model in another process.

Batches are on their way in threads, but one baton is passed between them: whoever holds it runs, whoever waits for a
model hands it on. So no operator is ever called by two threads at once, and a worker still uses one CPU.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pyarrow as pa

T = TypeVar("T")
R = TypeVar("R")
THREADS = "fdf-ahead"
"""What the names of threads begin with that have to hold a baton."""


class Bearer(Protocol):
    """Who wants to know when a thread hands the baton on and gets it back."""

    def waits(self) -> None:
        """Called by the thread that is about to hand the baton on."""

    def goes_on(self) -> None:
        """Called by the thread that has it again."""


BEARER: ContextVar[Bearer | None] = ContextVar("bearer", default=None)
"""Of the thread at hand."""


class Baton:
    """What a thread holds while it computes."""

    def __init__(self) -> None:
        self._held = threading.Lock()
        self._given_up = threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the baton during the block."""
        with self._held:
            yield

    @contextmanager
    def handed_on(self) -> Iterator[None]:
        """Let others run during the block, in which the caller only waits."""
        bearer = BEARER.get()
        if bearer is not None:
            bearer.waits()
        self._held.release()
        try:
            yield
        finally:
            self._held.acquire()
            if bearer is not None:
                bearer.goes_on()

    @contextmanager
    def carried(self) -> Iterator[None]:
        """Hold the baton from the first batch to the last; at the end nobody waits for anything any more."""
        self._given_up.clear()
        with self.held():
            try:
                yield
            finally:
                self._given_up.set()

    def give_up(self) -> None:
        """Say that nobody needs any more what other threads wait for."""
        self._given_up.set()

    @property
    def given_up(self) -> bool:
        """Say whether nobody needs any more what other threads wait for: the split failed, or all is done."""
        return self._given_up.is_set()

    def in_order(
        self, work: Callable[[T], R], items: Iterable[T], *, most: int, room: int, size: Callable[[T], int]
    ) -> Generator[R, None, None]:
        """Yield `work(item)` for every item, in their order, with at most `most` of them, of `room` bytes together,
        on their way; one at least. The caller holds the baton from the first item to the last."""
        with self.carried():
            yield from self.within(work, items, most=most, room=room, size=size)

    def within(
        self, work: Callable[[T], R], items: Iterable[T], *, most: int, room: int, size: Callable[[T], int]
    ) -> Generator[R, None, None]:
        """Do what `in_order` does for a caller that holds the baton already."""
        pending: deque[tuple[Future[R], int]] = deque()
        under_way = 0

        def run(item: T) -> R:
            with self.held():
                return work(item)

        pool = ThreadPoolExecutor(most, thread_name_prefix=THREADS)
        try:
            for item in items:
                weight = size(item)
                while pending and (len(pending) >= most or under_way + weight > room):
                    done, lighter = pending.popleft()
                    yield self._result(done)
                    under_way -= lighter
                # What is shared within a batch is shared by the threads that it takes.
                pending.append((pool.submit(copy_context().run, run, item), weight))
                under_way += weight
            while pending:
                yield self._result(pending.popleft()[0])
        finally:
            for future, _ in pending:
                future.cancel()
            with self.handed_on():
                pool.shutdown()

    def _result(self, future: Future[R]) -> R:
        with self.handed_on():
            return future.result()


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """How far a worker goes ahead: so many batches of the reader, and so many bytes of rows."""

    baton: Baton
    most: int
    room: int
    calls: int = 1
    """How many calls of one operator may be on their way within one batch of the reader."""
    crowded: Callable[[], bool] = lambda: False
    """Says whether a batch waits for room to ask a model at all, so that no other should be begun."""


class Elsewhere(Protocol):
    """Models that run in other processes, as a worker sees them."""

    def infer(self, operator_id: str) -> Callable[[pa.RecordBatch], tuple[pa.RecordBatch, float]] | None:
        """Return what stands for an operator's `infer`, and tells how many seconds the model took; None: it runs here.

        It hands the baton on while it waits. Raises what `infer` raised there, and ModelDied for what killed it.
        """

    def ahead(self) -> Ahead | None:
        """Return how far to go ahead; None: one batch after the other."""


class ModelDied(Exception):
    """The process of a model was killed, by a fault or for its memory, while it ran exactly these rows."""
