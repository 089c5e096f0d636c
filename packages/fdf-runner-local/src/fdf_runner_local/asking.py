"""A worker's side of models in other processes: it sends rows, waits, and sends them again where a process died."""

from __future__ import annotations

import itertools
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Timeout
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from fdf.errors import Cancelled, Problem, StageFailed, TransientError
from fdf.stage.ahead import THREADS, Ahead, Baton, ModelDied
from fdf.stage.blame import MAX_PLAIN_DEATHS
from fdf.stage.events import CancelToken
from fdf_runner_local.parcels import Answer, Ask, Hello, Line, Message, Raised, Refusal, Shared

IN_FLIGHT = 128 << 20
"""How many bytes of requests one worker may have on their way; one request may be larger."""
AHEAD = 96 << 20
GROUP = 256 << 20
"""How many bytes of rows a worker holds while models go in turn, and where it has several splits in hand how many of
requests: the more, the rarer a change of models."""
MOST_IN_GROUP = 64
MOST_TOGETHER = 512
"""How many batches of several splits: each has a thread, and while it waits a descriptor."""
CALLS = 3
LOOK_ROUND = 0.1
AGAIN = 0.02


@dataclass(frozen=True, kw_only=True)
class Desks:
    """Where a stage's models are asked: for each operator the sockets of the processes that hold it."""

    paths: dict[str, tuple[Path, ...]]
    in_turn: bool = False
    together: bool = False
    """Whether a worker may have several splits in hand."""


class Room:
    """A number of bytes that several threads share. What is larger than all of it has it to itself."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._waiting = 0
        self._changed = threading.Condition()

    def resize(self, size: int) -> None:
        """Have another size from now on."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    @property
    def crowded(self) -> bool:
        """Say whether somebody waits for room."""
        return self._waiting > 0

    def take(self, size: int, *, give_up: Callable[[], None] | None = None) -> None:
        """Wait until there is room; `give_up` is called now and then, and may raise."""
        with self._changed:
            self._waiting += 1
            try:
                while self._taken and self._taken + size > self._size:
                    self._changed.wait(None if give_up is None else LOOK_ROUND)
                    if give_up is not None:
                        give_up()
                self._taken += size
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self._changed.notify_all()

    def until_nobody_waits(self, *, give_up: Callable[[], None]) -> None:
        """Wait until whoever waits for room has got it; `give_up` is as for `take`."""
        with self._changed:
            while self._waiting:
                self._changed.wait(LOOK_ROUND)
                give_up()

    def give(self, size: int) -> None:
        """Give room back."""
        with self._changed:
            self._taken -= size
            self._changed.notify_all()


@dataclass(eq=False)
class Pending:
    """A request that waits for its answer."""

    ask: Ask
    shared: Shared
    answer: Future[tuple[pa.RecordBatch, float]] = field(default_factory=Future)
    deaths: int = 0


class Desk:
    """The line to one model's process, and to the one that takes its place when it has died.

    `on_reached` is called, from another thread, whenever a process is there to be asked.
    """

    def __init__(self, path: Path, *, on_reached: Callable[[], None] | None = None) -> None:
        self._path = path
        self._on_reached = on_reached
        self._pending: dict[str, Pending] = {}
        self._line: Line | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="fdf-desk", daemon=True).start()

    @property
    def reached(self) -> bool:
        """Say whether a process is there to be asked."""
        return self._line is not None

    @property
    def load(self) -> int:
        """How many requests of this worker wait here."""
        return len(self._pending)

    def ask(self, pending: Pending) -> None:
        """Send a request, now or as soon as the process is there."""
        with self._lock:
            self._pending[pending.ask.number] = pending
            line = self._line
        if line is None:
            return
        try:
            # Without the lock: the other side may read no further before its answers are heard here.
            line.send(pending.ask, pending.shared)
        except OSError:  # Whatever it was, all is sent again over the next line.
            line.close()

    def forget(self, pending: Pending) -> None:
        """Give a request up, or what is left of one that was answered."""
        with self._lock:
            self._pending.pop(pending.ask.number, None)
            pending.shared.close()

    def _listen(self) -> None:
        while True:
            line = self._connect()
            while (found := line.receive()) is not None:
                self._hear(*found, line)
                del found
            with self._lock:
                self._line = None
            line.close()

    def _connect(self) -> Line:
        while True:
            with suppress(OSError):  # Nobody is there yet, or no descriptor is left.
                sock = socket.socket(socket.AF_UNIX)
                try:
                    sock.connect(str(self._path))
                except OSError:
                    sock.close()
                    raise
                return Line(sock)
            time.sleep(AGAIN)

    def _hear(self, message: Message, batch: pa.RecordBatch | None, line: Line) -> None:
        if isinstance(message, Hello):
            self._begin_again(message, line)
            if self._on_reached is not None:
                self._on_reached()
            return
        with self._lock:
            pending = self._pending.pop(message.number, None)
        if pending is None:
            return
        if isinstance(message, Answer) and batch is not None:
            pending.answer.set_result((batch, message.seconds))
        elif isinstance(message, Refusal):
            pending.answer.set_exception(message.error)

    def _begin_again(self, hello: Hello, line: Line) -> None:
        """Send everything to a new process, except what killed the one before it."""
        deaths = {o.number: o for o in hello.obituaries}
        with self._lock:
            for pending in list(self._pending.values()):
                death = deaths.get(pending.ask.number)
                failed: Exception | None = None
                if death is not None and death.cause in ("fault", "memory"):
                    failed = ModelDied(death.detail)
                elif death is not None:
                    pending.deaths = sum(o.number == pending.ask.number for o in hello.obituaries)
                    if pending.deaths > MAX_PLAIN_DEATHS:
                        failed = _died_too_often(pending.ask, pending.deaths, death.detail)
                if failed is None:
                    with suppress(OSError):
                        line.send(pending.ask, pending.shared)
                else:
                    del self._pending[pending.ask.number]
                    pending.answer.set_exception(failed)
            self._line = line


class RemoteModels:
    """The models of a stage that a worker asks: `fdf.stage.ahead.Elsewhere` for the local runner."""

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self._baton = Baton()
        self._room = Room(IN_FLIGHT)
        self._numbers = itertools.count()
        self._desks = Desks(paths={})
        self._open: dict[Path, Desk] = {}

    def settle(self, desks: Desks) -> None:
        """Say where the models are, before the stage is set up."""
        self._desks = desks
        self._room.resize(GROUP if desks.together else IN_FLIGHT)

    def infer(self, operator_id: str) -> Callable[[pa.RecordBatch], tuple[pa.RecordBatch, float]] | None:
        """Return what asks an operator's model; None where the operator runs here."""
        paths = self._desks.paths.get(operator_id)
        if paths is None:
            return None
        # Workers begin at different processes.
        first = os.getpid() % len(paths)
        desks = [self._desk(path) for path in (*paths[first:], *paths[:first])]
        return lambda prepared: self._ask(operator_id, prepared, desks)

    def _desk(self, path: Path) -> Desk:
        if path not in self._open:
            self._open[path] = Desk(path)
        return self._open[path]

    def ahead(self) -> Ahead:
        """Return how far to go ahead: a few batches, or as many as fit where a change of models is dear."""
        if self._desks.together:
            return Ahead(baton=self._baton, most=_most_together(), room=GROUP, crowded=lambda: self._room.crowded)
        if self._desks.in_turn:
            return Ahead(baton=self._baton, most=MOST_IN_GROUP, room=GROUP)
        # For each model one that is asked and one that waits there, and one in the making.
        return Ahead(baton=self._baton, most=1 + 2 * len(self._desks.paths), room=AHEAD, calls=CALLS)

    def _ask(self, operator_id: str, prepared: pa.RecordBatch, desks: list[Desk]) -> tuple[pa.RecordBatch, float]:
        size = prepared.nbytes
        with self._waiting():
            self._room.take(size, give_up=self._look_round)
        try:
            ask = Ask(f"{os.getpid()}.{next(self._numbers)}", operator_id, prepared.num_rows)
            pending = Pending(ask, _shared(prepared))
            try:
                # One whose process has yet to load its model, at first or after a death, is the last to be asked.
                desk = min(desks, key=lambda d: (not d.reached, d.load))
                with self._waiting():
                    desk.ask(pending)
                    return self._answer(pending, desk)
            finally:
                desk.forget(pending)
        finally:
            self._room.give(size)
            self._make_way()

    def _make_way(self) -> None:
        """Where one of many batches waits for room, let the others prepare nothing more that would wait for it too."""
        while self._desks.together and self._has_baton() and self._room.crowded and not self._baton.given_up:
            with self._baton.handed_on():
                self._room.until_nobody_waits(give_up=self._look_round)

    def _answer(self, pending: Pending, desk: Desk) -> tuple[pa.RecordBatch, float]:
        while True:
            try:
                # Many that wait look round less often each.
                return pending.answer.result(LOOK_ROUND * (1 + desk.load // MOST_IN_GROUP))
            except Timeout:
                self._look_round()
            except Raised as error:
                raise error.as_raised() from None

    def _look_round(self) -> None:
        self._cancel.raise_if_cancelled()
        if self._has_baton() and self._baton.given_up:
            raise Cancelled("the split was given up")

    @staticmethod
    def _has_baton() -> bool:
        """Say whether this thread has a baton to hand on: a careful attempt runs without."""
        return threading.current_thread().name.startswith(THREADS)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Hand the baton on, where this thread has one."""
        if self._has_baton():
            with self._baton.handed_on():
                yield
        else:
            yield


def _shared(prepared: pa.RecordBatch) -> Shared:
    try:
        return Shared(prepared)
    except OSError as error:  # No descriptor is left, say. The rows are not to blame.
        raise TransientError(f"no place for a question to a model: {error}") from error


def _most_together() -> int:
    """Return how many batches of several splits a worker may have under way, each with a descriptor."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_TOGETHER if allowed == resource.RLIM_INFINITY else max(1, min(MOST_TOGETHER, allowed // 2))


def _died_too_often(ask: Ask, deaths: int, detail: str) -> StageFailed:
    return StageFailed(
        Problem(
            code="FDF420",
            message=f"the process of `{ask.operator_id}`'s model died {deaths} times on the same {ask.rows} rows "
            f"(last: {detail})",
            help="run again with `--runner serial` to see where; what was committed is safe",
        )
    )
