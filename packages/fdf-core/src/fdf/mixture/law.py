"""A mixture's law: all that decides the order but the documents themselves, and who has which share by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import Literal, TypeAlias

import numpy as np

from fdf.mixture.curve import Curve
from fdf.mixture.targets import Stretch
from fdf.mixture.tree import MACHINE, Mask, Numbers, Parts, Tree, Weights

Policy: TypeAlias = Literal["stop", "renormalize", "repeat", "error", "fallback"]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A mixture's law: everything that decides the order but the documents themselves."""

    tree: Tree
    curve: Curve
    total: int | None = None
    on_exhausted: Policy = "stop"
    fallback: str | None = None
    """The node that takes over, under `fallback`."""
    may_be_empty: bool = False
    """A leaf without documents ends where it begins, as one that ran out does; otherwise it is an error."""

    def stop(self, start: int, live: Mask) -> int | None:
        """Return the position from `start` on where no live leaf has weight any more; None: nowhere."""
        for piece in self.curve.after(start):
            if not self._has_weight(piece.first, live) and not self._has_weight(piece.last, live):
                return piece.start
        return None

    def stretches(self, start: int, live: Mask) -> Iterator[Stretch]:
        """Yield the shares of the live leaves from a position on, as far as one of them has weight."""
        for piece in self.curve.after(start):
            first = self._shares(piece.first, live)
            last = first if piece.last is piece.first else self._shares(piece.last, live)
            if first is None and last is None:
                return
            first, last = first or last, last or first
            assert first is not None
            assert last is not None
            yield Stretch(piece.start, piece.stop, first, last)

    def _has_weight(self, weights: Weights, live: Mask) -> bool:
        return self.tree.has_weight(weights, np.ones_like(live) if self.on_exhausted == "fallback" else live)

    def _shares(self, weights: Weights, live: Mask) -> Parts | None:
        """Return the leaves' shares, with those of leaves that ended handed on."""
        if self.on_exhausted != "fallback":
            return self.tree.parts(weights, live)
        whole = self.tree.parts(weights, np.ones_like(live))
        if whole is None:
            return None
        freed = int(whole.shares[~live].sum())
        if not freed:
            return whole
        below = np.zeros_like(live)
        below[list(self.tree.leaves_of(str(self.fallback)))] = True
        below &= live
        heirs = self.tree.parts(weights, below) or Parts(below.astype(np.int64), int(below.sum()))
        over = whole.whole * heirs.whole
        shares: Numbers = np.where(live, whole.shares.astype(object), 0) * heirs.whole
        shares += heirs.shares.astype(object) * freed
        common = gcd(over, *shares.tolist())
        shares, over = shares // common, over // common
        return Parts(shares.astype(np.int64) if over < MACHINE else shares, over)
