"""Decides which physical columns are read and what they are called: renames, aliases that everyone uses, types."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from fdf.errors import PlanError, did_you_mean

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
    that is absent. Raises PlanError for an old name that is not there.
    """
    names = list(physical.names)
    if columns is not None:
        for new, old in columns.items():
            if old not in names:
                raise PlanError(
                    f"`columns` asks for `{old}` (as `{new}`), which the input does not have",
                    help=did_you_mean(old, names) or f"it has: {', '.join(names)}",
                )
        return Naming(tuple(columns.items()))
    renamed: dict[str, str] = {}
    notes = []
    for target, aliases in ALIASES:
        present = [a for a in aliases if a in names]
        if target in names or not present:
            continue
        renamed[present[0]] = target
        more = f" (not `{'`, `'.join(present[1:])}`)" if len(present) > 1 else ""
        notes.append(f"column `{present[0]}`{more} is read as `{target}`")
    return Naming(tuple((renamed.get(n, n), n) for n in names), tuple(notes))


_SIMPLE = {
    "bool": pa.bool_(),
    "boolean": pa.bool_(),
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "int": pa.int64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float": pa.float64(),
    "float64": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
    "str": pa.string(),
    "utf8": pa.string(),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
    "bytes": pa.binary(),
    "large_binary": pa.large_binary(),
    "date": pa.date32(),
    "date32": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    **{f"timestamp[{unit}]": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
}
_LIST = re.compile(r"^(?:list|array)<(.+)>$")
_STRUCT = re.compile(r"^struct<(.+)>$")


def arrow_type(name: str, *, column: str = "") -> pa.DataType:
    """Return the Arrow type of a name such as `int64`, `string`, `list<string>` or `struct<w: int32, h: int32>`.

    Raises PlanError for a name that is no type.

    >>> arrow_type("list<int32>").value_type
    DataType(int32)
    """
    text = name.strip()
    if text in _SIMPLE:
        return _SIMPLE[text]
    inner = _LIST.match(text)
    if inner:
        element = inner.group(1).strip()
        return pa.list_(arrow_type(element.removeprefix("item:").removeprefix("element:"), column=column))
    fields = _STRUCT.match(text)
    if fields:
        pairs = [part.partition(":") for part in _top_level(fields.group(1))]
        return pa.struct([pa.field(k.strip(), arrow_type(v, column=column)) for k, _, v in pairs])
    where = f" of column `{column}`" if column else ""
    raise PlanError(
        f"`schema` knows no type `{name}`{where}",
        help=did_you_mean(text, _SIMPLE) or f"types are: {', '.join(sorted(_SIMPLE))}, list<...>, struct<name: ...>",
    )


def _top_level(text: str) -> list[str]:
    depth, parts, start = 0, [], 0
    for i, char in enumerate(text):
        depth += (char == "<") - (char == ">")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def declared_schema(schema: dict[str, str] | None) -> dict[str, pa.DataType]:
    """Return the declared types of a source's `schema:` option."""
    return {column: arrow_type(name, column=column) for column, name in (schema or {}).items()}
