"""What is mixed: datasets or buckets, possibly nested, and which share of the whole each leaf has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, Fraction]
Mask: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[Any]
"""Exact integers: of 64 bits where all that is made of them stays below `MACHINE`, else Python's."""
MACHINE = 2**62
KEPT = 256


@dataclass(frozen=True, eq=False)
class Parts:
    """Shares of the leaves: integers over one denominator, which is their sum."""

    shares: Numbers
    whole: int

    def fractions(self) -> list[Fraction]:
        """Return them as fractions."""
        return [Fraction(s, self.whole) for s in self.shares.tolist()]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A dataset or bucket (a leaf), or a group of these. `weight` counts among its siblings only."""

    name: str
    weight: Fraction = Fraction(1)
    cap: int | None = None
    """The units after which it ends, with the document that reaches them. A group's counts all its leaves."""
    epochs: Fraction | None = Fraction(1)
    """How often a leaf is read at most; None: without end."""
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, eq=False)
class _Group:
    """A node's children that have weight: leaves by number, and groups."""

    numbers: npt.NDArray[np.int64]
    weights: Numbers
    groups: tuple[tuple[_Group, int], ...]


class Tree:
    """A mixture's nodes, flattened: leaves are numbered from 0 in the order in which they are declared."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.root = Node(name="", children=tuple(nodes))
        self.leaves = tuple(n for n in self.root.walk() if not n.children)
        self.weights: dict[str, Fraction] = {n.name: n.weight for n in self.root.walk()}
        self._numbers = {id(n): number for number, n in enumerate(self.leaves)}
        self.capped: tuple[tuple[Node, tuple[int, ...]], ...] = tuple(
            (n, tuple(self._leaf_numbers(n))) for n in self.root.walk() if n.cap is not None
        )
        """Each node with a cap, with the leaves that it counts."""
        self._groups: dict[int, tuple[Weights, _Group]] = {}

    def leaves_of(self, name: str) -> tuple[int, ...]:
        """Return the numbers of the leaves at or below the node of this name."""
        return next(tuple(self._leaf_numbers(n)) for n in self.root.walk() if n.name == name)

    def shares(self, weights: Weights, live: Collection[int]) -> list[Fraction] | None:
        """Return each leaf's share of the whole, 0 for leaves that are not live; None where no live leaf has weight.

        The share of a leaf that ended goes to its siblings first, and to other groups when none of these is left.
        """
        mask = np.zeros(len(self.leaves), dtype=bool)
        mask[list(live)] = True
        parts = self.parts(weights, mask)
        return None if parts is None else parts.fractions()

    def parts(self, weights: Weights, live: Mask) -> Parts | None:
        """Return the shares as integers over one denominator, by vectors: a restart of 10,000 leaves needs them."""
        found: list[tuple[_Group, Numbers, Fraction]] = []
        if not self._hand_down(self._grouped(weights), live, Fraction(1), found):
            return None
        whole = lcm(*(each.denominator for _, _, each in found))
        shares: Numbers = np.zeros(len(self.leaves), dtype=np.int64 if whole < MACHINE else object)
        for group, takers, each in found:
            shares[group.numbers[takers]] = group.weights[takers].astype(shares.dtype) * int(each * whole)
        return Parts(shares, whole)

    def has_weight(self, weights: Weights, live: Mask) -> bool:
        """Say whether a live leaf has weight."""
        return self._takes(self._grouped(weights), live)

    def _hand_down(
        self, group: _Group, live: Mask, whole: Fraction, found: list[tuple[_Group, Numbers, Fraction]]
    ) -> bool:
        """Hand `whole` down to the live leaves of a group; return whether there is one that takes it."""
        takers = np.flatnonzero(live[group.numbers])
        groups = [(g, weight) for g, weight in group.groups if self._takes(g, live)]
        total = int(group.weights[takers].sum()) + sum(weight for _, weight in groups)
        if not total:
            return False
        if len(takers):
            found.append((group, takers, whole / total))
        for below, weight in groups:
            self._hand_down(below, live, whole * weight / total, found)
        return True

    def _takes(self, group: _Group, live: Mask) -> bool:
        return bool(live[group.numbers].any()) or any(self._takes(g, live) for g, _ in group.groups)

    def _grouped(self, weights: Weights) -> _Group:
        """Return the nodes that have weight, with integers for weights; kept, as a schedule has few sets of them."""
        kept = self._groups.get(id(weights))
        if kept is None or kept[0] is not weights:
            if len(self._groups) >= KEPT:
                self._groups.clear()
            kept = self._groups[id(weights)] = (weights, self._group(self.root, weights))
        return kept[1]

    def _group(self, node: Node, weights: Weights) -> _Group:
        children = [(c, weights[c.name]) for c in node.children if weights[c.name]]
        over = lcm(*(w.denominator for _, w in children))
        counted = [(c, int(w * over)) for c, w in children]
        common = gcd(*(w for _, w in counted)) or 1
        leaves = [(self._numbers[id(c)], w // common) for c, w in counted if not c.children]
        fits = sum(w for _, w in leaves) < MACHINE
        return _Group(
            numbers=np.array([number for number, _ in leaves], dtype=np.int64),
            weights=np.array([w for _, w in leaves], dtype=np.int64 if fits else object),
            groups=tuple((self._group(c, weights), w // common) for c, w in counted if c.children),
        )

    def _leaf_numbers(self, node: Node) -> Iterator[int]:
        return (self._numbers[id(n)] for n in node.walk() if not n.children)
