"""Leave rows as they are."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fdf.operator import Columns, Refiner


@dataclass(frozen=True, kw_only=True)
class PassthroughRefiner(Refiner):
    """Leave every row as it is: the smallest operator, for trying out a pipeline and measuring what it costs itself.

    >>> PassthroughRefiner().refine(pa.record_batch({"text": ["a"]}))
    {}
    """

    version = "1.0.0"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return no columns."""
        return ()

    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Return nothing to replace."""
        return {}
