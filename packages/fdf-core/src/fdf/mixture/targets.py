"""Cumulative targets: how many units each leaf should have delivered when U units went out in all.

T_i(U) is the integral of leaf i's share, from what was delivered where the targets were last restarted; the targets of
all leaves sum to U. On each piece it is a polynomial of degree at most two with rational coefficients, kept as integers
over one denominator, so that every comparison is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

Shares = Sequence[Fraction]


@dataclass(frozen=True)
class Stretch:
    """Units `start` to `stop` (None: without end), over which shares go in a straight line from `first` to `last`."""

    start: int
    stop: int | None
    first: Shares
    last: Shares

    @property
    def constant(self) -> bool:
        return self.stop is None or self.first is self.last or list(self.first) == list(self.last)


@dataclass(frozen=True)
class _Polynomials:
    """scale * T_i(start + x) = base_i + slope_i * x + bend_i * x**2, for 0 <= x <= length."""

    start: int
    length: int | None
    scale: int
    base: list[int]
    slope: list[int]
    bend: list[int] | None

    def value(self, leaf: int, x: int) -> int:
        """Return scale * T at x."""
        straight = self.base[leaf] + self.slope[leaf] * x
        return straight if self.bend is None else straight + self.bend[leaf] * x * x

    def first(self, leaf: int, wanted: int) -> int | None:
        """Return the smallest x >= 0 with scale * T >= wanted; None where the piece does not get there."""
        short = wanted - self.base[leaf]
        if short <= 0:
            return 0
        if self.bend is None:
            slope = self.slope[leaf]
            if not slope:
                return None
            x = -(-short // slope)
            return x if self.length is None or x <= self.length else None
        assert self.length is not None
        if self.value(leaf, self.length) < wanted:
            return None
        low, high = 0, self.length
        while low < high:
            middle = (low + high) // 2
            if self.value(leaf, middle) >= wanted:
                high = middle
            else:
                low = middle + 1
        return low


class Targets:
    """The targets of all leaves from `start` on, where `delivered` units of each had gone out."""

    def __init__(
        self, stretches: Iterable[Stretch], *, start: int, delivered: Sequence[int], stop: int | None = None
    ) -> None:
        self.start = start
        self.stop = stop
        """Where the mixture ends, because no live leaf has weight from there on; None: nowhere."""
        self.delivered = tuple(delivered)
        self.pieces: list[_Polynomials] = []
        base, scale = list(delivered), 1
        for stretch in stretches:
            piece = _polynomials(stretch, base, scale)
            self.pieces.append(piece)
            if piece.length is not None:
                base = [piece.value(i, piece.length) for i in range(len(base))]
                scale = piece.scale
        self._current = 0

    def advance(self, units: int) -> None:
        """Forget the pieces that end at or before a position: what comes is asked about positions from there on."""
        while self._current + 1 < len(self.pieces) and self.pieces[self._current + 1].start <= units:
            self._current += 1

    @property
    def last_piece(self) -> _Polynomials | None:
        """The piece that holds from here to the end, if there is only one left."""
        return self.pieces[-1] if self._current == len(self.pieces) - 1 else None

    def value(self, leaf: int, units: int) -> Fraction:
        """Return T_leaf(units)."""
        piece = self._piece_at(units)
        return Fraction(piece.value(leaf, units - piece.start), piece.scale)

    def first_reaching(self, leaf: int, amount: int) -> int | None:
        """Return the smallest U with T_leaf(U) >= amount; None where there is none."""
        return self._first(leaf, lambda piece: amount * piece.scale)

    def release(self, leaf: int, amount: int) -> int | None:
        """Return from which U on a leaf that has delivered `amount` may be next; None: never.

        It may where it is behind its target, or at its target while that is rising.
        """
        beyond = self._first(leaf, lambda piece: amount * piece.scale + 1)
        if beyond is None or beyond <= self.start:
            return beyond
        piece = self._piece_at(beyond - 1)
        level = piece.value(leaf, beyond - 1 - piece.start) == amount * piece.scale
        return beyond - 1 if level else beyond

    def _piece_at(self, units: int) -> _Polynomials:
        for piece in self.pieces[self._current :]:
            if piece.length is None or units <= piece.start + piece.length:
                return piece
        return self.pieces[-1]

    def _first(self, leaf: int, wanted: Callable[[_Polynomials], int]) -> int | None:
        for piece in self.pieces[self._current :]:
            x = piece.first(leaf, wanted(piece))
            if x is not None:
                return piece.start + x
        return None


def _polynomials(stretch: Stretch, base: list[int], scale: int) -> _Polynomials:
    """Return a stretch's polynomials, from base / scale delivered at its start."""
    length = None if stretch.stop is None else stretch.stop - stretch.start
    bend: list[Fraction] | None = None
    if not stretch.constant:
        assert length is not None
        bend = [(b - a) / (2 * length) for a, b in zip(stretch.first, stretch.last, strict=True)]
    common = gcd(scale, *base)
    base, scale = [b // common for b in base], scale // common
    wanted = lcm(scale, *(f.denominator for f in stretch.first), *(f.denominator for f in bend or ()))
    grow = wanted // scale
    return _Polynomials(
        start=stretch.start,
        length=length,
        scale=wanted,
        base=[b * grow for b in base],
        slope=[int(f * wanted) for f in stretch.first],
        bend=None if bend is None else [int(f * wanted) for f in bend],
    )
