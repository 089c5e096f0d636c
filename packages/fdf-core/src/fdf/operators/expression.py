"""Keep rows by a condition written in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from fdf.operator import Filter
from fdf.predicate import Predicate
from fdf.schema import is_scalar_score
from fdf.verdict import Rule, Verdict


@dataclass(frozen=True, kw_only=True)
class ExpressionFilter(Filter):
    """Keep rows for which a condition in Polars SQL is true: ``keep: "n_words > 10 and lang in ('en', 'de')"``.

    The condition looks at one row at a time; aggregates, windows, subqueries and functions of time or chance are
    errors. Where it is null (unknown) the row is dropped with the reason `null`, or kept with `nulls: keep`.

    >>> batch = pa.record_batch({"lang": ["en", "fr", None]})
    >>> ExpressionFilter(keep="lang in ('en', 'de')").verdict(batch).codes.tolist()
    [0, 2, 1]
    """

    keep: str
    """The condition, in Polars SQL."""
    nulls: Literal["drop", "keep"] = "drop"
    """What happens to a row for which the condition is null."""

    version = "1.0.0"
    depends = ("polars",)
    reasons = ("null", "not_met")

    def __post_init__(self) -> None:
        """Refuse a condition that is not one of single rows."""
        Predicate.compile(self.keep)

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the columns that the condition names."""
        return Predicate(self.keep).columns_in(schema)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return no columns. Raises PlanError where the condition does not fit the columns' types."""
        Predicate(self.keep).check(schema)
        return {}

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Drop the rows for which the condition is not true."""
        truth = Predicate(self.keep).truth(batch)
        told = {"keep": self.keep}
        evidence = self._evidence(batch)
        return Verdict.first(
            null=Rule(pc.is_null(truth), evidence, told) if self.nulls == "drop" else None,
            not_met=Rule(pc.invert(truth), evidence, told),
        )

    def _evidence(self, batch: pa.RecordBatch) -> pa.Array | None:
        # One number says why a row went; a whole text would only repeat it.
        columns = [c for c in Predicate(self.keep).columns if c in batch.schema.names]
        if len(columns) == 1 and is_scalar_score(batch.schema.field(columns[0]).type):
            return batch.column(columns[0])
        return None
