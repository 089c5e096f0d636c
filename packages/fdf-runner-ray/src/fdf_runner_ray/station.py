"""What all actors of a run have in common: they say where they are, and the driver asks them for news."""

from __future__ import annotations

import os
import queue
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import ray

import fdf
from fdf.errors import FdfError
from fdf.stage.events import Event
from fdf_runner_ray.capacity import Node, nodes
from fdf_runner_ray.scaling import Load

MARK_PATIENCE = 5.0
PATIENCE = 10.0
"""How long a question for news waits for some."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all actors of a run are made with."""

    device: str
    stall_after: float
    memory_per_worker: int | None
    """None: a host's share of its node."""
    cpus: float
    workers: int | None
    environment: Mapping[str, str]
    """The driver's own settings of FDF."""
    mark: str | None
    """A file that the driver has made where the stage commits, if that is a local path."""
    elsewhere: tuple[str, ...] = ()
    """The operators whose models other actors hold."""
    in_turn: bool = False
    """Whether these take turns on their devices."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """Where an actor is, and whether it can work with the driver."""

    node: str
    node_id: str
    pid: int
    version: str
    sees_mark: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """The models are loaded, or will be in turn."""


@dataclass(frozen=True, slots=True)
class Wants:
    """There is room for another task."""


@dataclass(frozen=True, slots=True)
class Done:
    """The task of this split is committed."""

    split: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something raised an error that FDF knows, or the traceback of one that it does not."""

    error: FdfError | str


@dataclass(frozen=True, slots=True)
class Ended:
    """The process beside the actor has ended, its operators torn down. Nothing comes after this."""


News: TypeAlias = Event | Ready | Wants | Done | Load | Failed | Ended


class Station:
    """The base of actors. Their methods are called at the same time: one waits for news while another brings a task."""

    def __init__(self, settings: Settings) -> None:
        os.environ.update(settings.environment)
        self._settings = settings
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()

    def introduce(self) -> Introduction:
        """Say where this is."""
        return Introduction(
            node=socket.gethostname(),
            node_id=ray.get_runtime_context().get_node_id(),
            pid=os.getpid(),
            version=fdf.__version__,
            sees_mark=sees(self._settings.mark),
        )

    def news(self) -> list[News]:
        """Return what has happened since the last call, in order; wait a while for something to happen."""
        try:
            told = [self._news.get(timeout=PATIENCE)]
        except queue.Empty:
            return []
        while not self._news.empty():
            told.append(self._news.get())
        return told


def sees(mark: str | None) -> bool:
    """Say whether a file is there. A shared folder may need a moment to show it."""
    deadline = time.monotonic() + MARK_PATIENCE
    while mark is not None and not Path(mark).exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def this_node() -> Node | None:
    """Return the node that this process is on, as the cluster knows it."""
    here = ray.get_runtime_context().get_node_id()
    return next((node for node in nodes() if node.id == here), None)
