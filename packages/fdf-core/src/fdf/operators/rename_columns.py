"""Give columns other names."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf.operator import Columns, Refiner


@dataclass(frozen=True, kw_only=True)
class RenameColumns(Refiner):
    """Rename columns, `new: old`; values stay as they are. Two columns may swap their names.

    >>> batch = pa.record_batch({"caption": ["a cat"]})
    >>> sorted(RenameColumns(columns={"text": "caption"}).refine(batch))
    ['caption', 'text']
    """

    columns: dict[str, str]
    """New name: old name."""

    version = "1.0.0"

    def __post_init__(self) -> None:
        """Refuse an empty list and one column under two new names."""
        if not self.columns:
            raise ValueError("RenameColumns has nothing to rename: give `columns: { new: old }`")
        old = list(self.columns.values())
        if twice := [name for name in old if old.count(name) > 1]:
            raise ValueError(f"RenameColumns gives the column `{twice[0]}` two new names: give it one")

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the columns under their old names."""
        return tuple(self.columns.values())

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the new names, and the old ones as removed. Raises PlanError where a new name is taken."""
        gone = self._gone()
        for new, old in self.columns.items():
            if new in schema.names and new not in self.columns.values():
                raise PlanError(
                    Problem(
                        code="FDF311",
                        message=f"RenameColumns renames `{old}` to `{new}`, but a column `{new}` is there already",
                        help=f"remove it first (SelectColumns with `drop: [{new}]`) or choose another name",
                    )
                )
        return {new: schema.field(old).type for new, old in self.columns.items()} | gone

    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Return the columns under their new names."""
        return {new: batch.column(old) for new, old in self.columns.items()} | self._gone()

    def _gone(self) -> dict[str, None]:
        return {old: None for old in self.columns.values() if old not in self.columns}
