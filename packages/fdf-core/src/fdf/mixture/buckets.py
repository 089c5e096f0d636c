"""Puts rows into the buckets of a stage's mixture: tried in order, a row is in the first that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import PlanError, Problem, did_you_mean
from fdf.predicate import Predicate

Codes: TypeAlias = npt.NDArray[np.uint16]
Mask: TypeAlias = npt.NDArray[np.bool_]
Thresholds: TypeAlias = Mapping[str, tuple[float | None, float | None]]
"""By bucket, the values between which (from, below) its quantiles lie."""

NO_BUCKET = "(no bucket)"


@dataclass(frozen=True, kw_only=True)
class Quantile:
    """A range of a column's quantiles: rows from the `ge`-quantile on, and below the `lt`-quantile."""

    field: str
    ge: float | None = None
    lt: float | None = None
    exact: bool = False

    def mask(self, batch: pa.RecordBatch, low: float | None, high: float | None) -> Mask:
        """Return which rows lie between two values; a null does not."""
        values = pc.cast(batch.column(self.field), pa.float64())
        fits = pc.is_valid(values)
        if low is not None:
            fits = pc.and_kleene(fits, pc.greater_equal(values, low))
        if high is not None:
            fits = pc.and_kleene(fits, pc.less(values, high))
        mask: Mask = pc.fill_null(fits, False).to_numpy(zero_copy_only=False)
        return mask


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One bucket, with those inside it. Without a condition every row fits."""

    name: str
    where: Predicate | None = None
    quantile: Quantile | None = None
    buckets: tuple[Bucket, ...] = ()

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Bucket:
        """Return a bucket from checked recipe keys."""
        quantile = given.get("quantile")
        return cls(
            name=given["name"],
            where=Predicate.compile(given["where"]) if "where" in given else None,
            quantile=Quantile(**quantile) if quantile is not None else None,
            buckets=tuple(cls.read(b) for b in given.get("buckets", ())),
        )

    def walk(self) -> Iterator[Bucket]:
        """Yield this bucket and those inside it."""
        yield self
        for bucket in self.buckets:
            yield from bucket.walk()

    def fits(self, batch: pa.RecordBatch, thresholds: Thresholds) -> Mask:
        """Return which rows meet its own conditions; unknown counts as not."""
        mask: Mask = np.ones(batch.num_rows, dtype=bool)
        if self.where is not None:
            mask &= self.where.mask(batch).to_numpy(zero_copy_only=False)
        if self.quantile is not None:
            mask &= self.quantile.mask(batch, *thresholds[self.name])
        return mask

    def identity(self) -> list[Any]:
        """Return what belongs to the plan's hash."""
        quantile = vars(self.quantile) if self.quantile is not None else None
        return [self.name, self.where.sql if self.where else None, quantile, [b.identity() for b in self.buckets]]


class Buckets:
    """All buckets of a mixture. Codes number the leaves as the mixture does; after them come the places outside."""

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self.top = tuple(buckets)
        every = [b for top in self.top for b in top.walk()]
        self.leaves = tuple(b.name for b in every if not b.buckets)
        self.outside = (*(b.name for b in every if b.buckets), NO_BUCKET)
        """Where rows end up that fit a bucket but none inside it, and those that fit none."""
        self.quantiles = {b.name: b.quantile for b in every if b.quantile is not None}
        self._numbers = {name: n for n, name in enumerate((*self.leaves, *self.outside))}
        self._every = every

    def columns(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the columns that the conditions read. Raises PlanError where one is missing or does not fit."""
        found: dict[str, None] = {}
        for bucket in self._every:
            if bucket.where is not None:
                bucket.where.check(schema)
                found |= dict.fromkeys(bucket.where.columns_in(schema))
            if bucket.quantile is not None:
                found[_numeric(bucket.quantile.field, schema, bucket.name)] = None
        return tuple(found)

    def codes(self, batch: pa.RecordBatch, thresholds: Thresholds) -> Codes:
        """Return for each row the number of its leaf, or of the place outside where it stays."""
        codes = np.empty(batch.num_rows, dtype=np.uint16)
        rest = self._place(self.top, batch, np.ones(batch.num_rows, dtype=bool), codes, thresholds)
        codes[rest] = self._numbers[NO_BUCKET]
        return codes

    def _place(
        self, buckets: Sequence[Bucket], batch: pa.RecordBatch, left: Mask, codes: Codes, thresholds: Thresholds
    ) -> Mask:
        """Place the rows that are `left` into these buckets; return those that fit none."""
        for bucket in buckets:
            here = left & bucket.fits(batch, thresholds)
            left = left & ~here
            inside = self._place(bucket.buckets, batch, here, codes, thresholds) if bucket.buckets else here
            codes[inside] = self._numbers[bucket.name]
        return left


def _numeric(field: str, schema: pa.Schema, bucket: str) -> str:
    if field not in schema.names:
        raise PlanError(
            Problem(
                code="FDF310",
                message=f"bucket `{bucket}` needs the column `{field}`, which rows do not have there",
                about="buckets",
                hint=did_you_mean(field, schema.names),
                help=f"the columns are: {', '.join(schema.names) or 'none'}",
            )
        )
    kind = schema.field(field).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise PlanError(
            Problem(
                code="FDF224",
                message=f"bucket `{bucket}` takes quantiles of `{field}`, which is {kind}, not a number",
                about="buckets",
                help="choose a column of numbers, or give the bucket a `where:`",
            )
        )
    return field
