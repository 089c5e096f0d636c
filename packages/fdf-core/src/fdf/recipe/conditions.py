"""The small languages inside a recipe's strings: the gates of `require:` and the predicates of `when:` and `where:`."""

from __future__ import annotations

import re

from fdf.errors import Problem, RecipeError
from fdf.recipe.document import Document, Steps
from fdf.recipe.model import COMPARISONS, Gate

_GATE = re.compile(
    r"\s*(?P<metric>[^\s<>=!]+)\s*(?P<comparison><=|>=|==|!=|<|>)"
    r"\s*(?P<bound>[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
)


def parse_gate(text: str) -> Gate:
    """Read one gate. Raises RecipeError, without a place, for what is none.

    >>> gate = parse_gate("null_rate.text <= 0.01")
    >>> gate.metric, gate.holds(0.02)
    ('null_rate.text', False)
    """
    match = _GATE.fullmatch(text)
    if match is None:
        signs = " ".join(sorted(COMPARISONS))
        hint = f"a gate is `metric.path <= 0.01`, with one of {signs} and a number"
        raise RecipeError(Problem(code="FDF208", message=f"cannot read the gate `{text}`", hint=hint))
    bound = float(match["bound"].replace("_", ""))
    return Gate(metric=match["metric"], comparison=match["comparison"], bound=bound)


def check_condition(document: Document, steps: Steps, sql: str) -> None:
    """Check a row-wise SQL predicate; findings go to the document."""
    from fdf.predicate import Predicate

    document.attempt(steps, lambda: Predicate.compile(sql))
