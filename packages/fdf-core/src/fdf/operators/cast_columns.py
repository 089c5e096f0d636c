"""Change the types of columns."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import PlanError, Problem
from fdf.operator import Columns, Refiner
from fdf.typename import parse_type


@dataclass(frozen=True, kw_only=True)
class CastColumns(Refiner):
    """Change columns to other types: ``types: { year: int32, score: float32 }``. A null stays null.

    Only what loses nothing is cast: a value that does not fit (text that is no number, a number out of range, 1.5 as an
    integer) raises, so that its row is quarantined or becomes null, as `on_error` says.

    >>> CastColumns(types={"year": "int32"}).refine(pa.record_batch({"year": ["1999", None]}))["year"].to_pylist()
    [1999, None]
    """

    types: dict[str, str]
    """Column: name of its new type, such as int32, float32, string or list<string>."""

    version = "1.0.0"

    def __post_init__(self) -> None:
        """Refuse names that are no types."""
        if not self.types:
            raise ValueError("CastColumns has nothing to cast: give `types: { column: type }`")
        for name in self.types.values():
            parse_type(name)

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the columns to cast."""
        return tuple(self.types)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the columns with their new types. Raises PlanError where no value at all could be cast."""
        for name, wanted in self.types.items():
            kind = schema.field(name).type
            try:
                pc.cast(pa.array([], kind), parse_type(wanted))
            except pa.ArrowNotImplementedError as error:
                raise PlanError(
                    Problem(
                        code="FDF225",
                        message=f"CastColumns cannot turn the column `{name}` from {kind} into {wanted}",
                        help=f"leave `{name}` out of `types`, or write a function operator that says how",
                    )
                ) from error
        return {name: parse_type(wanted) for name, wanted in self.types.items()}

    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Return the columns in their new types. Raises where a value does not fit."""
        return {name: pc.cast(batch.column(name), parse_type(wanted)) for name, wanted in self.types.items()}
