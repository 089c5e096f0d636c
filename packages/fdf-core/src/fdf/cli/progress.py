"""Progress of a run, built from its events alone: one live block on a terminal, plain lines elsewhere.

`RunProgress` adds events up and knows nothing of screens; the two faces show it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from fdf.cli.screen import clock, console, number, percent, say, size

if TYPE_CHECKING:
    from rich.table import Table

    from fdf.stage.events import Event

PLAIN_EVERY = 30.0


@dataclass(kw_only=True)
class StageProgress:
    """What is known of one stage so far. Skipped splits count as done, but not towards the speed."""

    name: str
    started: float
    expected_rows: int | None = None
    expected_bytes: int | None = None
    committed: int = 0
    skipped: int = 0
    retried: int = 0
    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0
    skipped_rows: int = 0
    running: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Rows and bytes read so far of the splits at work."""
    finished: float | None = None
    failed: bool = False
    counts: dict[str, int] | None = None
    """What the manifest says, once there is one."""

    @property
    def done(self) -> int:
        """Splits that have their receipt."""
        return self.committed + self.skipped

    @property
    def seen(self) -> int:
        """Splits that were drawn so far."""
        return self.done + len(self.running)

    @property
    def safe_rows(self) -> int:
        """Input rows whose split has its receipt."""
        return self.rows_in + self.skipped_rows

    def seconds(self, now: float) -> float:
        """How long the stage has been at work."""
        return max(1e-6, (self.finished or now) - self.started)

    def rows_per_second(self, now: float) -> float:
        """Input rows per second, those of splits at work included."""
        return (self.rows_in + sum(r for r, _ in self.running.values())) / self.seconds(now)

    def bytes_per_second(self, now: float) -> float:
        """Input bytes per second, of committed splits."""
        return self.bytes_in / self.seconds(now)

    def left(self, now: float) -> float | None:
        """Return how many seconds are left at the speed so far, where the whole is known."""
        if self.finished is not None or not self.committed:
            return None
        if self.expected_rows is not None:
            done, whole = self.safe_rows + sum(r for r, _ in self.running.values()), self.expected_rows
            own = done - self.skipped_rows
        elif self.expected_bytes is not None and not self.skipped:
            done, whole = self.bytes_in, self.expected_bytes
            own = done
        else:
            return None
        return self.seconds(now) * max(0, whole - done) / own if own else None


class RunProgress:
    """Adds up the events of one run. `input_bytes` is the size of all input files, where that is known."""

    def __init__(self, *, input_bytes: int | None = None) -> None:
        self.run_id: str | None = None
        self.planned: list[str] = []
        self.stages: dict[str, StageProgress] = {}
        self._input_bytes = input_bytes
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        """Take one event in."""
        with self._lock:
            handler = getattr(self, f"_{event.kind}", None)
            if handler is not None:
                handler(event)

    @property
    def current(self) -> StageProgress | None:
        """The stage that was started last."""
        return next(reversed(self.stages.values()), None)

    def snapshot(self) -> list[StageProgress]:
        """Return the stages so far, in order."""
        with self._lock:
            return list(self.stages.values())

    def _run_started(self, event: Event) -> None:
        self.run_id, self.planned = event.data["run_id"], list(event.data["stages"])

    def _stage_started(self, event: Event) -> None:
        before = self.current
        stage = StageProgress(name=str(event.stage), started=event.time)
        if before is None:
            stage.expected_bytes = self._input_bytes
        elif before.counts is not None:
            stage.expected_rows = before.counts["rows_out"]
        self.stages[stage.name] = stage

    def _split_started(self, event: Event) -> None:
        self._stage(event).running[str(event.split)] = (0, 0)

    def _split_progress(self, event: Event) -> None:
        self._stage(event).running[str(event.split)] = (event.data["rows"], event.data["bytes"])

    def _split_retried(self, event: Event) -> None:
        self._stage(event).retried += 1

    def _split_committed(self, event: Event) -> None:
        stage = self._stage(event)
        stage.running.pop(str(event.split), None)
        stage.committed += 1
        stage.rows_in += event.data["rows_in"]
        stage.rows_out += event.data["rows_out"]
        stage.bytes_in += event.data["bytes_in"]

    def _split_skipped(self, event: Event) -> None:
        stage = self._stage(event)
        stage.skipped += 1
        stage.skipped_rows += event.data["rows_in"]

    def _stage_committed(self, event: Event) -> None:
        stage = self._stage(event)
        stage.finished, stage.counts = event.time, event.data["counts"]
        stage.running.clear()

    def _stage_failed(self, event: Event) -> None:
        stage = self._stage(event)
        stage.finished, stage.failed = event.time, True
        stage.running.clear()

    def _stage(self, event: Event) -> StageProgress:
        name = str(event.stage)
        return self.stages.setdefault(name, StageProgress(name=name, started=event.time))


class Face(Protocol):
    """Shows a run while it goes on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def take(self, event: Event) -> None:
        """Show what an event changed."""


def face(progress: RunProgress) -> Face:
    """Return the live block where stderr is a terminal, else plain lines."""
    return LiveBlock(progress) if sys.stderr.isatty() else PlainLines(progress)


class LiveBlock:
    """One block at the bottom of the terminal, redrawn in place; what else is said scrolls above it."""

    def __init__(self, progress: RunProgress) -> None:
        from rich.live import Live

        self._progress = progress
        screen = console(err=True)
        self._live: AbstractContextManager[Any] = Live(
            console=screen, get_renderable=self._draw, refresh_per_second=4, redirect_stdout=False
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def take(self, event: Event) -> None:
        """Say at once what a person should know of; the block redraws itself."""
        self._progress.take(event)
        trouble = trouble_line(event)
        if trouble:
            say(trouble)

    def _draw(self) -> Table:
        from rich.table import Table

        now = time.time()
        table = Table.grid(padding=(0, 2))
        for right in (False, True, True, True, True, True, False):
            table.add_column(justify="right" if right else "left", no_wrap=True)
        for stage in self._progress.snapshot():
            left = stage.left(now)
            table.add_row(
                stage.name,
                _splits(stage),
                f"{stage.rows_per_second(now):,.0f} rows/s",
                f"{size(stage.bytes_per_second(now))}/s",
                f"kept {percent(stage.rows_out, stage.rows_in)}",
                clock(stage.seconds(now)),
                _state(stage, left),
            )
        return table


class PlainLines:
    """A line when a stage starts and ends, and one per 30 s between: for logs and pipes."""

    def __init__(
        self, progress: RunProgress, *, every: float = PLAIN_EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress = progress
        self._every = every
        self._clock = clock
        self._last = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left on the screen."""

    def take(self, event: Event) -> None:
        """Write a line where the event begins or ends something, or where the last line is long ago."""
        self._progress.take(event)
        stage = self._progress.current
        trouble = trouble_line(event)
        if trouble:
            say(trouble)
        elif event.kind == "run_started":
            say(f"run {self._progress.run_id}: stages {', '.join(self._progress.planned)}")
        elif event.kind == "stage_started":
            say(f"{event.stage}: started")
            self._last = self._clock()
        elif stage is not None and event.kind == "stage_committed":
            say(f"{stage.name}: committed. {_summary(stage, event.time)}")
        elif stage is not None and self._clock() - self._last >= self._every:
            self._last = self._clock()
            left = stage.left(event.time)
            rest = f", about {clock(left)} left" if left is not None else ""
            say(f"{stage.name}: {_summary(stage, event.time)}{rest}")


def trouble_line(event: Event) -> str | None:
    """Return what a person should know of at once: a retry, a stall, a warning."""
    data = event.data
    if event.kind == "split_retried":
        return f"warning: {event.stage}: split {data['name']} is tried again: {data.get('cause', '')}".rstrip(": ")
    if event.kind == "split_stalled":
        return f"warning: {event.stage}: split {data['name']} has made no progress for {data['seconds']:.0f} s"
    if event.kind == "warning":
        return f"warning: {data.get('message', '')}"
    return None


def _splits(stage: StageProgress) -> str:
    whole = stage.done if stage.finished and not stage.failed else stage.seen
    return f"{number(stage.done)}/{number(whole)} splits"


def _state(stage: StageProgress, left: float | None) -> str:
    if stage.failed:
        return "stopped"
    if stage.finished:
        return "committed"
    return f"about {clock(left)} left" if left is not None else ""


def _summary(stage: StageProgress, now: float) -> str:
    parts = [_splits(stage)]
    if stage.skipped:
        parts.append(f"{number(stage.skipped)} of them done before")
    if stage.rows_in:
        parts += [
            f"{number(stage.rows_in)} rows in",
            f"kept {percent(stage.rows_out, stage.rows_in)}",
            f"{stage.rows_per_second(now):,.0f} rows/s",
            f"{size(stage.bytes_per_second(now))}/s",
        ]
    return ", ".join([*parts, f"{stage.seconds(now):.1f} s"])
