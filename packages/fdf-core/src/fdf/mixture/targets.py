"""Cumulative targets: how many units each leaf should have delivered when U units went out in all.

T_i(U) is the integral of leaf i's share, from what was delivered where the targets were last restarted; the targets of
all leaves sum to U. On each piece it is a polynomial of degree at most two with rational coefficients, kept as integers
over one denominator, so that every comparison is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd, isqrt, lcm
from typing import TypeAlias

import numpy as np

from fdf.mixture.tree import MACHINE, Numbers, Parts

Amounts: TypeAlias = Sequence[int] | Numbers


@dataclass(frozen=True, eq=False)
class Stretch:
    """Units `start` to `stop` (None: without end), over which shares go in a straight line from `first` to `last`."""

    start: int
    stop: int | None
    first: Parts
    last: Parts

    @property
    def constant(self) -> bool:
        return self.stop is None or self.first is self.last


@dataclass(frozen=True, eq=False)
class Polynomials:
    """scale * T_i(start + x) = base_i + slope_i * x + bend_i * x**2, for 0 <= x <= length."""

    start: int
    length: int | None
    scale: int
    levels: Amounts
    """T_i(start) times scale / grow."""
    grow: int
    slopes: Numbers
    bends: Numbers | None

    # What one leaf is asked about is kept as Python's integers, made when the first is: a restart in compiled code may
    # come and go without.

    @cached_property
    def base(self) -> list[int]:
        levels = self.levels.tolist() if isinstance(self.levels, np.ndarray) else self.levels
        return [b * self.grow for b in levels]

    @cached_property
    def slope(self) -> list[int]:
        slopes: list[int] = self.slopes.tolist()
        return slopes

    @cached_property
    def bend(self) -> list[int] | None:
        return None if self.bends is None else self.bends.tolist()

    def value(self, leaf: int, x: int) -> int:
        """Return scale * T at x."""
        straight = self.base[leaf] + self.slope[leaf] * x
        return straight if self.bend is None else straight + self.bend[leaf] * x * x

    def first(self, leaf: int, wanted: int) -> int | None:
        """Return the smallest x >= 0 with scale * T >= wanted; None where the piece does not get there."""
        short = wanted - self.base[leaf]
        if short <= 0:
            return 0
        slope, bend = self.slope[leaf], self.bend[leaf] if self.bend is not None else 0
        if bend:
            return self._first_on_parabola(short, slope, bend)
        if not slope:
            return None
        x = -(-short // slope)
        return x if self.length is None or x <= self.length else None

    def _first_on_parabola(self, short: int, slope: int, bend: int) -> int | None:
        assert self.length is not None
        if self.length * (slope + bend * self.length) < short:
            return None
        # The root, off by less than two because the square root was cut off; shares are never negative, so that what
        # lies below it falls short and what lies above does not.
        root = isqrt(slope * slope + 4 * bend * short)
        x = min(max((root - slope) // (2 * bend), 0), self.length)
        while x > 0 and (x - 1) * (slope + bend * (x - 1)) >= short:
            x -= 1
        while x * (slope + bend * x) < short:
            x += 1
        return x


class Targets:
    """The targets of all leaves from `start` on, where `delivered` units of each had gone out.

    They end at `stop`, where no live leaf has weight any more; None: nowhere. Stretches are taken as they are reached.
    """

    def __init__(self, stretches: Iterable[Stretch], *, start: int, stop: int | None, delivered: Amounts) -> None:
        self.start = start
        self.stop = stop
        self.delivered = delivered
        self._stretches = iter(stretches)
        self._pieces: list[Polynomials] = []
        self._current = 0
        self.piece = self._all_up_to(0)[0]
        """The piece on which the mixture is."""

    def advance(self, units: int) -> bool:
        """Go on to the piece that holds from a position on, where deliveries have come to it; say whether they have."""
        piece = self.piece
        if piece.length is None or units < piece.start + piece.length:
            return False
        before = self._current
        while len(self._all_up_to(self._current + 1)) > self._current + 1:
            following = self._pieces[self._current + 1]
            if following.start > units:
                break
            self._current += 1
            self.piece = following
        return self._current != before

    def value(self, leaf: int, units: int) -> Fraction:
        """Return T_leaf(units), of a position on the current piece or after it; beyond the end its last share holds."""
        number = self._current
        while True:
            piece = self._pieces[number]
            if piece.length is None or units <= piece.start + piece.length:
                break
            if len(self._all_up_to(number + 1)) == number + 1:
                break
            number += 1
        x = units - piece.start
        if piece.length is None or x <= piece.length:
            return Fraction(piece.value(leaf, x), piece.scale)
        end = piece.slope[leaf] + (0 if piece.bend is None else 2 * piece.bend[leaf] * piece.length)
        return Fraction(piece.value(leaf, piece.length) + end * (x - piece.length), piece.scale)

    def first_reaching(self, leaf: int, amount: int) -> int | None:
        """Return the smallest U with T_leaf(U) >= amount; None where there is none."""
        number = self._current
        while number and self._pieces[number].base[leaf] >= amount * self._pieces[number].scale:
            number -= 1
        return self._first(number, leaf, amount, 0)

    def release(self, leaf: int, amount: int) -> int | None:
        """Return from which U on a leaf that has delivered `amount` may be next; None: never.

        It may where it is behind its target, or at its target while that is rising.
        """
        piece = self.piece
        if piece.bends is None and piece.slope[leaf]:
            x = -((piece.base[leaf] - amount * piece.scale) // piece.slope[leaf])
            if piece.length is None or x < piece.length:
                return piece.start + max(x, 0)
        beyond = self._first(self._current, leaf, amount, 1)
        if beyond is None or beyond <= self.piece.start:
            return beyond
        return beyond - 1 if self.value(leaf, beyond - 1) == amount else beyond

    def _first(self, number: int, leaf: int, amount: int, more: int) -> int | None:
        """Return the smallest U from a piece on where scale * T is at least scale * amount + more."""
        while len(self._all_up_to(number)) > number:
            piece = self._pieces[number]
            x = piece.first(leaf, amount * piece.scale + more)
            if x is not None:
                return piece.start + x
            number += 1
        return None

    def _all_up_to(self, number: int) -> list[Polynomials]:
        """Return the pieces, among them that of this number if there is one."""
        while len(self._pieces) <= number:
            stretch = next(self._stretches, None)
            if stretch is None:
                break
            self._pieces.append(self._polynomials(stretch))
        return self._pieces

    def _polynomials(self, stretch: Stretch) -> Polynomials:
        levels, scale = self.delivered, 1
        if self._pieces:
            before = self._pieces[-1]
            assert before.length is not None
            ends = [before.value(leaf, before.length) for leaf in range(len(before.base))]
            common = gcd(before.scale, *ends)
            levels, scale = [end // common for end in ends], before.scale // common
        first, last = stretch.first, stretch.last
        if stretch.constant:
            wanted = lcm(scale, first.whole)
            slopes, bends = _times(first, wanted), None
        else:
            assert stretch.stop is not None
            twice = 2 * (stretch.stop - stretch.start)
            over = lcm(first.whole, last.whole)
            rises = _exact(last, over) - _exact(first, over)
            # As few digits as will do: the common divisor of all rises need not be in the denominator.
            wanted = lcm(scale, first.whole, over * twice // gcd(over * twice, *rises.tolist()))
            slopes = _times(first, wanted)
            bends = (rises * wanted) // (over * twice)
            if wanted < MACHINE:
                bends = bends.astype(np.int64)
        length = None if stretch.stop is None else stretch.stop - stretch.start
        return Polynomials(stretch.start, length, wanted, levels, wanted // scale, slopes, bends)


def _times(parts: Parts, wanted: int) -> Numbers:
    """Return shares as integers over another denominator."""
    shares: Numbers = parts.shares if wanted < MACHINE else parts.shares.astype(object)
    return shares * (wanted // parts.whole)


def _exact(parts: Parts, over: int) -> Numbers:
    shares: Numbers = parts.shares.astype(object)
    return shares * (over // parts.whole)
