"""What is mixed: datasets or buckets, possibly nested, and which share of the whole each leaf has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

Weights = Mapping[str, Fraction]


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

    def leaves_of(self, name: str) -> tuple[int, ...]:
        """Return the numbers of the leaves at or below the node of this name."""
        return next(tuple(self._leaf_numbers(n)) for n in self.root.walk() if n.name == name)

    def shares(self, weights: Weights, live: Collection[int]) -> list[Fraction] | None:
        """Return each leaf's share of the whole, 0 for leaves that are not live; None where no live leaf has weight.

        The share of a leaf that ended goes to its siblings first, and to other groups when none of these is left.
        """
        shares = [Fraction(0)] * len(self.leaves)
        if not self._share(self.root, Fraction(1), weights, live, shares):
            return None
        return shares

    def _share(
        self, node: Node, whole: Fraction, weights: Weights, live: Collection[int], shares: list[Fraction]
    ) -> bool:
        """Hand `whole` down to the live leaves below a node; return whether there is one that takes it."""
        if not node.children:
            number = self._numbers[id(node)]
            shares[number] = whole
            return number in live
        takers = [c for c in node.children if weights[c.name] and self._takes(c, weights, live)]
        total = sum((weights[c.name] for c in takers), Fraction(0))
        for child in takers:
            self._share(child, whole * weights[child.name] / total, weights, live, shares)
        return bool(takers)

    def _takes(self, node: Node, weights: Weights, live: Collection[int]) -> bool:
        if not node.children:
            return self._numbers[id(node)] in live
        return any(weights[c.name] and self._takes(c, weights, live) for c in node.children)

    def _leaf_numbers(self, node: Node) -> Iterator[int]:
        return (self._numbers[id(n)] for n in node.walk() if not n.children)
