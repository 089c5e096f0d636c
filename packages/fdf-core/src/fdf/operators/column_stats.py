"""Tell what the columns of a dataset hold, and stop a run whose data is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fdf.columnstats import MAX_COLUMNS, STATISTICS, ColumnsState
from fdf.errors import PlanError, Problem
from fdf.operator import Evaluator
from fdf.schema import is_internal


@dataclass(frozen=True, kw_only=True)
class ColumnStats(Evaluator):
    """Report per column the null rate, the number of different values, and min, max and mean, for `require:` gates.

    ``require: ["null_rate.text <= 0.01", "distinct.url >= 1000"]``. Null rate, min, max and mean are exact; `distinct`
    is an estimate (HyperLogLog, standard error 1.6 % for up to 13 columns, more beyond), without nulls. min, max and
    mean are of the finite numbers (a boolean counts as 0 or 1); `nan_rate` says how many are NaN. Times have min and
    max as text. Lists and structs have a null rate only. `columns: null` stands for all, at most 40.

    >>> stats = ColumnStats(columns=("text",))
    >>> report = stats.report(stats.state(pa.record_batch({"text": ["a", "b", "a", None]})))
    >>> report["rows"], report["null_rate"], report["distinct"]
    (4, {'text': 0.25}, {'text': 2})
    """

    columns: tuple[str, ...] | None = None
    """The columns to tell of; null: all."""

    version = "1.0.0"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the columns to tell of. Raises PlanError for more than 40: the state must stay small."""
        names = self.columns or tuple(n for n in schema.names if not is_internal(n))
        if len(names) > MAX_COLUMNS:
            raise PlanError(
                Problem(
                    code="FDF226",
                    message=f"ColumnStats tells of {MAX_COLUMNS} columns at most, and there are {len(names)}",
                    help="name those that matter: params: { columns: [...] }, or use it several times",
                )
            )
        return names

    def metrics(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return `rows`, and each statistic of each column; some may have no value on the data at hand."""
        return ("rows", *(f"{statistic}.{name}" for statistic in STATISTICS for name in self.reads(schema)))

    def state(self, batch: pa.RecordBatch) -> bytes:
        """Return what these rows contribute, 64 KiB at most."""
        columns = {name: batch.column(name) for name in self.reads(batch.schema)}
        return ColumnsState.of(columns, rows=batch.num_rows).to_bytes()

    def merge(self, a: bytes, b: bytes) -> bytes:
        """Fold two contributions."""
        return ColumnsState.from_bytes(a).merge(ColumnsState.from_bytes(b)).to_bytes()

    def report(self, state: bytes) -> dict[str, Any]:
        """Return {rows, null_rate, nan_rate, distinct, min, max, mean}, the last six by column."""
        return ColumnsState.from_bytes(state).report()
