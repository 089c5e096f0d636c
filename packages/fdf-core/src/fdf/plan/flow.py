"""Follows the columns through a chain of operators before any data is read.

Finds what each operator reads and writes on this input, names every column that is missing or claimed twice, and says
which input columns are needed at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from fdf.errors import FdfError, PlanError, Problem, did_you_mean
from fdf.operator import Evaluator
from fdf.plan.job import Step
from fdf.predicate import Predicate
from fdf.schema import ID, is_internal

if TYPE_CHECKING:
    from fdf.recipe.model import OperatorUse

EVALUATIONS = "eval."


def resolve_chain(uses: Sequence[OperatorUse], schema: pa.Schema) -> tuple[tuple[Step, ...], pa.Schema]:
    """Return the chain as steps, and the schema that leaves it. Raises PlanError with every problem found."""
    steps: list[Step] = []
    problems: list[Problem] = []
    owners: dict[str, str] = {}
    for use in uses:
        step = _resolve(use, schema, owners, problems)
        if step is None:
            # What later operators would find is unknown from here on.
            break
        steps.append(step)
        schema = step.schema_out
    if problems:
        raise PlanError(*problems)
    return tuple(steps), schema


def needed_columns(steps: Sequence[Step], output: pa.Schema, available: Iterable[str]) -> tuple[str, ...]:
    """Return the input columns that some operator reads or that a kept row still has, in their own order."""
    live = set(output.names)
    for step in reversed(steps):
        # A replaced column stays needed: rows may be left as they are (`when`, failures).
        live -= {name for name, _ in step.writes if name not in step.schema_in.names}
        live |= set(step.reads)
        if step.when is not None:
            live |= set(step.when.columns_in(step.schema_in))
    return tuple(name for name in available if name in live)


def prune(steps: Sequence[Step], schema: pa.Schema) -> tuple[tuple[Step, ...], pa.Schema]:
    """Resolve the chain again on fewer input columns, which are known to suffice."""
    return resolve_chain([s.use for s in steps], schema)


def rejected_schema(input_schema: pa.Schema, steps: Sequence[Step]) -> pa.Schema:
    """Return every column that a row has anywhere in the chain; one that changes its type is kept as text."""
    types: dict[str, pa.DataType] = {}
    for schema in (input_schema, *(s.schema_in for s in steps)):
        for field in schema:
            known = types.setdefault(field.name, field.type)
            if known != field.type:
                types[field.name] = pa.string()
    return pa.schema(list(types.items()))


def _resolve(use: OperatorUse, schema: pa.Schema, owners: dict[str, str], problems: list[Problem]) -> Step | None:
    """Return one operator's step on this schema, or None after adding what is wrong with it to `problems`."""
    try:
        reads = tuple(use.operator.reads(schema))
        when = Predicate.compile(use.when) if use.when else None
        asked = reads + (when.columns_in(schema) if when else ())
        missing = [c for c in dict.fromkeys(asked) if c not in schema.names and c != ID]
        if missing:
            problems += [_missing_column(use, c, schema) for c in missing]
            return None
        if when:
            when.check(schema)
        declared = dict(use.operator.writes(schema))
    except FdfError as error:
        problems += [p if p.place else replace(p, place=use.place) for p in error.problems]
        return None
    writes = {k: v for k, v in declared.items() if use.write_fields is None or k in use.write_fields}
    found = [_not_written(use, n, declared) for n in use.write_fields or () if n not in declared]
    found += [_reserved(use, n) for n in writes if is_internal(n)]
    if use.kind == "evaluator":
        found += [_not_an_evaluation(use, n) for n in writes if not n.startswith(EVALUATIONS)]
    if use.kind != "refiner" and not getattr(use.operator, "expands", False):
        found += [_claimed_twice(use, n, owners.get(n)) for n in writes if n in schema.names]
    found += _unknown_metrics(use, schema)
    if found:
        problems += found
        return None
    owners |= {n: use.id for n, kind in writes.items() if kind is not None}
    return Step(
        use=use,
        reads=reads,
        writes=tuple(writes.items()),
        when=when,
        schema_in=schema,
        schema_out=_after(schema, writes),
    )


def _after(schema: pa.Schema, writes: Mapping[str, pa.DataType | None]) -> pa.Schema:
    """Return a schema with columns replaced in their place, removed (None), or added at the end."""
    types = {f.name: f.type for f in schema} | dict(writes)
    return pa.schema([(name, kind) for name, kind in types.items() if kind is not None])


def _reserved(use: OperatorUse, name: str) -> Problem:
    return Problem(
        code="FDF312",
        message=f"`{use.id}` writes `{name}`, a name that is FDF's own",
        place=use.place,
        help="names that start with `__fdf__/` are reserved",
    )


def _unknown_metrics(use: OperatorUse, schema: pa.Schema) -> list[Problem]:
    operator = use.operator
    known = operator.metrics(schema) if isinstance(operator, Evaluator) and use.require else None
    if known is None:
        return []
    return [
        Problem(
            code="FDF315",
            message=f"`require` of `{use.id}` names the metric `{gate.metric}`, which {use.op} does not report here",
            place=use.place,
            hint=did_you_mean(gate.metric, known),
            help=f"it reports: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}",
        )
        for gate in use.require
        if gate.metric not in known
    ]


def _not_an_evaluation(use: OperatorUse, name: str) -> Problem:
    return Problem(
        code="FDF314",
        message=f"`{use.id}` is an evaluator and writes the column `{name}`",
        place=use.place,
        help=f"an evaluator's columns start with `{EVALUATIONS}`; one that adds other columns is a score",
    )


def _missing_column(use: OperatorUse, column: str, schema: pa.Schema) -> Problem:
    return Problem(
        code="FDF310",
        message=f"`{use.id}` ({use.op}) needs the column `{column}`, which rows do not have there",
        place=use.place,
        hint=did_you_mean(column, schema.names),
        help=f"the columns are: {', '.join(schema.names) or 'none'}",
    )


def _not_written(use: OperatorUse, name: str, writes: Iterable[str]) -> Problem:
    return Problem(
        code="FDF313",
        message=f"`write_fields` of `{use.id}` names `{name}`, which {use.op} does not write",
        place=use.place,
        hint=did_you_mean(name, writes),
        help=f"it writes: {', '.join(writes) or 'no columns'}",
    )


def _claimed_twice(use: OperatorUse, name: str, owner: str | None) -> Problem:
    other = f"`{owner}` writes already" if owner else "the input has already"
    return Problem(
        code="FDF311",
        message=f"`{use.id}` ({use.op}) writes the column `{name}`, which {other}",
        place=use.place,
        help="rename one with RenameColumns, drop one with `write_fields`, or use a refiner to replace a column",
    )
