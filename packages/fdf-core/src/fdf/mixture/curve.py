"""How weights change with what was delivered: the schedule of a curriculum as pieces on which weights are linear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from fdf.mixture.tree import Weights

Ramp = Literal["step", "linear", "piecewise", "cosine"]
COSINE_PIECES = 64
# cos(pi / 64) to 40 digits. The other values follow from it by Chebyshev's recurrence in rationals, so that no
# platform's math library has a say in who is next.
_COSINE = Fraction("0.9987954562051723927147716047591006944432")


@dataclass(frozen=True, kw_only=True)
class Point:
    """From `at` units on these weights hold; `ramp` says how the weights before get there."""

    at: int
    weights: Weights
    ramp: Ramp = "step"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Units `start` to `stop` (None: to the end), over which weights go in a straight line from `first` to `last`."""

    start: int
    stop: int | None
    first: Weights
    last: Weights

    def at(self, units: int) -> Weights:
        """Return the weights at a position inside the piece."""
        if self.stop is None or self.first is self.last:
            return self.first
        part = Fraction(units - self.start, self.stop - self.start)
        return {name: w + (self.last[name] - w) * part for name, w in self.first.items()}


class Curve:
    """The weights of every node from 0 units on."""

    def __init__(self, weights: Weights, points: Sequence[Point] = ()) -> None:
        self.pieces = tuple(_pieces(weights, points))

    def after(self, units: int) -> Iterator[Piece]:
        """Yield the pieces from a position on, the first one cut there."""
        for piece in self.pieces:
            if piece.stop is not None and piece.stop <= units:
                continue
            if piece.start >= units:
                yield piece
                continue
            yield Piece(start=units, stop=piece.stop, first=piece.at(units), last=_kept(piece, units))


def _kept(piece: Piece, units: int) -> Weights:
    # A piece of constant weights stays one, by identity.
    return piece.last if piece.first is not piece.last else piece.at(units)


def _pieces(weights: Weights, points: Sequence[Point]) -> Iterator[Piece]:
    start, now = 0, dict(weights)
    for point in points:
        then = {**now, **point.weights}
        if point.at > start:
            if point.ramp == "step":
                yield Piece(start=start, stop=point.at, first=now, last=now)
            elif point.ramp == "cosine":
                yield from _eased(start, point.at, now, then)
            else:
                yield Piece(start=start, stop=point.at, first=now, last=then)
        start, now = point.at, then
    yield Piece(start=start, stop=None, first=now, last=now)


def _eased(start: int, stop: int, now: Weights, then: Weights) -> Iterator[Piece]:
    """Yield a half period of the cosine as straight pieces between exact values."""
    count = min(COSINE_PIECES, stop - start)
    edges = [start + (stop - start) * n // count for n in range(count + 1)]
    eased = list(_half_period())
    values = [eased[n * COSINE_PIECES // count] for n in range(count + 1)]
    at = [{name: w + (then[name] - w) * part for name, w in now.items()} for part in values]
    for n in range(count):
        yield Piece(start=edges[n], stop=edges[n + 1], first=at[n], last=at[n + 1])


def _half_period() -> Iterator[Fraction]:
    """Yield (1 - cos x) / 2 for x from 0 to pi, rounded to nine digits, in `COSINE_PIECES` steps."""
    before, here = _COSINE, Fraction(1)
    for _ in range(COSINE_PIECES + 1):
        yield Fraction(round((1 - here) / 2 * 10**9), 10**9)
        before, here = here, _rounded(2 * _COSINE * here - before)


def _rounded(value: Fraction) -> Fraction:
    # The recurrence would double the digits at every step; thirty-five are more than enough for nine.
    return Fraction(round(value * 10**35), 10**35)
