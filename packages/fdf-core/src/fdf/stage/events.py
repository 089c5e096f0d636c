"""What happens during a run, as a stream of small records: for progress, `--json`, hooks and tests.

An event says what happened, never what is true: truth is in receipts and manifests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fdf.errors import Cancelled

EventKind = Literal[
    "run_started",
    "stage_started",
    "split_started",
    "split_progress",
    "split_committed",
    "split_skipped",
    "split_retried",
    "split_stalled",
    "stage_committed",
    "stage_failed",
    "run_finished",
    "warning",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened. `split` is the location of the task's key; `data` holds JSON values by kind."""

    kind: EventKind
    stage: str | None = None
    split: str | None = None
    time: float = field(default_factory=time.time)
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the event as one flat JSON object."""
        return {"event": self.kind, "stage": self.stage, "split": self.split, "time": self.time, **self.data}


Emit: TypeAlias = Callable[[Event], None]


class CancelToken:
    """Asks a run to stop: set once, from any thread or signal handler; looked at between batches."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask everything that holds this token to stop."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Say whether a stop was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but wake up when a stop is asked for; say whether it was."""
        return self._event.wait(seconds)

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` if a stop was asked for."""
        if self.cancelled:
            raise Cancelled("the run was interrupted; what was committed is safe")
