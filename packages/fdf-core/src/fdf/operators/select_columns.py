"""Keep or remove whole columns."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fdf.errors import PlanError, Problem, did_you_mean
from fdf.operator import Columns, Refiner
from fdf.schema import is_internal


@dataclass(frozen=True, kw_only=True)
class SelectColumns(Refiner):
    """Keep only `columns`, or remove those in `drop`; give one of the two. FDF's own columns stay.

    A name in `columns` that rows do not have is an error; one in `drop` is already gone.

    >>> batch = pa.record_batch({"text": ["a"], "html": ["<a>"]})
    >>> SelectColumns(columns=("text",)).refine(batch)
    {'html': None}
    """

    columns: tuple[str, ...] | None = None
    """The columns to keep; null: `drop` decides."""
    drop: tuple[str, ...] | None = None
    """The columns to remove; null: `columns` decides."""

    version = "1.0.0"

    def __post_init__(self) -> None:
        """Refuse both lists, or neither."""
        if (self.columns is None) == (self.drop is None):
            raise ValueError("SelectColumns takes `columns` (to keep) or `drop` (to remove): give one of them")

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return no columns: values are not looked at."""
        return ()

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the removed columns. Raises PlanError for a column to keep that is not there."""
        for name in self.columns or ():
            if name not in schema.names:
                raise PlanError(
                    Problem(
                        code="FDF310",
                        message=f"SelectColumns is to keep the column `{name}`, which rows do not have there",
                        hint=did_you_mean(name, schema.names),
                        help="the columns are: " + ", ".join(schema.names),
                    )
                )
        return dict.fromkeys(self._removed(schema.names))

    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Remove what is not to be kept."""
        return dict.fromkeys(self._removed(batch.schema.names))

    def _removed(self, names: list[str]) -> list[str]:
        if self.columns is not None:
            return [n for n in names if n not in self.columns and not is_internal(n)]
        return [n for n in names if n in (self.drop or ()) and not is_internal(n)]
