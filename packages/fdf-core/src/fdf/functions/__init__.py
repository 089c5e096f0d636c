"""Plain functions as operators: `@fdf.filter` and its siblings, and `op: "my_ops.py:is_long"` in a recipe.

A function takes a record batch and returns arrays. Its further parameters, which all have defaults, are the operator's
parameters. What a decorator returns is an operator class like any other; called with a batch it still answers as the
function did, so that it can be tried and tested.

>>> import pyarrow as pa, pyarrow.compute as pc
>>> @filter(reads=("text",), reason="too_short")
... def is_long(batch, *, min_chars: int = 3):
...     return pc.greater_equal(pc.utf8_length(batch["text"]), min_chars)
>>> batch = pa.record_batch({"text": ["long", "no"]})
>>> is_long(batch).to_pylist(), is_long(min_chars=1).verdict(batch).codes.tolist()
([True, False], [0, 0])

With `rows=True` (or a first parameter named `row`) the function takes one row as a dict and returns one value. That is
the slow way: every value becomes a Python object, at some hundred thousand rows per second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from fdf.functions.classes import operator_class
from fdf.functions.files import load_operator

__all__ = ["evaluator", "filter", "generator", "load_operator", "refiner", "score"]

Types: TypeAlias = Mapping[str, str | pa.DataType | None]


def score(
    function: Callable[..., Any] | None = None,
    *,
    reads: Sequence[str] | None = None,
    writes: Types | None = None,
    rows: bool = False,
) -> Any:
    """Make a function that returns new columns a score operator.

    It returns an array where it writes one column, else a dict of arrays. `writes` gives the columns and their types;
    without it there is one column of the function's name, of the type that the function is annotated to return (bool,
    int, float or str; float64 otherwise). `reads` None: every column.
    """
    return _decorate(function, kind="score", reads=reads, writes=writes, rows=rows)


def evaluator(
    function: Callable[..., Any] | None = None,
    *,
    reads: Sequence[str] | None = None,
    writes: Types | None = None,
    rows: bool = False,
) -> Any:
    """Make a function that returns `eval.*` columns an evaluator, as `score` does.

    Its report tells of these columns what ColumnStats tells of any: `require: ["mean.eval.is_ok >= 0.9"]`.
    """
    return _decorate(function, kind="evaluator", reads=reads, writes=writes, rows=rows)


def filter(  # noqa: A001 (`fdf.filter` is its name)
    function: Callable[..., Any] | None = None,
    *,
    reads: Sequence[str] | None = None,
    reason: str | Sequence[str] | None = None,
    rows: bool = False,
) -> Any:
    """Make a function that judges rows a filter: it returns a boolean array, where **True keeps** the row.

    False and null drop it, for `reason` (by default `not_` and the function's name). A function that returns a
    `Verdict` gives its own reasons: `reason` then lists them all.
    """
    return _decorate(function, kind="filter", reads=reads, reason=reason, rows=rows)


def refiner(
    function: Callable[..., Any] | None = None,
    *,
    reads: Sequence[str] | None = None,
    writes: Types | Sequence[str] | None = None,
    rows: bool = False,
) -> Any:
    """Make a function that returns replaced columns a refiner.

    `writes` names them: a list where they keep their types, else types by name; None as the type removes the column.
    """
    return _decorate(function, kind="refiner", reads=reads, writes=writes, rows=rows)


def generator(
    function: Callable[..., Any] | None = None,
    *,
    reads: Sequence[str] | None = None,
    writes: Types | None = None,
    rows: bool = False,
    expands: bool = False,
) -> Any:
    """Make a function that returns generated columns a generator; or, with `expands=True`, one that returns new rows
    as an `Expansion`.

    `writes` then names the columns of the new rows, which may be columns that the parents have; the others they
    inherit. Without `writes` new rows inherit every column.
    """
    return _decorate(function, kind="generator", reads=reads, writes=writes, rows=rows, expands=expands)


def _decorate(function: Callable[..., Any] | None, *, kind: str, **declared: Any) -> Any:
    if function is None:
        return lambda decorated: operator_class(decorated, kind=kind, **declared)
    return operator_class(function, kind=kind, **declared)
