"""The actors of a run as the driver sees them: what is awaited from each, and what it has in hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import ray

from fdf.plan.task import Task
from fdf.stage.blame import Attempt
from fdf.stage.events import Event
from fdf_runner_ray.relay import Address, Table
from fdf_runner_ray.scaling import Load
from fdf_runner_ray.station import Introduction


@dataclass(eq=False)
class Contact:
    """An actor, from its start to its end."""

    actor: Any
    awaited: Any
    """The introduction at first, then news after news."""
    introduction: Introduction | None = None
    stopping: bool = False

    @property
    def refs(self) -> list[Any]:
        """Return what is awaited."""
        return [self.awaited]

    def stop(self) -> None:
        """Ask it to end in order."""
        if not self.stopping:
            self.stopping = True
            self.actor.stop.remote()

    def dismiss(self) -> None:
        """End it at once."""
        ray.kill(self.actor)


@dataclass(eq=False)
class HostContact(Contact):
    """A host, which works on one split at a time, or on several where models go in turn."""

    given: list[Any] = field(default_factory=list)
    """Whether the host could take its tasks: it may not know what one is made of."""
    tasks: dict[str, Task] = field(default_factory=dict)
    """By the location of their splits, in the order in which they were given."""
    begun: set[str] = field(default_factory=set)
    """Which of them it has said it began."""
    wants: bool = False
    """Whether it has said that there is room for another."""
    stages: set[str] = field(default_factory=set)
    tables: int = 0
    """How many it was told of where models are."""

    @property
    def refs(self) -> list[Any]:
        """Return what is awaited."""
        return [self.awaited, *self.given]

    @property
    def open(self) -> bool:
        """Say whether it can take a task."""
        return self.wants and not self.stopping

    def give(self, task: Task, attempt: Attempt, payload: Any) -> None:
        """Hand a task over; the bytes of its stage, which lie in the object store, go along the first time."""
        digest = task.stage.digest
        bare = replace(task, stage=replace(task.stage, payload=b""))
        self.given.append(self.actor.give.remote(bare, attempt, None if digest in self.stages else payload))
        self.stages.add(digest)
        self.tasks[task.key.location] = task
        self.wants = False

    def finished(self, split: str) -> None:
        """Note that a task is committed."""
        self.tasks.pop(split, None)
        self.begun.discard(split)

    def know(self, table: Table) -> None:
        """Tell it where models are."""
        self.tables += 1
        self.actor.know.remote(table, self.tables)

    def cancel(self) -> None:
        """Ask it to give its task up, and to end."""
        self.stopping = True
        self.actor.cancel.remote()


@dataclass(eq=False)
class ModelContact(Contact):
    """An actor that holds models."""

    node_id: str | None = None
    """Where it was asked to be; None: where Ray finds room."""
    ready: bool = False
    """Whether its models are loaded; whoever asked before would wait for that."""
    load: Load | None = None
    """The newest that it told, until it was looked at."""

    @property
    def address(self) -> Address | None:
        """Return where it is asked; None where it is not ready, or about to go."""
        if self.introduction is None or not self.ready or self.stopping:
            return None
        return Address(self.actor, self.introduction.node_id)


def located(event: Event, contact: Contact) -> Event:
    """Return an event that says on which node it happened."""
    node = contact.introduction.node if contact.introduction else None
    return replace(event, data={**event.data, "node": node})
