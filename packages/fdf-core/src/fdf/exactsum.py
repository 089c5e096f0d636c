"""Sums of numbers without any rounding on the way: the same for every order and every cut into batches.

A double is an integer times a power of two, so a sum of doubles is one large integer over a fixed power. NumPy adds
the mantissas exponent by exponent, in halves that cannot overflow; Python's integers put the few results together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The smallest double is 2**-1074; the last mantissa bit of a denormal, written as a normal number, is 52 bits below.
_SCALE = 1126
_MANTISSA = 53
_LOW = 26
# Halves of a mantissa are below 2**27: the doubles in which `bincount` adds up are exact for this many of them.
_CHUNK = 1 << 26


@dataclass(frozen=True)
class ExactSum:
    """An exact sum: `units` times 2**-1126. Adding two is exact; `value` rounds once.

    >>> ExactSum.of(np.array([1e16, 1.0, -1e16])).value
    1.0
    >>> (ExactSum.of(np.array([0.1] * 7)) + ExactSum.of(np.array([0.1] * 3))).value
    1.0
    """

    units: int = 0

    @classmethod
    def of(cls, values: npt.NDArray[np.generic]) -> ExactSum:
        """Add up numbers (any float, integer or boolean type). Raises ValueError for NaN and infinity."""
        if values.dtype.kind in "iub":
            return cls(_sum_integers(values) << _SCALE)
        doubles = values.astype(np.float64, copy=False)
        if not np.isfinite(doubles).all():
            raise ValueError("NaN and infinity have no exact sum: leave them out and count them")
        total = 0
        for start in range(0, len(doubles), _CHUNK):
            total += _sum_doubles(doubles[start : start + _CHUNK])
        return cls(total)

    @property
    def value(self) -> float:
        """The double nearest to the sum; infinite where it is out of range."""
        return _ratio(self.units, 1 << _SCALE)

    def mean(self, count: int) -> float | None:
        """Return the double nearest to the sum over `count`, or None where there is nothing to average."""
        return _ratio(self.units, count << _SCALE) if count else None

    def __add__(self, other: ExactSum) -> ExactSum:
        return ExactSum(self.units + other.units)

    def times(self, count: int) -> ExactSum:
        """Return what as many equal sums add up to."""
        return ExactSum(self.units * count)

    def to_json(self) -> str:
        """Return the sum as a hexadecimal number times a power of two, without loss: `0x3p-1` is 1.5."""
        if self.units == 0:
            return "0x0p0"
        zeros = (self.units & -self.units).bit_length() - 1
        return f"{self.units >> zeros:#x}p{zeros - _SCALE}"

    @classmethod
    def from_json(cls, text: str) -> ExactSum:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        digits, mark, power = text.partition("p")
        if not mark:
            raise ValueError(f"`{text}` is not an exact sum such as 0x3p-1")
        return cls(int(digits, 16) << (int(power) + _SCALE))


def _sum_integers(values: npt.NDArray[np.generic]) -> int:
    # The halves of 64-bit integers add up in 64 bits for any array that fits into memory.
    wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64, copy=False)
    shift = wide.dtype.type(32)
    low = wide & wide.dtype.type(0xFFFFFFFF)
    return (int((wide >> shift).sum()) << 32) + int(low.sum())


def _sum_doubles(values: npt.NDArray[np.float64]) -> int:
    fractions, exponents = np.frexp(values)
    mantissas = np.ldexp(fractions, _MANTISSA).astype(np.int64)
    # An arithmetic shift rounds down, so that high * 2**26 + low is the mantissa for negative numbers too.
    high, low = mantissas >> _LOW, mantissas & ((1 << _LOW) - 1)
    place = exponents.astype(np.int64) + (_SCALE - _MANTISSA)
    highs, lows = np.bincount(place, weights=high), np.bincount(place, weights=low)
    total = 0
    for shift in np.flatnonzero((highs != 0) | (lows != 0)).tolist():
        total += ((int(highs[shift]) << _LOW) + int(lows[shift])) << shift
    return total


def _ratio(numerator: int, denominator: int) -> float:
    # Python divides integers with one correct rounding.
    try:
        return numerator / denominator
    except OverflowError:
        return float("inf") if numerator > 0 else float("-inf")
