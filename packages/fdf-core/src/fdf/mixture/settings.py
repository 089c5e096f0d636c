"""Reads a mixture's keys from the recipe into exact numbers: nodes, schedule, and how sizes are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Literal, TypeAlias, cast

from fdf.errors import PlanError, Problem
from fdf.mixture.curve import Curve, Point
from fdf.mixture.scheduler import Mix, Policy
from fdf.mixture.tree import Node, Tree

Unit: TypeAlias = Literal["rows", "images", "bytes", "tokens"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A mixture as the recipe asks for it."""

    nodes: tuple[Node, ...]
    points: tuple[Point, ...] = ()
    unit: Unit = "rows"
    tokenizer: str | None = None
    seed: int = 0
    total: int | None = None
    temperature: Fraction | None = None
    unweighted: frozenset[str] = frozenset()
    """Nodes whose weight is their size, since none is given."""
    granularity: Literal["document", "block"] = "document"
    on_exhausted: Policy = "stop"
    fallback: str | None = None

    def law(self, sizes: Mapping[str, int] | None = None) -> Mix:
        """Return what decides the order. With a temperature, `sizes` are the units in each leaf."""
        nodes = self.nodes
        if self.temperature is not None:
            nodes = tuple(_heated(n, self.temperature, self.unweighted, sizes or {}) for n in nodes)
        tree = Tree(nodes)
        return Mix(
            tree=tree,
            curve=Curve(tree.weights, self.points),
            total=self.total,
            on_exhausted=self.on_exhausted,
            fallback=self.fallback,
        )

    def identity(self) -> dict[str, Any]:
        """Return what belongs to the plan's hash: every setting that decides the order."""
        return {
            "nodes": [_node_identity(n) for n in self.nodes],
            "points": [[p.at, {k: str(v) for k, v in sorted(p.weights.items())}, p.ramp] for p in self.points],
            "unit": self.unit,
            "seed": self.seed,
            "total": self.total,
            "temperature": None if self.temperature is None else str(self.temperature),
            "unweighted": sorted(self.unweighted),
            "granularity": self.granularity,
            "on_exhausted": self.on_exhausted,
            "fallback": self.fallback,
        }


def exact(value: float | str) -> Fraction:
    """Return a number of the recipe as it was written: 0.1 is one tenth.

    >>> exact(0.1)
    Fraction(1, 10)
    """
    return Fraction(str(value))


def read_settings(given: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], *, seed: int) -> Settings:
    """Return the settings of checked recipe keys; `nodes` are its datasets or buckets."""
    policy, _, fallback = str(given.get("on_exhausted", "stop")).partition(":")
    unweighted: set[str] = set()
    per_step = given.get("units_per_step", 1)
    points = [
        Point(
            at=p["at"] if "at" in p else p["at_step"] * per_step,
            weights={k: exact(v) for k, v in p.get("weights", {}).items()},
            ramp=p.get("ramp", "step"),
        )
        for p in given.get("schedule", ())
    ]
    temperature = given.get("temperature")
    return Settings(
        nodes=tuple(_node(n, None, unweighted) for n in nodes),
        points=tuple(points),
        unit=given.get("unit", "rows"),
        tokenizer=given.get("tokenizer"),
        seed=given.get("seed", seed),
        total=given.get("total"),
        temperature=None if temperature is None else exact(temperature),
        unweighted=frozenset(unweighted),
        granularity=given.get("granularity", "document"),
        on_exhausted=cast("Policy", policy),
        fallback=fallback or None,
    )


def check_feasible(settings: Settings) -> None:
    """Raise PlanError where caps alone keep the mixture from ever delivering its `total`."""
    total = settings.total
    if total is None:
        return
    tree = Tree(settings.nodes)
    if settings.on_exhausted in ("renormalize", "repeat"):
        most = _most(tree.root)
        if most is not None and most < total:
            raise _infeasible(
                f"the caps add up to {most} units at most, less than the `total` of {total}",
                "raise the caps, or lower `total`",
            )
    elif settings.on_exhausted in ("stop", "error") and not settings.points and settings.temperature is None:
        shares = tree.shares(tree.weights, range(len(tree.leaves))) or []
        for node, leaves in tree.capped:
            share = sum((shares[i] for i in leaves), Fraction(0))
            if share and node.cap is not None and node.cap < share * total:
                raise _infeasible(
                    f"`{node.name}` reaches its cap of {node.cap} at {int(node.cap / share)} units, before the `total` "
                    f"of {total}, and `on_exhausted: {settings.on_exhausted}` ends the mixture there",
                    "raise its cap, lower `total`, or let the others go on with `on_exhausted: renormalize`",
                )


def check_ends(settings: Settings) -> None:
    """Raise PlanError where nothing would ever end the mixture."""
    if settings.on_exhausted != "repeat" or settings.total is not None or _most(Tree(settings.nodes).root) is not None:
        return
    raise PlanError(
        Problem(
            code="FDF345",
            message="the mixture would never end: `on_exhausted: repeat` begins every source again",
            about="on_exhausted",
            help="give it a `total`, or a `cap` to each source; `--limit N` tries the first rows",
        )
    )


def _most(node: Node) -> int | None:
    """Return how many units a node can deliver by its caps; None where nothing bounds it."""
    below = [_most(c) for c in node.children if c.weight]
    total = None if not below or any(b is None for b in below) else sum(b for b in below if b is not None)
    bounds = [b for b in (total, node.cap) if b is not None]
    return min(bounds, default=None)


def _infeasible(message: str, advice: str) -> PlanError:
    return PlanError(
        Problem(code="FDF345", message=f"the mixture is infeasible: {message}", about="total", help=advice)
    )


def _node(given: Mapping[str, Any], epochs: Any, unweighted: set[str]) -> Node:
    name, weight = given["name"], given.get("weight")
    if weight is None:
        unweighted.add(name)
    epochs = given.get("epochs", epochs)
    inner = given.get("buckets") or given.get("datasets") or ()
    return Node(
        name=name,
        weight=Fraction(1) if weight is None else exact(weight),
        cap=given.get("cap"),
        epochs=Fraction(1) if epochs is None else exact(epochs),
        children=tuple(_node(n, epochs, unweighted) for n in inner),
    )


def _heated(node: Node, temperature: Fraction, unweighted: frozenset[str], sizes: Mapping[str, int]) -> Node:
    """Return a node with weights in proportion to size^(1/T); a weight that is given stands for the size."""
    children = tuple(_heated(c, temperature, unweighted, sizes) for c in node.children)
    base = Fraction(_size(node, sizes)) if node.name in unweighted else node.weight
    return replace(node, weight=_root(base, temperature), children=children)


def _size(node: Node, sizes: Mapping[str, int]) -> int:
    return sum(_size(c, sizes) for c in node.children) if node.children else sizes[node.name]


def _root(base: Fraction, temperature: Fraction) -> Fraction:
    """Return base^(1/T) to 15 digits. `decimal` rounds correctly, so every platform gets the same."""
    if not base or temperature == 1:
        return base
    context = Context(prec=40)
    number = context.divide(Decimal(base.numerator), Decimal(base.denominator))
    power = context.divide(Decimal(temperature.denominator), Decimal(temperature.numerator))
    return Fraction(Context(prec=15).plus(context.power(number, power)))


def _node_identity(node: Node) -> list[Any]:
    epochs = None if node.epochs is None else str(node.epochs)
    return [node.name, str(node.weight), node.cap, epochs, [_node_identity(c) for c in node.children]]
