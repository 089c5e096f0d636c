"""What a mixture's keys must agree on: names that are unique, and weights and fallbacks that name what is there."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from fdf.errors import did_you_mean
from fdf.recipe.conditions import check_condition
from fdf.recipe.document import Document, Steps


def check_mixture(document: Document, given: dict[str, Any], steps: Steps) -> None:
    """Check the mixture of an input; findings go to the document."""
    names = _check_group(document, given, steps, set(), temperature="temperature" in given)
    _check_mixing(document, given, steps, names)


def _check_group(
    document: Document, given: dict[str, Any], steps: Steps, seen: set[str], *, temperature: bool
) -> set[str]:
    below = (*steps, "datasets")
    _unique(document, given.get("datasets"), below, "datasets", seen)
    _check_weights(document, given.get("datasets"), below, temperature=temperature)
    for number, dataset in _mappings(given.get("datasets")):
        if "datasets" in dataset:
            _check_group(document, dataset, (*below, number), seen, temperature=temperature)
    return seen


def check_buckets(document: Document, given: dict[str, Any], steps: Steps) -> None:
    """Check the mixture of a stage, nested buckets included; findings go to the document."""
    names = _check_level(document, given, steps, set())
    _check_mixing(document, given, steps, names)


def _check_level(document: Document, given: dict[str, Any], steps: Steps, seen: set[str]) -> set[str]:
    below = (*steps, "buckets")
    _unique(document, given.get("buckets"), below, "buckets", seen)
    _check_weights(document, given.get("buckets"), below, temperature="temperature" in given)
    for number, bucket in _mappings(given.get("buckets")):
        where = bucket.get("where")
        if isinstance(where, str):
            check_condition(document, (*below, number, "where"), where)
        if "buckets" in bucket:
            _check_level(document, bucket, (*below, number), seen)
    return seen


def _unique(document: Document, listed: Any, steps: Steps, what: str, seen: set[str]) -> set[str]:
    for number, item in _mappings(listed):
        name = item.get("name")
        if isinstance(name, str):
            if name in seen:
                message = f"two {what} are named `{name}`"
                document.add((*steps, number, "name"), "FDF140", message, hint="rename one")
            seen.add(name)
    return seen


def _check_weights(document: Document, listed: Any, steps: Steps, *, temperature: bool) -> None:
    """With `temperature` shares come from sizes; otherwise every item needs a weight, and not all may be 0."""
    weights = [(n, item.get("weight")) for n, item in _mappings(listed)]
    if temperature or not weights:
        return
    for number, weight in weights:
        if weight is None:
            document.add((*steps, number), "FDF111", "missing key `weight`", hint="or give the mixture a `temperature`")
    if all(weight == 0 for _, weight in weights):
        document.add(steps, "FDF143", "every weight is 0: nothing would be delivered")


def _check_mixing(document: Document, given: dict[str, Any], steps: Steps, names: set[str]) -> None:
    exhausted = given.get("on_exhausted")
    if isinstance(exhausted, str) and exhausted.startswith("fallback:"):
        _known(document, (*steps, "on_exhausted"), exhausted.removeprefix("fallback:"), names, of="value")
    points = list(_mappings(given.get("schedule")))
    below = (*steps, "schedule")
    for number, point in points:
        if ("at" in point) == ("at_step" in point):
            document.add((*below, number), "FDF111", "a point of a schedule needs `at` or `at_step`, one of them")
        if "at_step" in point and "units_per_step" not in given:
            document.add((*below, number, "at_step"), "FDF111", "`at_step` needs the mixture's key `units_per_step`")
        weights = point.get("weights")
        for name in weights if isinstance(weights, dict) else ():
            _known(document, (*below, number, "weights", name), name, names, of="key")
        if isinstance(weights, dict) and weights and "temperature" in given and (others := names - {*weights}):
            message = "with a `temperature` weights are sizes, which those of a point cannot stand beside"
            document.add((*below, number, "weights"), "FDF145", message, of="key",
                         hint=f"name the others too: {', '.join(sorted(others))}")  # fmt: skip
    per_step = given.get("units_per_step", 1)
    steps_count = {"at": 1, "at_step": per_step if isinstance(per_step, int) else 1}
    placed = [(n, key, p[key] * each) for n, p in points for key, each in steps_count.items() if _whole(p.get(key))]
    for (_, _, before), (number, key, after) in pairwise(placed):
        if after <= before:
            document.add((*below, number, key), "FDF113", f"`{key}` must rise from point to point")


def _known(document: Document, steps: Steps, name: str, names: Iterable[str], *, of: str) -> None:
    if name not in names:
        hint = did_you_mean(name, names) or f"there are: {', '.join(sorted(names))}"
        document.add(steps, "FDF144", f"the mixture holds nothing named `{name}`", of=of, hint=hint)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mappings(listed: Any) -> Iterable[tuple[int, dict[str, Any]]]:
    """Number the items of a list that are mappings; the others were complained of already."""
    return [(n, item) for n, item in enumerate(listed if isinstance(listed, list) else []) if isinstance(item, dict)]
