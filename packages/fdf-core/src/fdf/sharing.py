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
    keep: Booleans | None = None

    def find(self, key: Hashable) -> Analysis | None:
        if key not in self.known and self.parent is not None and self.keep is not None:
            before = self.parent.find(key)
            if before is not None:
                self.known[key] = before.take(np.flatnonzero(self.keep))
        return self.known.get(key)


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


def known(column: pa.Array, key: Hashable) -> Analysis | None:
    """Return the analysis of this column under this key if an operator before has made it."""
    entry = (_columns.get() or {}).get(_identity(column))
    return entry.find(key) if entry is not None else None


def follow(before: pa.RecordBatch, after: pa.RecordBatch, keep: Booleans) -> None:
    """Note that `after` holds the rows of `before` for which `keep` is true."""
    columns = _columns.get()
    if not columns:
        return
    for index in range(before.num_columns):
        entry = columns.get(_identity(before.column(index)))
        if entry is not None:
            child = after.column(index)
            columns[_identity(child)] = _Column(child, parent=entry, keep=keep)


def _identity(column: pa.Array) -> Identity:
    # Buffers are never written to, so the same place in the same buffers is the same column. An entry holds its
    # column, which keeps the addresses from being used again.
    return (*(b.address if b is not None else 0 for b in column.buffers()), column.offset, len(column))
