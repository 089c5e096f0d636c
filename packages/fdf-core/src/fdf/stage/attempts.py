"""Calls an operator on rows so that a failure costs only the rows that cause it.

An exception on a batch is bisected until the failing rows are alone. A lack of memory halves the batch, and later ones
are as small from the start. A transient fault is retried with back-off and never blamed on a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from fdf.errors import FdfError, Problem, StageFailed, TransientError
from fdf.models.batching import BatchSize
from fdf.models.memory import is_out_of_memory
from fdf.stage.ahead import Ahead, ModelDied
from fdf.stage.blame import Attempt, Crumb
from fdf.stage.rows import Rows
from fdf.storage.retry import gave_up

if TYPE_CHECKING:
    from fdf.recipe.model import RowsPerBatch

T = TypeVar("T")
TRANSIENT_TRIES = 5
FIRST_PAUSE = 0.1


@dataclass(frozen=True)
class Success(Generic[T]):
    """A run of rows that the operator took, with what it returned."""

    rows: Rows
    result: T


@dataclass(frozen=True)
class Failure:
    """One row that the operator cannot take."""

    rows: Rows
    error: str


class Caller:
    """Calls operators for one split, under one attempt's instructions.

    `sizes` are how many rows those operators get whose `batch_size` is `auto`. `fits` remembers from split to split,
    by operator, how many rows there was memory for. Calls of operators whose model is `elsewhere` overlap, as far as
    `ahead` lets them.
    """

    def __init__(
        self,
        attempt: Attempt,
        at: Callable[[Crumb], None] | None,
        *,
        sizes: Mapping[str, BatchSize] | None = None,
        fits: dict[str, int] | None = None,
        ahead: Ahead | None = None,
        elsewhere: Collection[str] = (),
    ) -> None:
        self._attempt = attempt
        self._at = at if attempt.careful else None
        self._condemned: dict[str, dict[int, str]] = {}
        self._sizes = sizes or {}
        self._ahead = ahead
        self._elsewhere = elsewhere
        self._fits = {} if fits is None else fits
        for row in attempt.condemned:
            self._condemned.setdefault(row.operator_id, {})[row.ordinal] = row.error

    def call(
        self, operator_id: str, rows: Rows, verb: Callable[[Rows], T], *, batch_size: RowsPerBatch | None = None
    ) -> Generator[Success[T] | Failure, None, None]:
        """Yield the outcome of every row (there is one at least), in order, in as few pieces as possible."""
        pieces = self._pieces(operator_id, rows, batch_size)
        if self._ahead is None or self._ahead.calls == 1 or operator_id not in self._elsewhere:
            for piece in pieces:
                yield from self._outcomes(operator_id, piece, verb)
            return

        def all_of(piece: Rows) -> list[Success[T] | Failure]:
            return list(self._outcomes(operator_id, piece, verb))

        most, room = self._ahead.calls, self._ahead.room
        calls = self._ahead.baton.within(all_of, pieces, most=most, room=room, size=lambda r: r.data.nbytes)
        with closing(calls):
            for outcomes in calls:
                yield from outcomes

    def _outcomes(self, operator_id: str, piece: Rows, verb: Callable[[Rows], T]) -> Iterator[Success[T] | Failure]:
        condemned = self._condemned.get(operator_id)
        if condemned and piece.count and int(piece.ordinals[0]) in condemned:
            for i in range(piece.count):
                yield Failure(piece.slice(i, i + 1), condemned[int(piece.ordinals[0])])
            return
        yield from self._bisect(operator_id, piece, verb)

    def leave(self) -> None:
        """Say that no operator is at work: what kills the worker from here on is not a row's fault."""
        if self._at is not None:
            self._at(Crumb(operator_id="", start=0, stop=0))

    def _pieces(self, operator_id: str, rows: Rows, batch_size: RowsPerBatch | None) -> Iterator[Rows]:
        if batch_size == "auto":
            size = self._sizes.get(operator_id)
            batch_size = size.rows if size is not None else None
            if size is not None and not self._condemned and not self._attempt.suspects:
                start = 0
                while start < rows.count:
                    stop = min(start + size.rows, rows.count)
                    yield rows.slice(start, stop)
                    start = stop
                return
        if batch_size is None and not self._condemned and not self._attempt.suspects:
            yield rows
            return
        cuts = set(range(0, rows.count, batch_size)) if batch_size else {0}
        cuts.add(rows.count)
        for ordinal in self._condemned.get(operator_id, ()):
            cuts.update(self._index(rows, ordinal, ordinal + 1))
        for suspect in self._attempt.suspects:
            if suspect.operator_id == operator_id:
                middle = (suspect.start + suspect.stop) // 2
                cuts.update(self._index(rows, suspect.start, middle, suspect.stop))
        edges = sorted(cuts)
        for start, stop in pairwise(edges):
            yield rows.slice(start, stop)

    @staticmethod
    def _index(rows: Rows, *ordinals: int) -> list[int]:
        return [int(i) for i in np.searchsorted(rows.ordinals, ordinals)]

    def _bisect(self, operator_id: str, rows: Rows, verb: Callable[[Rows], T]) -> Iterator[Success[T] | Failure]:
        fits = max(1, self._fits.get(operator_id, rows.count))
        if rows.count > fits:
            for start in range(0, rows.count, fits):
                yield from self._bisect(operator_id, rows.slice(start, min(start + fits, rows.count)), verb)
            return
        told = None
        try:
            result = self._once(operator_id, rows, verb)
        except FdfError:
            raise
        except ModelDied as death:
            told = f"killed its worker twice: {death}"
        except Exception as error:  # noqa: BLE001 (an operator may raise anything; the row is what is judged)
            told = f"{type(error).__name__}: {error}"
            if is_out_of_memory(error) and rows.count > 1:
                self._ran_out(operator_id, rows.count)
        # Out here the exception is gone, and with it what its frames held: the halves need that memory.
        if told is None:
            yield Success(rows, result)
        elif rows.count == 1:
            yield Failure(rows, told)
        else:
            middle = rows.count // 2
            yield from self._bisect(operator_id, rows.slice(0, middle), verb)
            yield from self._bisect(operator_id, rows.slice(middle, rows.count), verb)

    def _ran_out(self, operator_id: str, rows: int) -> None:
        self._fits[operator_id] = min(rows // 2, self._fits.get(operator_id, rows))
        if operator_id in self._sizes:
            self._sizes[operator_id].ran_out(rows)

    def _once(self, operator_id: str, rows: Rows, verb: Callable[[Rows], T]) -> T:
        pause = FIRST_PAUSE
        for remaining in reversed(range(TRANSIENT_TRIES)):
            if self._at is not None:
                self._at(
                    Crumb(
                        operator_id=operator_id,
                        start=int(rows.ordinals[0]),
                        stop=int(rows.ordinals[-1]) + 1,
                    )
                )
            try:
                try:
                    return verb(rows)
                except ModelDied:
                    if rows.count > 1:
                        raise
                # A row is to blame only where it did so twice while alone.
                return verb(rows)
            except TransientError as error:
                if not remaining or gave_up(error):
                    raise StageFailed(
                        Problem(
                            code="FDF422",
                            message=f"`{operator_id}` failed {TRANSIENT_TRIES - remaining} times with a transient "
                            f"fault: {error}",
                            help="run again when the cause is gone; what was committed is safe",
                        )
                    ) from error
                time.sleep(pause)
                pause *= 2
        raise AssertionError("unreachable")
