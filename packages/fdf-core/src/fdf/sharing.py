"""Lets operators share what they found out about a column, within one batch.

Two filters that need the words of `text` ask for them under the same key; the second gets what the first one made.
A filter between them that drops rows costs nothing either: the engine tells which rows stayed, and the analysis is
narrowed to them instead of being made again. A column that was rewritten is another column.

Outside a running stage nothing is kept: `shared` then simply makes what is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Identity: TypeAlias = tuple[Any, ...]
Booleans: TypeAlias = npt.NDArray[np.bool_]


class Analysis(Protocol):
    """What can be shared: something known about each row of a column."""

    def take(self, rows: npt.NDArray[np.int64]) -> Analysis:
        """Return what is known of these rows, in this order."""


A = TypeVar("A", bound=Analysis)


@dataclass
class _Column:
    """One column of the batch on its way: what is known of it, and which rows of which earlier column it holds."""

    held: pa.Array
    known: dict[Hashable, Analysis] = field(default_factory=dict)
    parent: _Column | None = None
    keep: Booleans | range = range(0)
    """Which rows of the parent these are."""

    def find(self, key: Hashable) -> Analysis | None:
        if key not in self.known and self.parent is not None:
            before = self.parent.find(key)
            if before is not None:
                self.known[key] = before.take(self._rows())
        return self.known.get(key)

    def origin(self) -> _Column:
        return self if self.parent is None else self.parent.origin()

    def _rows(self) -> npt.NDArray[np.int64]:
        if isinstance(self.keep, range):
            return np.arange(self.keep.start, self.keep.stop)
        return np.flatnonzero(self.keep)


_columns: ContextVar[dict[Identity, _Column] | None] = ContextVar("shared columns", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Keep what is shared until the end of the block: the way of one batch through a chain of operators."""
    token = _columns.set({})
    try:
        yield
    finally:
        _columns.reset(token)


def shared(column: pa.Array, key: Hashable, make: Callable[[], A]) -> A:
    """Return the analysis of this column under this key; `make` it where no operator did so before.

    The key says all that the analysis depends on beside the column: its kind, version and parameters.
    """
    columns = _columns.get()
    if columns is None:
        return make()
    entry = columns.setdefault(_identity(column), _Column(column))
    found = entry.find(key)
    if found is None:
        found = entry.known[key] = make()
    return cast("A", found)


def shared_by_row(column: pa.Array, key: Hashable, make: Callable[[pa.Array], A]) -> A:
    """Return the analysis of this column under this key, one that finds out about a row when it is asked for it.

    It is made of the column that this one was cut from, so that operators which cut a batch in pieces of different
    sizes ask the same one.
    """
    columns = _columns.get()
    if columns is None:
        return make(column)
    entry = columns.setdefault(_identity(column), _Column(column))
    found = entry.find(key)
    if found is None:
        origin = entry.origin()
        origin.known[key] = make(origin.held)
        found = entry.find(key)
    return cast("A", found)


def known(column: pa.Array, key: Hashable) -> Analysis | None:
    """Return the analysis of this column under this key if an operator before has made it."""
    entry = (_columns.get() or {}).get(_identity(column))
    return entry.find(key) if entry is not None else None


def follow(before: pa.RecordBatch, after: pa.RecordBatch, keep: Booleans, *, unasked: bool = False) -> None:
    """Note that `after` holds the rows of `before` for which `keep` is true.

    Columns that nobody has asked about are passed by, since noting them keeps both alive until the batch has passed;
    with `unasked` they are noted too, for those who will ask about a row when they come to it.
    """
    columns = _columns.get()
    if columns is None:
        return
    for index in range(before.num_columns):
        whole = before.column(index)
        entry = columns.get(_identity(whole))
        if entry is None and unasked:
            entry = columns[_identity(whole)] = _Column(whole)
        if entry is not None:
            child = after.column(index)
            columns[_identity(child)] = _Column(child, parent=entry, keep=keep)


def follow_piece(before: pa.RecordBatch, after: pa.RecordBatch, start: int, stop: int) -> None:
    """Note that `after` holds rows `start` to `stop` of `before`, in the same buffers."""
    columns = _columns.get()
    if columns is None or len(after) == len(before):
        return
    for index in range(before.num_columns):
        whole, piece = before.column(index), after.column(index)
        entry = columns.setdefault(_identity(whole), _Column(whole))
        # An empty piece of an empty column may look like another one.
        columns.setdefault(_identity(piece), _Column(piece, parent=entry, keep=range(start, stop)))


def _identity(column: pa.Array) -> Identity:
    # Buffers are never written to, so the same place in the same buffers is the same column. An entry holds its
    # column, which keeps the addresses from being used again.
    return (*(b.address if b is not None else 0 for b in column.buffers()), column.offset, len(column))
