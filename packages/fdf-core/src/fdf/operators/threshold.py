"""Keep rows by comparing one column with constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import PlanError, Problem
from fdf.operator import Filter
from fdf.verdict import Rule, Verdict

Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class ThresholdFilter(Filter):
    """Keep rows whose `field` meets every bound that is given: gt, ge, lt, le, eq, in.

    One bound at least is needed. `eq` and `in` also take text and booleans. A null is dropped with the reason `null`,
    or kept with `nulls: keep`; NaN meets no bound, so it is dropped, with the reason of the first bound given.

    >>> import pyarrow as pa
    >>> batch = pa.record_batch({"quality": [0.2, 0.8, None]})
    >>> ThresholdFilter(field="quality", ge=0.6).verdict(batch).codes.tolist()
    [2, 0, 1]
    """

    field: str
    """The column to compare."""
    gt: int | float | None = None
    """Keep values greater than this; null: no such bound."""
    ge: int | float | None = None
    """Keep values of this or more; null: no such bound."""
    lt: int | float | None = None
    """Keep values less than this; null: no such bound."""
    le: int | float | None = None
    """Keep values of this or less; null: no such bound."""
    eq: Value | None = None
    """Keep this value only; null: any."""
    in_: tuple[Value, ...] | None = None
    """Keep these values only; null: any."""
    nulls: Literal["drop", "keep"] = "drop"
    """What happens to a null."""

    version = "1.0.0"
    reasons = ("null", "below_min", "above_max", "not_equal", "not_in")

    def __post_init__(self) -> None:
        """Refuse bounds that say nothing, or the same thing twice."""
        bounds = (self.gt, self.ge, self.lt, self.le, self.eq, self.in_)
        if all(bound is None for bound in bounds):
            raise ValueError("ThresholdFilter needs one bound at least: gt, ge, lt, le, eq or in")
        for one, other in (("gt", "ge"), ("lt", "le")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"ThresholdFilter takes `{one}` or `{other}`, not both")
        if not all(math.isfinite(b) for b in bounds if isinstance(b, float)):
            raise ValueError("a bound of ThresholdFilter is infinite or no number: leave it out")
        if self.in_ is not None and not self.in_:
            raise ValueError("`in` of ThresholdFilter is empty: it would drop every row; give it one value at least")

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return no columns. Raises PlanError where the column's type cannot be compared with a bound."""
        if self.field in schema.names:
            kind = schema.field(self.field).type
            try:
                self._rules(pa.array([], kind))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
                bounds = ", ".join(f"{k} {v}" for k, v in self.params().items() if k in _BOUNDS and v is not None)
                raise PlanError(
                    Problem(
                        code="FDF225",
                        message=f"ThresholdFilter cannot compare column `{self.field}` ({kind}) with {bounds}",
                        help="give a value of the column's type, or change the column with CastColumns first",
                    )
                ) from error
        return {}

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Drop the rows that break a bound, each for the first one that it breaks."""
        return Verdict.first(**self._rules(batch.column(self.field)))

    def _rules(self, column: pa.Array) -> dict[str, Rule | None]:
        values = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        return {
            "null": Rule(pc.is_null(values), values) if self.nulls == "drop" else None,
            "below_min": _unless(values, "gt", self.gt) or _unless(values, "ge", self.ge),
            "above_max": _unless(values, "lt", self.lt) or _unless(values, "le", self.le),
            "not_equal": _unless(values, "eq", self.eq),
            "not_in": self._not_in(values),
        }

    def _not_in(self, values: pa.Array) -> Rule | None:
        if self.in_ is None:
            return None
        wanted = pa.array(self.in_)
        found = pc.is_in(values, value_set=wanted if pa.types.is_null(values.type) else wanted.cast(values.type))
        # `is_in` calls a null absent; it is judged by `nulls` alone.
        return Rule(pc.and_(pc.is_valid(values), pc.invert(found)), values, {"in": list(self.in_)})


_BOUNDS = ("gt", "ge", "lt", "le", "eq", "in")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "gt": pc.greater,
    "ge": pc.greater_equal,
    "lt": pc.less,
    "le": pc.less_equal,
    "eq": pc.equal,
}


def _unless(values: pa.Array, name: str, bound: Value | None) -> Rule | None:
    """Break where the comparison does not hold, so that NaN, for which none holds, is dropped."""
    if bound is None:
        return None
    number = isinstance(bound, (int, float)) and not isinstance(bound, bool)
    if number and pa.types.is_integer(values.type):
        holds = _compare_integers(values, name, float(bound) if isinstance(bound, float) else int(bound))
    elif number and pa.types.is_floating(values.type):
        # A float32 score of 0.7 should meet `ge: 0.7`, although as a double it is a little less.
        holds = _COMPARE[name](values, pa.scalar(float(bound)).cast(values.type))
    else:
        holds = _COMPARE[name](values, pa.scalar(bound))
    return Rule(pc.invert(holds), values, {name: bound})


def _compare_integers(values: pa.Array, name: str, bound: float) -> pa.Array:
    """Compare exactly: Arrow would turn integers into doubles for the sake of 0.5, and fails beyond 2**53."""
    limit = math.floor(bound) if name in {"gt", "le", "eq"} else math.ceil(bound)
    bits = values.type.bit_width
    signed = pa.types.is_signed_integer(values.type)
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if name == "eq" and limit != bound:
        always: bool | None = False
    elif limit < lowest:
        always = name in {"gt", "ge"}
    elif limit > highest:
        always = name in {"lt", "le"}
    else:
        always = None
    if always is None:
        return _COMPARE[name](values, pa.scalar(limit, values.type))
    return pc.if_else(pc.is_valid(values), pa.scalar(always), pa.scalar(None, pa.bool_()))
