"""What a corpus hands to training: lots, the documents of one consumer in the order of their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from fdf.training.striping import Integers, Law, Share

Cursor = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One reading of all documents: the first of them has the place `began`."""

    epoch: int = 0
    began: int = 0
    cursor: Cursor | None = None
    """From where inside the pass a schedule can be drawn on; None: from its beginning."""

    @property
    def reached(self) -> int:
        """The place from which it is drawn on."""
        return self.began + (int(self.cursor["first"]) if self.cursor else 0)


@dataclass(frozen=True)
class Lot:
    """Documents of one consumer. All places below `end` are in this lot, in one before, or not this consumer's."""

    rows: pa.RecordBatch
    places: Integers
    end: int
    within: Pass


class Corpus(Protocol):
    """Where documents come from, in a fixed order. It can be pickled; whoever reads opens files anew."""

    @property
    def plan_hash(self) -> str:
        """Name the documents and their order: equal where both are."""

    @property
    def where(self) -> str:
        """Say in messages what this is."""

    @property
    def documents(self) -> int | None:
        """Return how many there are; None where that is not known before they are drawn."""

    def lots(self, within: Pass, share: Share, law: Law) -> Iterator[Lot]:
        """Yield the consumer's documents from `share.start` on to the end of the pass. The last lot's `end` is that of
        the pass."""

    def locate(self, within: Pass, place: int, law: Law) -> Pass:
        """Return the pass that holds a place, with the latest cursor that does not pass it. Reads no document."""
