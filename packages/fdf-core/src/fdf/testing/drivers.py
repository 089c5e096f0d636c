"""Drivers in processes of their own, for tests that kill them. They start in milliseconds: each is forked from a
process that has imported everything and run nothing.

What a driver was at when it died is told by the events that it wrote down.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import psutil

MARK = "FDF_TEST_DRIVER"
"""An environment variable that a driver's workers inherit, so that they are found after their driver is gone."""
PATIENCE = 90.0

_PRELOADED = (
    "fdf.testing.drivers",
    "fdf.recipe",
    "fdf.runner.run",
    "fdf_runner_local",
    "fdf_ops_text",
    "polars",
    "pyarrow.parquet",
    "pytest",  # The main module of the tests is imported in each child.
    "s3fs",
)


class Driver:
    """`fdf.run(recipe, **options)` in a process of its own, started at once. `folder` takes what it writes down;
    `bounds` sets constants of FDF there (`module.NAME`), so that small data has many splits."""

    def __init__(
        self,
        recipe: Mapping[str, Any],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        bounds: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(8)
        self.token = token
        self.events = folder / f"{token}.events"
        self._errors = folder / f"{token}.errors"
        given = {**os.environ, **(env or {}), MARK: token}
        self.started = time.time()
        self._process = _forge().Process(
            target=_drive,
            args=(dict(recipe), options, given, str(self.events), str(self._errors)),
            kwargs={"bounds": dict(bounds or {})},
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """The driver's process id."""
        assert self._process.pid is not None
        return self._process.pid

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Return its exit code, or minus the signal's number, when it has ended; None if that takes longer."""
        self._process.join(max(0.0, seconds))
        return self._process.exitcode

    def kill_after(self, seconds: float) -> bool:
        """Kill it with SIGKILL this long after its start; False where it has ended by then."""
        if self.wait(self.started + seconds - time.time()) is None:
            with suppress(ProcessLookupError):  # It has ended, and this process is about to be told.
                os.kill(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait_for(self, kind: str) -> float:
        """Return, when the first event of a kind has come or the driver has ended, how long that took."""
        while not any(event == kind for _, _, event in self.told()) and self.wait(0.005) is None:
            pass
        return time.time() - self.started

    def told(self) -> list[tuple[float, str, str]]:
        """Return its events so far: how long after its start, of which stage, and of what kind."""
        if not self.events.exists():
            return []
        lines = (line.split() for line in self.events.read_text().splitlines())
        return [(float(at) - self.started, stage, kind) for at, stage, kind in lines]

    def last_event(self) -> str:
        """Say where it was: the stage and the kind of the last event."""
        told = self.told()
        return " ".join(told[-1][1:]) if told else "its start"

    @property
    def begun(self) -> float:
        """How long after its start the first split began."""
        return next(at for at, _, kind in self.told() if kind == "split_started")

    @property
    def seconds(self) -> float:
        """How long after its start the run was finished."""
        return self.told()[-1][0]

    def workers(self) -> list[int]:
        """Return the processes that it started, itself or through others, whether it still lives or not."""
        return [p.pid for p in _marked(self.token) if p.pid != self.pid]

    def wait_for_workers(self, seconds: float = 20.0) -> None:
        """Return when no process that it started is left."""
        deadline = time.monotonic() + seconds
        while self.workers():
            assert time.monotonic() < deadline, f"workers outlive their driver: {self.workers()}"
            time.sleep(0.02)

    def errors(self) -> str:
        """Return what it wrote to stderr."""
        return self._errors.read_text() if self._errors.exists() else ""


@functools.cache
def _forge() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


def _drive(
    recipe: dict[str, Any],
    options: dict[str, Any],
    env: dict[str, str],
    events: str,
    errors: str,
    *,
    bounds: dict[str, int],
) -> None:
    """Run a recipe, note its events, and end with the exit code that the command line would give."""
    import fdf
    from fdf.errors import FdfError

    os.environ.clear()
    os.environ.update(env)
    for name, value in bounds.items():
        module, _, constant = name.rpartition(".")
        setattr(import_module(module), constant, value)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
    noted = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def on_event(event: fdf.Event) -> None:
        os.write(noted, f"{time.time()} {event.stage or 'run'} {event.kind}\n".encode())

    try:
        fdf.run(recipe, on_event=on_event, **options)
    except FdfError as error:
        print(json.dumps([vars(p) for p in error.problems], default=str), file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


def _marked(token: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == token and process.status() != psutil.STATUS_ZOMBIE:
                yield process
