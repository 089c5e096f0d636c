"""What the driver and its workers say to each other: small pickled messages, each preceded by its length.

Both ends belong to one run of one program and share a private socket pair, so pickle is safe here. Rows never cross.
"""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from fdf.errors import FdfError
from fdf.plan.task import StageRef, Task
from fdf.stage.blame import Attempt, Crumb
from fdf.stage.events import Event

if TYPE_CHECKING:
    from fdf_runner_local.asking import Desks
    from fdf_runner_local.packing import Slot
    from fdf_runner_local.parcels import Obituary

LENGTH = struct.Struct("!Q")
CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Run:
    """To a worker: run this task. `task.stage.payload` is empty when the worker has had that stage before."""

    task: Task
    attempt: Attempt
    desks: Desks | None = None
    """Where the stage's models are asked; None: the worker runs them itself."""


@dataclass(frozen=True, slots=True)
class Serve:
    """To a worker: hold these models until you are told to stop, and answer whoever connects to `path`."""

    stage: StageRef
    slot: Slot
    path: Path
    threads: int
    obituaries: tuple[Obituary, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """To a worker: stop between two batches."""


@dataclass(frozen=True, slots=True)
class WhereAreYou:
    """To a worker: say which line of Python is running."""


@dataclass(frozen=True, slots=True)
class Stop:
    """To a worker: tear the operators down and end."""


@dataclass(frozen=True, slots=True)
class Happened:
    """From a worker: pass this event on."""

    event: Event


@dataclass(frozen=True, slots=True)
class At:
    """From a careful worker: it is about to call an operator on these rows."""

    crumb: Crumb


@dataclass(frozen=True, slots=True)
class Turns:
    """From a worker with several splits in hand: it is about to work on this one."""

    split: str


@dataclass(frozen=True, slots=True)
class Wants:
    """From a worker with so many splits in hand: there is room for another beside them."""

    beside: int


@dataclass(frozen=True, slots=True)
class Infers:
    """From a model's process: it is about to run these rows. Without a number: it waits for more."""

    number: str
    operator_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """From a worker: the answer to `WhereAreYou`."""

    place: str


@dataclass(frozen=True, slots=True)
class Finished:
    """From a worker: the task is committed. Without a `split`: the only one that it had in hand."""

    split: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker: the task raised an error that FDF knows."""

    error: FdfError


@dataclass(frozen=True, slots=True)
class Crashed:
    """From a worker: the task raised anything else, which is a bug."""

    summary: str
    traceback: str


Order: TypeAlias = Run | Serve | Cancel | WhereAreYou | Stop
Report: TypeAlias = Happened | At | Turns | Wants | Infers | Whereabouts | Finished | Failed | Crashed


def pack(message: Order | Report) -> bytes:
    """Return a message as it goes over the wire."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


class WorkerEnd:
    """A worker's end of the socket: blocking, read by one thread, written by several.

    `lost` is called where the driver turns out to be gone.
    """

    def __init__(self, sock: socket.socket, *, lost: Callable[[], NoReturn]) -> None:
        self._sock = sock
        self._lost = lost
        self._reader = sock.makefile("rb", buffering=CHUNK)
        self._writing = threading.Lock()

    def send(self, report: Report) -> None:
        """Hand a report to the system; from then on it reaches the driver even if this process dies at once."""
        data = pack(report)
        try:
            with self._writing:
                self._sock.sendall(data)
        except OSError:
            self._lost()

    def orders(self) -> Iterator[Order]:
        """Yield what the driver says until it is gone."""
        while body := self._next():
            order: Order = pickle.loads(body)  # noqa: S301 (from our own driver over a private socket pair)
            yield order

    def _next(self) -> bytes | None:
        try:
            head = self._reader.read(LENGTH.size)
            if len(head) < LENGTH.size:
                return None
            (size,) = LENGTH.unpack(head)
            body = self._reader.read(size)
        except OSError:
            return None
        return body if len(body) == size else None


class DriverEnd:
    """The driver's end of the socket: never waits, so that one stuck worker holds up none of the others."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._unsent = bytearray()
        self._received = bytearray()
        self.open = True

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._sock.fileno()

    @property
    def unsent(self) -> bool:
        """Say whether something waits until the worker reads again."""
        return self.open and bool(self._unsent)

    def send(self, order: Order) -> None:
        """Queue an order, and hand over as much as the socket takes now."""
        self._unsent += pack(order)
        self.flush()

    def flush(self) -> None:
        """Hand over as much as the socket takes now."""
        while self.unsent:
            try:
                sent = self._sock.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()  # The worker is gone; reading will say so, after its last words.
                return
            del self._unsent[:sent]

    def reports(self) -> Iterator[Report]:
        """Yield every report that has arrived whole; `open` turns false when the worker's end is closed."""
        while self.open:
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.open = False
            self._received += data
            if len(data) < CHUNK:
                break
        yield from self._whole()

    def _whole(self) -> Iterator[Report]:
        start = 0
        try:
            while len(self._received) - start >= LENGTH.size:
                (size,) = LENGTH.unpack_from(self._received, start)
                stop = start + LENGTH.size + size
                if len(self._received) < stop:
                    return
                body = bytes(memoryview(self._received)[start + LENGTH.size : stop])
                start = stop
                yield _load(body)
        finally:
            del self._received[:start]

    def close(self) -> None:
        """Close the socket: a worker that still lives ends at once."""
        self.open = False
        self._sock.close()


def _load(body: bytes) -> Report:
    report: Any = pickle.loads(body)  # noqa: S301 (from our own worker over a private socket pair)
    return report  # type: ignore[no-any-return]
