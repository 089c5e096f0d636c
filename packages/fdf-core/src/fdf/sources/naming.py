"""Decides which physical columns are read and what they are called: renames, aliases that everyone uses, types."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fdf.errors import PlanError, Problem, did_you_mean
from fdf.schema import PREFIX, is_internal
from fdf.typename import parse_type

ALIASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("text", ("content", "TEXT", "caption", "txt")),
    ("url", ("URL",)),
)
"""Names that everyone uses for `text` and `url`, the likeliest first."""


@dataclass(frozen=True)
class Naming:
    """Columns to read as (new name, physical name) in physical order, and what the plan should say of it."""

    pairs: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def resolve_columns(physical: pa.Schema, columns: dict[str, str] | None) -> Naming:
    """Return the columns to read under the names that the recipe sees.

    With `columns` (new: old) only these are read. Without it all are, and an alias takes a well-known name where
    that is absent; what FDF itself wrote of an earlier run's rows is left out, as rows get it anew. Raises PlanError
    for an old name that is not there, or a new one that is FDF's own.
    """
    names = list(physical.names)
    if columns is not None:
        problems = []
        for new, old in columns.items():
            if is_internal(new):
                message = f"`columns` gives the name `{new}`, which is FDF's own"
                problems.append(_wrong("columns", message, help=f"choose a name that does not start with `{PREFIX}`"))
            if old not in names:
                message = f"`columns` asks for `{old}` (as `{new}`), which the input does not have"
                have = f"it has: {', '.join(names)}"
                problems.append(_wrong("columns", message, hint=did_you_mean(old, names), help=have))
        if problems:
            raise PlanError(*problems)
        return Naming(tuple(columns.items()))
    renamed: dict[str, str] = {}
    notes = []
    if any(is_internal(n) for n in names):
        names = [n for n in names if not is_internal(n)]
        notes.append(f"the columns `{PREFIX}*` of an earlier run are left out; `columns:` keeps one under another name")
    for target, aliases in ALIASES:
        present = [a for a in aliases if a in names]
        if target in names or not present:
            continue
        renamed[present[0]] = target
        more = f" (not `{'`, `'.join(present[1:])}`)" if len(present) > 1 else ""
        notes.append(f"column `{present[0]}`{more} is read as `{target}`")
    return Naming(tuple((renamed.get(n, n), n) for n in names), tuple(notes))


def _wrong(key: str, message: str, *, hint: str | None = None, help: str | None = None) -> Problem:  # noqa: A002 (as Problem names it)
    return Problem(code=PlanError.default_code, message=message, about=key, hint=hint, help=help)


def declared_schema(schema: dict[str, str] | None) -> dict[str, pa.DataType]:
    """Return the declared types of a source's `schema:` option. Raises PlanError for a name that is no type.

    >>> declared_schema({"tags": "list<string>"})["tags"].value_type
    DataType(string)
    """
    types = {}
    for column, name in (schema or {}).items():
        try:
            types[column] = parse_type(name)
        except ValueError as error:
            raise PlanError(_wrong("schema", f"`schema` of column `{column}`: {error}")) from error
    return types
