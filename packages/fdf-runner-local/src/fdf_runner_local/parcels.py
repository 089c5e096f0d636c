"""Record batches between two processes: a small message over a socket, and the rows in memory that both can see.

The memory is a file without a name (`memfd` on Linux, elsewhere an unlinked one), whose descriptor goes along with the
message: it is gone with the last process that holds it, however that ends, and needs no room in /dev/shm.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import pyarrow as pa

from fdf.stage.blame import DeathCause

AGAIN = 0.02
HEAD = struct.Struct("!QQ")
"""How many bytes the message has, and the memory that comes with it (0: none)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """To a model: infer these rows."""

    number: str
    operator_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class Answer:
    """From a model: what it said, and after how many seconds."""

    number: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """From a model: what `infer` raised."""

    number: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Obituary:
    """Of a model's process that died: why, and which request it was at."""

    number: str
    cause: DeathCause
    detail: str


@dataclass(frozen=True, slots=True)
class Hello:
    """From a model's process that has just begun: how those before it died."""

    obituaries: tuple[Obituary, ...]


class Raised(Exception):
    """What `infer` raised in a model's process: the name of its class, and its words."""

    def as_raised(self) -> Exception:
        """Return an error of a class of that name, so that messages are as if it had been raised here."""
        name, words = self.args
        made: Exception = type(name, (RuntimeError,), {})(words)
        return made


Message: TypeAlias = Ask | Answer | Refusal | Hello


class Shared:
    """Memory that holds one record batch. Close it when it has been sent and is not to be sent again."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        counted = pa.MockOutputStream()
        _write(counted, batch)
        self._fill(counted.size(), lambda sink: _write(sink, batch))

    @classmethod
    def copy_of(cls, memory: pa.Buffer) -> Self:
        """Return a copy of memory that another machine has sent, whatever it holds."""
        made = cls.__new__(cls)
        made._fill(memory.size, lambda sink: sink.write(memory))  # noqa: SLF001 (its own class)
        return made

    def _fill(self, size: int, write: Callable[[pa.NativeFile], object]) -> None:
        self.size = size
        self.descriptor = _nameless()
        try:
            os.ftruncate(self.descriptor, size)
            write(pa.FixedSizeBufferWriter(pa.py_buffer(mmap.mmap(self.descriptor, size))))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the descriptor back; whoever has received the memory keeps it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


class Line:
    """One end of a connection between a worker and a model's process. Sent to by several threads, read by one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()

    def send(self, message: Message, shared: Shared | None = None) -> None:
        """Send a message and, with it, memory. Raises OSError where the other end is gone."""
        body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        head = HEAD.pack(len(body), shared.size if shared is not None else 0)
        with self._sending:
            # The descriptor goes with the first byte; a head this small is never sent in part.
            if shared is not None:
                socket.send_fds(self._sock, [head], [shared.descriptor])
            else:
                self._sock.sendall(head)
            self._sock.sendall(body)

    def receive(self) -> tuple[Message, pa.RecordBatch | None] | None:
        """Return the next message and its rows, which stay where they are; None when the other end is gone."""
        found = self.receive_unread()
        if found is None:
            return None
        message, memory = found
        return message, rows_in(memory) if memory is not None else None

    def receive_unread(self) -> tuple[Message, pa.Buffer | None] | None:
        """Return the next message and the memory that came with it; None when the other end is gone."""
        descriptors: list[int] = []
        try:
            head = b""
            while len(head) < HEAD.size:
                data, found, _, _ = socket.recv_fds(self._sock, HEAD.size - len(head), 1)
                descriptors += found
                if not data:
                    return None
                head += data
            length, size = HEAD.unpack(head)
            body = self._exactly(length)
            if body is None:
                return None
            if size and not descriptors:
                return None  # The system had none left, and has dropped it: all is asked again on another line.
            message: Any = pickle.loads(body)  # noqa: S301 (from our own process, over a socket in our own folder)
            return message, _mapped(descriptors[0], size) if size else None
        except OSError:
            return None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """Close the connection; whoever waits in `receive` returns."""
        with suppress(OSError):  # The other end was first.
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _exactly(self, size: int) -> bytes | None:
        body = bytearray()
        while len(body) < size:
            data = self._sock.recv(size - len(body))
            if not data:
                return None
            body += data
        return bytes(body)


def accepted(listener: socket.socket) -> socket.socket | None:
    """Wait for a connection; None when the listener is closed. Where no descriptor is left it waits for that too."""
    while True:
        try:
            return listener.accept()[0]
        except OSError:
            if listener.fileno() < 0:
                return None
            time.sleep(AGAIN)


def _write(sink: Any, batch: pa.RecordBatch) -> None:
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def rows_in(memory: pa.Buffer) -> pa.RecordBatch:
    """Return the rows that memory holds; they stay there."""
    return pa.ipc.open_stream(memory).read_next_batch()


def _mapped(descriptor: int, size: int) -> pa.Buffer:
    # The mapping lives as long as the last array that looks into it. Python's own keeps a descriptor as long, and of
    # those a process has few where many requests wait.
    path = Path(f"/proc/self/fd/{descriptor}")
    if path.exists():
        with pa.memory_map(str(path)) as file:
            return file.read_buffer()
    return pa.py_buffer(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fdf", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix="fdf-") as file:
        return os.dup(file.fileno())
