"""Carries a worker's requests to the actors that hold models, through Ray's object store, and their answers back.

The worker beside a host speaks to a socket, as it does on one machine; here that socket is the host's. A request's rows
are copied into the object store of this node once; the actor fetches them when it has room, and their bytes never pass
through the driver. What is asked of an actor that is lost is asked of another.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
import uuid
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from fdf.errors import FdfError, Problem, StageFailed
from fdf.stage.blame import MAX_PLAIN_DEATHS
from fdf_runner_local.asking import GROUP, IN_FLIGHT, Desks, Room
from fdf_runner_local.parcels import Answer, Ask, Hello, Line, Refusal, Shared, accepted

BACKLOG = 16
AGAIN = 5.0
"""Seconds after which an actor that could not be reached is asked again, where there is no other."""


@dataclass(frozen=True)
class Address:
    """An actor that holds models, and the node that it is on."""

    actor: Any
    node_id: str

    @property
    def key(self) -> bytes:
        """Return what tells it from others, in any process."""
        key: bytes = self.actor._actor_id.binary()  # noqa: SLF001 (a handle has no public identity)
        return key


Table: TypeAlias = Mapping[str, Sequence[Address]]
"""For each operator the actors that hold its model."""


class Relay:
    """The socket of one host, and what is on its way from it."""

    def __init__(self, operator_ids: Sequence[str], *, in_turn: bool, store: int, node: str | None) -> None:
        folder = tempfile.mkdtemp(prefix="fdf-", dir="/tmp" if Path("/tmp").is_dir() else None)  # noqa: S108
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder, "models")
        self.desks = Desks(paths=dict.fromkeys(operator_ids, (path,)), in_turn=in_turn, together=in_turn)
        self._name = uuid.uuid4().hex
        self._node = node
        most = GROUP if in_turn else IN_FLIGHT
        self._room = Room(min(most, store) if store else most)
        self._table: dict[str, tuple[Address, ...]] = {}
        self._known = 0
        self._lost: set[bytes] = set()
        self._asked: dict[bytes, int] = {}
        self._changed = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(BACKLOG)
        threading.Thread(target=self._accept, name="fdf-relay", daemon=True).start()

    def know(self, table: Table, number: int) -> None:
        """Take note of where models are from now on, unless a table of a higher number was there first."""
        with self._changed:
            if number < self._known:
                return
            self._known = number
            self._table = {operator_id: tuple(addresses) for operator_id, addresses in table.items()}
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more requests."""
        self._listener.close()
        self._remove()

    def _accept(self) -> None:
        while (sock := accepted(self._listener)) is not None:
            threading.Thread(target=self._read, args=(Line(sock),), daemon=True).start()

    def _read(self, line: Line) -> None:
        with suppress(OSError):
            line.send(Hello(()))
            while (found := line.receive_unread()) is not None:
                ask, memory = found
                if isinstance(ask, Ask) and memory is not None:
                    self._room.take(memory.size)
                    threading.Thread(target=self._carry, args=(ask, memory, line), daemon=True).start()
                del found, memory
        # Where it could not be read on, the worker connects again and asks again.
        line.close()

    def _carry(self, ask: Ask, memory: pa.Buffer, line: Line) -> None:
        size = memory.size
        shared: Shared | None = None
        try:
            try:
                said, told = self._asked_of_one(ask, memory)
                shared = Shared.copy_of(told) if told is not None else None
            except (OSError, RayError) as error:  # A full disk, say; whoever asked must hear of it.
                said = Refusal(ask.number, _no_place(ask, error))
            with suppress(OSError):  # A worker that is gone waits for nothing.
                line.send(said, shared)
        finally:
            if shared is not None:
                shared.close()
            self._room.give(size)

    def _asked_of_one(self, ask: Ask, memory: pa.Buffer) -> tuple[Answer | Refusal, pa.Buffer | None]:
        """Ask one actor after the other until one has answered."""
        rows = ray.put(np.frombuffer(memory, dtype=np.uint8))
        deaths = 0
        while True:
            address = self._choose(ask.operator_id)
            try:
                # In a list: the actor fetches the rows when it has room, not Ray when it has a thread.
                named = replace(ask, number=f"{self._name}.{ask.number}.{deaths}")
                said, told = ray.get(address.actor.infer.remote(named, [rows], memory.size))
            except RayError as error:  # The actor, its node, or the rows or the answer on their way.
                if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
                    return Refusal(ask.number, _bug(ask, error)), None
                deaths += 1
                if deaths > MAX_PLAIN_DEATHS:
                    return Refusal(ask.number, _lost_too_often(ask, deaths, error)), None
                if isinstance(error, RayActorError):
                    self._leave(address)
            else:
                return replace(said, number=ask.number), None if told is None else pa.py_buffer(told)
            finally:
                self._returned(address)

    def _choose(self, operator_id: str) -> Address:
        """Wait for an actor to ask; of several, choose the one that this host has asked least, here if it can be."""
        with self._changed:
            while True:
                there = [a for a in self._table.get(operator_id, ()) if a.key not in self._lost]
                if there:
                    chosen = min(there, key=lambda a: (self._asked.get(a.key, 0), a.node_id != self._node))
                    self._asked[chosen.key] = self._asked.get(chosen.key, 0) + 1
                    return chosen
                if not self._changed.wait(AGAIN):
                    self._lost.clear()  # The driver still counts on them: it was the way there, perhaps.

    def _returned(self, address: Address) -> None:
        with self._changed:
            self._asked[address.key] -= 1

    def _leave(self, address: Address) -> None:
        """Ask an actor nothing more, though the driver may not know yet that it is lost."""
        with self._changed:
            self._lost.add(address.key)


def _bug(ask: Ask, error: RayTaskError) -> FdfError:
    return FdfError(
        Problem(
            code="FDF901",
            message=f"an actor of the model of `{ask.operator_id}` failed: {error}",
            help="this is a bug in FDF; what was committed is safe",
        )
    )


def _no_place(ask: Ask, error: Exception) -> StageFailed:
    return StageFailed(
        f"there is no place on node {socket.gethostname()} for {ask.rows} rows on their way to the model of "
        f"`{ask.operator_id}` or back: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        help="see to its object store, its disks and its limit of open files; what was committed is safe",
    )


def _lost_too_often(ask: Ask, deaths: int, error: RayError) -> StageFailed:
    return StageFailed(
        Problem(
            code="FDF420",
            message=f"{deaths} actors of the model of `{ask.operator_id}` were lost at the same {ask.rows} rows "
            f"(last: {str(error).splitlines()[0]})",
            help="look at the cluster's nodes; what was committed is safe",
        )
    )
