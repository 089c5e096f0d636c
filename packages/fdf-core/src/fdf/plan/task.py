"""What a runner runs: frozen, picklable tasks that carry everything a worker needs.

A task names its inputs and the stage that they belong to; the stage itself travels as bytes with a digest, so that a
worker unpickles it and sets its operators up once, however many tasks it runs.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import cloudpickle

from fdf.fingerprint import sha256_hex
from fdf.operator import Resources

if TYPE_CHECKING:
    from fdf.plan.job import StageJob
    from fdf.sources.base import Slice

TaskKind = Literal["split", "segment", "bucket", "group"]


@dataclass(frozen=True, kw_only=True)
class StageRef:
    """A stage as workers get it: its pickled `StageJob` and the digest that names it."""

    name: str
    digest: str
    payload: bytes = field(repr=False)

    @classmethod
    def of(cls, job: StageJob) -> StageRef:
        """Pickle a job by value, so that operators defined in a notebook or a script reach the workers too."""
        payload = by_value(job)
        return cls(name=job.stage, digest=sha256_hex(payload), payload=payload)

    def load(self) -> StageJob:
        """Return the job."""
        job: Any = cloudpickle.loads(self.payload)
        return job  # type: ignore[no-any-return]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Keeps `dataclasses.MISSING` the one object that it is. Copied, it makes every parameter of a class that travels
    by value look as if it had a default; and loading such a class changes the original in this process too."""

    def reducer_override(self, obj: Any) -> Any:
        return "MISSING" if obj is dataclasses.MISSING else super().reducer_override(obj)


def by_value(thing: object) -> bytes:
    """Return a thing pickled so that it can be loaded where the user's own modules are not."""
    with io.BytesIO() as file:
        _Pickler(file).dump(thing)
        return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class SplitKey:
    """What names a shard (`location`: 32 hex digits) and what decides whether it must be made again (`version`)."""

    location: str
    version: str

    @classmethod
    def of(cls, source: str, location: str, version: str) -> SplitKey:
        """Hash a split's location within a named source, and its version."""
        return cls(location=sha256_hex(f"{source}\0{location}")[:32], version=sha256_hex(version)[:16])

    @property
    def receipt_name(self) -> str:
        """Return the file name of the split's receipt."""
        return f"{self.location}-{self.version}.json"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of one slice that a split of a mixture delivers."""

    leaf: int
    epoch: int
    piece: Slice
    positions: bytes = field(repr=False)
    """Where the rows stand in the file, int64 each, in the order of their delivery."""
    sizes: bytes = field(repr=False)
    """What each was planned to weigh, int64 each."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """A range of a mixture's schedule: rows of several sources, and in which order they come."""

    start: int
    """The number of its first row in the schedule."""
    rows: int
    parts: tuple[Part, ...]
    """By leaf, and within a leaf in the order of their delivery."""
    order: bytes = field(repr=False)
    """The leaf of each row, uint16 each. Empty: the rows are left out of the mixture."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One unit of work that commits one receipt. `limit` caps the rows that are read (`fdf run --limit`)."""

    key: SplitKey
    kind: TaskKind = "split"
    stage: StageRef
    inputs: tuple[Slice, ...]
    resources: Resources = field(default_factory=Resources)
    after: tuple[str, ...] = ()
    position: str = ""
    limit: int | None = None
    mixed: Range | None = None

    @property
    def name(self) -> str:
        """Return what messages call this task: its first input's location, or its rows of a mixture."""
        if self.mixed is not None:
            return f"rows {self.mixed.start} to {self.mixed.start + self.mixed.rows - 1} of the mixture"
        first = self.inputs[0].location if self.inputs else self.key.location[:12]
        return first if len(self.inputs) <= 1 else f"{first} and {len(self.inputs) - 1} more"
