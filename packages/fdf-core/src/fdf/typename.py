"""Arrow types by name, as recipes write them: `float32`, `timestamp[us]`, `list<string>`, `struct<a: int64>`."""

from __future__ import annotations

import re

import pyarrow as pa

from fdf.errors import did_you_mean

_FORM = "write an Arrow type such as int64, float32, string, bool, timestamp[us], list<string> or struct<a: int64>"
_SIMPLE = (
    "int64",
    "int32",
    "float64",
    "float32",
    "string",
    "large_string",
    "bool",
    "binary",
    "timestamp[us]",
    "date32",
)


def parse_type(name: str) -> pa.DataType:
    """Return the Arrow type of this name; what `str(type)` prints is understood too.

    >>> parse_type("list<struct<url: string, size: int64>>").value_type.names
    ['url', 'size']

    Raises ValueError that says what is allowed.
    """
    text = name.strip()
    nested = re.fullmatch(r"(list|large_list|struct)\s*<(.*)>", text, re.DOTALL)
    try:
        if nested is None:
            return _simple(text)
        parts = _split(nested[2])
        if nested[1] == "struct":
            return pa.struct([_field(part) for part in parts])
        # Arrow prints the name of a list's values too: `list<element: string>`.
        (inner,) = parts
        values = parse_type(re.sub(r"^\w+\s*:\s+", "", inner))
        return pa.large_list(values) if nested[1] == "large_list" else pa.list_(values)
    except (ValueError, pa.ArrowInvalid) as error:
        hint = did_you_mean(text, _SIMPLE)
        raise ValueError(f"`{name}` is not the name of a type; " + (f"{hint} " if hint else "") + _FORM) from error


def _simple(text: str) -> pa.DataType:
    if decimal := re.fullmatch(r"decimal(?:128)?\((\d+),\s*(-?\d+)\)", text):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if zoned := re.fullmatch(r"timestamp\[(s|ms|us|ns),\s*tz=([^\]]+)\]", text):
        return pa.timestamp(zoned[1], tz=zoned[2])
    return pa.type_for_alias(re.sub(r"^date(32|64)\[\w+\]$", r"date\1", text))


def _field(text: str) -> pa.Field:
    name, colon, kind = text.partition(":")
    if not colon:
        raise ValueError(f"`{text}` has no type")
    return pa.field(name.strip(), parse_type(kind))


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "<([") - (character in ">)]")
        if character == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]
