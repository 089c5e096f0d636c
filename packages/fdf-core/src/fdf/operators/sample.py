"""Keep a share of the rows, the same ones every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import PlanError, Problem
from fdf.operator import Filter
from fdf.rowhash import is_hashable, row_hashes
from fdf.schema import ID
from fdf.verdict import Rule, Verdict


@dataclass(frozen=True, kw_only=True)
class SampleFilter(Filter):
    """Keep the share `rate` of the rows, chosen by a hash of the row's id, or of the value of `field`.

    A row's fate depends on its id (or value), `seed` and `rate` alone: not on order, batches or other rows. A larger
    rate keeps a superset. With `field`, rows of one value stay or go together, and a null is dropped with the reason
    `null`, or kept with `nulls: keep`.

    >>> batch = pa.record_batch({"group": ["a", "b", "c", "a"]})
    >>> codes = SampleFilter(rate=0.5, field="group").verdict(batch).codes
    >>> bool(codes[0] == codes[3])
    True
    """

    rate: float
    """The share of rows to keep, from 0 to 1."""
    field: str | None = None
    """The column whose value decides; null: the row's id."""
    seed: int = 0
    """Another seed is another sample."""
    nulls: Literal["drop", "keep"] = "drop"
    """What happens to a null in `field`."""

    version = "1.0.0"
    reasons = ("null", "not_sampled")

    def __post_init__(self) -> None:
        """Refuse a rate that is no share, and a seed that the hash cannot take."""
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is the share of rows to keep, from 0 to 1, not {self.rate}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed is a whole number from 0 to 2**63 - 1, not {self.seed}")

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the row's id, or `field`."""
        return (self.field or ID,)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return no columns. Raises PlanError for a `field` that is a list or a struct."""
        if self.field in schema.names and not is_hashable(schema.field(self.field).type):
            raise PlanError(
                Problem(
                    code="FDF225",
                    message=f"SampleFilter cannot hash column `{self.field}` ({schema.field(self.field).type})",
                    help="choose a column of text, bytes, numbers or times, or leave `field` out to use the row's id",
                )
            )
        return {}

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Drop the rows whose hash lies above the rate."""
        column = batch.column(self.field or ID)
        missing = pc.is_null(column).to_numpy(zero_copy_only=False)
        return Verdict.first(
            null=Rule(missing, bounds={"field": self.field}) if self.nulls == "drop" else None,
            not_sampled=Rule(self._outside(column) & ~missing, bounds={"rate": self.rate, "seed": self.seed}),
        )

    def _outside(self, column: pa.Array) -> npt.NDArray[np.bool_]:
        if self.rate == 1:
            return np.zeros(len(column), dtype=bool)
        return row_hashes(column, key=self.seed) >= np.uint64(int(self.rate * 2**64))
