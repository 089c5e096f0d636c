"""Requests that wait for a model: first come, first served, or one model after the other where they go in turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

import pyarrow as pa

from fdf_runner_local.parcels import Ask, Line

LEAST_PATIENCE = 0.05
MOST_PATIENCE = 10.0


@dataclass(frozen=True)
class Request:
    """Rows that wait for a model, and the line on which to answer."""

    ask: Ask
    batch: pa.RecordBatch
    line: Line


class Requests:
    """What waits in a model's process. What it holds is bounded by those who ask (`fdf_runner_local.asking`).

    In turn, the model at hand is asked as long as something waits for it. Then the process waits for more no longer
    than a change of models takes, so that waiting at most doubles what changing costs, and goes to the model for which
    most rows wait.
    """

    def __init__(self, *, in_turn: bool) -> None:
        self._in_turn = in_turn
        self._waiting: dict[str, deque[Request]] = {}
        self._order: deque[str] = deque()
        self._changed = threading.Condition()
        self._at_hand: str | None = None
        self._closed = False
        self._answering = 0
        self._idle_since = 0.0
        self._patience = LEAST_PATIENCE

    def put(self, request: Request) -> None:
        """Add a request."""
        with self._changed:
            self._waiting.setdefault(request.ask.operator_id, deque()).append(request)
            self._order.append(request.ask.operator_id)
            self._changed.notify()

    def close(self) -> None:
        """Let `take` return None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def empty(self) -> bool:
        """Say whether nothing waits."""
        with self._changed:
            return not any(self._waiting.values())

    def take(self) -> Request | None:
        """Return the next request, waiting for one; None when closed."""
        with self._changed:
            while not self._closed:
                name = self._next()
                if name is not None:
                    self._at_hand = name
                    self._answering += 1
                    self._order.remove(name)
                    return self._waiting[name].popleft()
                self._changed.wait(self._patience if any(self._waiting.values()) else None)
            return None

    def answered(self) -> None:
        """Note that one of the requests that were taken is answered."""
        with self._changed:
            self._answering -= 1
            self._idle_since = time.monotonic()
            self._changed.notify()

    def changed_in(self, seconds: float) -> None:
        """Note how long it took to change models."""
        self._patience = min(MOST_PATIENCE, max(LEAST_PATIENCE, seconds))

    def _next(self) -> str | None:
        if not any(self._waiting.values()):
            return None
        if not self._in_turn:
            return self._order[0]
        if self._at_hand is not None:
            if self._waiting.get(self._at_hand):
                return self._at_hand
            if self._answering or time.monotonic() - self._idle_since < self._patience:
                return None
        return max(self._waiting, key=lambda name: sum(r.ask.rows for r in self._waiting[name]))
