"""Mixes row groups instead of documents: their sizes stand in footers, so that nothing is measured ahead.

The schedule decides over blocks, and is handed on row by row: the rows of a block stay together.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf.mixture.documents import Documents
from fdf.mixture.scheduler import Mixed, Scheduler, Sizes
from fdf.mixture.sizes import Measure
from fdf.sources.base import Source


def check_blocks(source: Source, measure: Measure, schema: pa.Schema, *, name: str) -> None:
    """Raise PlanError where a dataset's files do not say how large their blocks are."""
    column = measure.columns[0] if measure.columns else ""
    if not source.has_blocks:
        why = f"a `{source.type}` source has no row groups, only parquet has"
    elif measure.method == "tokenizer":
        why = "a tokenizer would have to read the rows"
    elif measure.method == "tokens column" and pa.types.is_integer(schema.field(column).type):
        why = f"footers do not say what the numbers in `{column}` add up to"
    else:
        return
    raise PlanError(
        Problem(
            code="FDF349",
            message=f"`{name}` cannot be mixed by `granularity: block`: {why}",
            about="granularity",
            help="leave `granularity` out: documents are then measured ahead of the schedule",
        )
    )


class Blocks:
    """The feed of a scheduler over blocks: each part that `documents` hands out is one."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.sizes: dict[int, deque[Sizes]] = {}
        """What the rows of each block weigh that was handed out, by leaf."""

    def take(self, leaf: int, epoch: int) -> Sizes | None:
        """Return the size of the next block of a leaf."""
        sizes = self._documents.take(leaf, epoch)
        if sizes is None:
            return None
        self.sizes.setdefault(leaf, deque()).append(sizes)
        return np.array([sizes.sum()], dtype=np.int64)


@dataclass
class RowsOfBlocks:
    """A scheduler over blocks, whose decisions are drawn row by row."""

    scheduler: Scheduler
    blocks: Blocks
    _held: deque[tuple[int, Sizes]] = field(default_factory=deque)

    def draw(self, most: int) -> Mixed:
        """Return the leaves of up to `most` rows, and what they weigh; fewer only where the mixture ends."""
        leaves: list[int] = []
        sizes: list[Sizes] = [np.empty(0, dtype=np.int64)]
        count = 0
        while count < most and (self._held or self._decide()):
            leaf, rows = self._held.popleft()
            if len(rows) > most - count:
                self._held.appendleft((leaf, rows[most - count :]))
                rows = rows[: most - count]
            leaves.append(leaf)
            sizes.append(rows)
            count += len(rows)
        repeated = np.repeat(np.array(leaves, dtype=np.uint16), [len(s) for s in sizes[1:]])
        return Mixed(repeated, np.concatenate(sizes))

    def _decide(self) -> bool:
        mixed = self.scheduler.draw(1)
        self._held += [(int(leaf), self.blocks.sizes[int(leaf)].popleft()) for leaf in mixed.leaves]
        return bool(len(mixed))
