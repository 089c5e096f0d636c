"""Histograms with fixed bins, so that any two can be added: how scores are told in manifests.

Bins are signed and log-linear, 32 to an octave. A positive value v = 2**o * (1 + f), with o an integer and f in
[0, 1), is in bin 32 * o + floor(32 * f): the interval from 2**o * (1 + s / 32) up to the next s. Negative values
mirror it. So a bin is at most 1/32 of its values wide, whatever their size, and no bound has to be chosen before the
data is seen. Zeros, nulls, NaN and infinities are counted beside the bins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.exactsum import ExactSum

BINS_PER_OCTAVE = 32


class Quantile(NamedTuple):
    """An estimated quantile: the true one lies from `low` to `high`, and `value` within 1/64 of it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How the numbers of one column are distributed. `count` is of finite values, zeros included.

    >>> h = observe(pa.array([0.5, 0.5, 2.0, None])).merge(observe(pa.array([-1.0])))
    >>> h.count, h.nulls, h.minimum, h.maximum, h.total.value, h.quantile(0.5).value
    (4, 1, -1.0, 2.0, 2.0, 0.5078125)
    """

    positive: Mapping[int, int] = field(default_factory=dict)
    negative: Mapping[int, int] = field(default_factory=dict)
    zeros: int = 0
    nulls: int = 0
    nans: int = 0
    positive_infinities: int = 0
    negative_infinities: int = 0
    minimum: float | None = None
    maximum: float | None = None
    total: ExactSum = field(default_factory=ExactSum)

    @property
    def count(self) -> int:
        """How many finite values were seen."""
        return self.zeros + sum(self.positive.values()) + sum(self.negative.values())

    @property
    def rows(self) -> int:
        """How many rows were seen, nulls and non-finite values included."""
        return self.count + self.nulls + self.nans + self.positive_infinities + self.negative_infinities

    @property
    def mean(self) -> float | None:
        """The mean of the finite values, rounded once; None where there are none."""
        return self.total.mean(self.count)

    def merge(self, other: Histogram) -> Histogram:
        """Add two histograms; the order does not matter."""
        return Histogram(
            positive=Counter(self.positive) + Counter(other.positive),
            negative=Counter(self.negative) + Counter(other.negative),
            zeros=self.zeros + other.zeros,
            nulls=self.nulls + other.nulls,
            nans=self.nans + other.nans,
            positive_infinities=self.positive_infinities + other.positive_infinities,
            negative_infinities=self.negative_infinities + other.negative_infinities,
            minimum=min((v for v in (self.minimum, other.minimum) if v is not None), default=None),
            maximum=max((v for v in (self.maximum, other.maximum) if v is not None), default=None),
            total=self.total + other.total,
        )

    def quantile(self, q: float) -> Quantile | None:
        """Return the value of rank ceil(q * count) among the finite ones, to within its bin; None where there is none.

        Raises ValueError for a q outside [0, 1].
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is asked for by a number from 0 to 1, not {q}")
        if self.minimum is None or self.maximum is None:
            return None
        rank = max(1, math.ceil(q * self.count))
        for left, right, counted in self.bins():
            rank -= counted
            if rank <= 0:
                low, high = max(left, self.minimum), min(right, self.maximum)
                return Quantile(min(max(low + (high - low) / 2, low), high), low, high)
        raise AssertionError("the counts of the bins add up to `count`")

    def bins(self) -> list[tuple[float, float, int]]:
        """Return the occupied bins from the lowest to the highest: lower edge, upper edge, count."""
        edges = [(-_edge(b + 1), -_edge(b), n) for b, n in sorted(self.negative.items(), reverse=True)]
        if self.zeros:
            edges.append((0.0, 0.0, self.zeros))
        return edges + [(_edge(b), _edge(b + 1), n) for b, n in sorted(self.positive.items())]

    def to_json(self) -> dict[str, Any]:
        """Return the histogram as JSON values; equal histograms give equal JSON. `mean` is for readers."""
        return {
            "bins_per_octave": BINS_PER_OCTAVE,
            "positive": {str(b): n for b, n in sorted(self.positive.items())},
            "negative": {str(b): n for b, n in sorted(self.negative.items())},
            "zeros": self.zeros,
            "nulls": self.nulls,
            "nans": self.nans,
            "positive_infinities": self.positive_infinities,
            "negative_infinities": self.negative_infinities,
            "count": self.count,
            "min": self.minimum,
            "max": self.maximum,
            "mean": self.mean if self.mean is None or math.isfinite(self.mean) else None,
            "sum": self.total.to_json(),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Histogram:
        """Read what `to_json` wrote. Raises ValueError for bins of another width."""
        if told["bins_per_octave"] != BINS_PER_OCTAVE:
            raise ValueError(f"the histogram has {told['bins_per_octave']} bins per octave, not {BINS_PER_OCTAVE}")
        return cls(
            positive={int(b): n for b, n in told["positive"].items()},
            negative={int(b): n for b, n in told["negative"].items()},
            zeros=told["zeros"],
            nulls=told["nulls"],
            nans=told["nans"],
            positive_infinities=told["positive_infinities"],
            negative_infinities=told["negative_infinities"],
            minimum=told["min"],
            maximum=told["max"],
            total=ExactSum.from_json(told["sum"]),
        )


def observe(column: pa.Array | pa.ChunkedArray) -> Histogram:
    """Count the values of a column of numbers or booleans (false is 0, true is 1).

    Integers beyond 2**53 are rounded to doubles for their bin, `minimum` and `maximum`; the sum stays exact.
    Raises ValueError for a column of another type.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    elif pa.types.is_decimal(array.type) or pa.types.is_null(array.type):
        array = array.cast(pa.float64())
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise ValueError(f"a histogram is of numbers, not of {array.type}")
    nulls = array.null_count
    values = (pc.drop_null(array) if nulls else array).to_numpy(zero_copy_only=False)
    if values.dtype.kind != "f":
        return _of_finite(values.astype(np.float64), values, nulls=nulls)
    doubles = values.astype(np.float64, copy=False)
    # The bounds are not finite where any value is not: NaN spreads through both.
    if len(doubles) and math.isfinite(doubles.min()) and math.isfinite(doubles.max()):
        return _of_finite(doubles, doubles, nulls=nulls)
    finite = doubles[np.isfinite(doubles)]
    return _of_finite(finite, finite, nulls=nulls).merge(
        Histogram(
            nans=int(np.isnan(doubles).sum()),
            positive_infinities=int((doubles == np.inf).sum()),
            negative_infinities=int((doubles == -np.inf).sum()),
        )
    )


def _of_finite(values: npt.NDArray[np.float64], exact: npt.NDArray[Any], *, nulls: int) -> Histogram:
    """Count doubles; `exact` are the same numbers in their own type, for the sum."""
    if not len(values):
        return Histogram(nulls=nulls)
    rows = len(values)
    low, high = float(values.min()), float(values.max())
    if low == high and exact.min() == exact.max():
        # One value all through, as a constant score or a batch of one language gives.
        total, counted = ExactSum.of(exact[:1]).times(len(exact)), len(values)
        values = values[:1]
    else:
        total, counted = ExactSum.of(exact), 1
    positive = _count_bins(values if low > 0 else values[values > 0], counted) if high > 0 else {}
    negative = _count_bins(-values if high < 0 else -values[values < 0], counted) if low < 0 else {}
    # Adding zero makes -0.0 a 0.0: which of the two came first must not show.
    return Histogram(
        positive=positive,
        negative=negative,
        zeros=rows - sum(positive.values()) - sum(negative.values()),
        nulls=nulls,
        minimum=low + 0.0,
        maximum=high + 0.0,
        total=total,
    )


def _count_bins(magnitudes: npt.NDArray[np.float64], times: int) -> dict[int, int]:
    # frexp gives m in [0.5, 1) and v = m * 2**e, so o = e - 1 and 32 * f = 64 * m - 32; both steps are exact.
    fractions, exponents = np.frexp(magnitudes)
    bins = (exponents.astype(np.int64) - 1) * BINS_PER_OCTAVE
    bins += (fractions * (2 * BINS_PER_OCTAVE)).astype(np.int64) - BINS_PER_OCTAVE
    lowest = int(bins.min())
    counts = np.bincount(bins - lowest)
    return {int(b) + lowest: int(counts[b]) * times for b in np.flatnonzero(counts)}


def _edge(number: int) -> float:
    octave, step = divmod(number, BINS_PER_OCTAVE)
    try:
        return math.ldexp(1 + step / BINS_PER_OCTAVE, octave)
    except OverflowError:
        return math.inf
