"""The published JSON Schema of a recipe: the grammar, and what every installed package adds to it.

`fdf schema recipe` prints it, and an editor completes recipes with it. It imports every installed operator; one that
cannot be imported or described is left out, and its parameters are then unchecked in the editor.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from fdf import registry
from fdf.errors import FdfError
from fdf.recipe import parameters
from fdf.recipe.grammar import GRAMMAR, Schema

_TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{.*\}\}", "description": "A template: `{{name}}`."}
_ANY_TEMPLATE: Schema = {"$ref": "#/definitions/template"}
_SCALARS = {"string", "integer", "number", "boolean", "null"}
_NO_TEMPLATES = ("if", "default", "const", "enum", "examples", "required")


def recipe_schema() -> Schema:
    """Return the draft-07 schema of every recipe that this environment can run."""
    schema = copy.deepcopy(GRAMMAR)
    definitions: dict[str, Schema] = schema["definitions"]
    _add_operators(definitions)
    _add_types(definitions, "source", _classes("fdf.sources"), also=["mixture"])
    _add_types(definitions, "output", _classes("fdf.sinks"))
    definitions["output"]["required"].append("path")
    published: Schema = _templated(schema)
    published["definitions"]["template"] = _TEMPLATE
    return published


def operator_schema(declared: type) -> Schema:
    """Return the draft-07 schema of one operator's parameters. Raises TypeError where they cannot be described."""
    return parameters.json_schema(declared)


def _classes(group: str) -> dict[str, type]:
    """Return the importable classes of a group, by the name that a recipe writes."""
    announced = registry.entries(group)
    found: dict[str, type] = {}
    for entry in announced:
        name = entry.name if sum(e.name == entry.name for e in announced) == 1 else entry.qualified
        try:
            found[name] = registry.load_entry(entry)
        except FdfError:
            continue
    return found


def _described(classes: dict[str, type], definitions: dict[str, Schema], prefix: str) -> dict[str, Schema]:
    """Return each class's schema; what it defines moves to the top, under a name of its own."""
    out: dict[str, Schema] = {}
    for name, declared in sorted(classes.items()):
        try:
            schema = parameters.json_schema(declared)
        except TypeError:
            continue
        inner = schema.pop("definitions", {})
        for part, described in inner.items():
            definitions[_inner_name(prefix, name, part)] = _moved(described, prefix, name)
        out[name] = _moved(schema, prefix, name)
    return out


def _inner_name(prefix: str, owner: str, part: str) -> str:
    return re.sub(r"[^\w.-]", "_", f"{prefix}.{owner}.{part}")


def _moved(schema: Any, prefix: str, owner: str) -> Any:
    if isinstance(schema, list):
        return [_moved(part, prefix, owner) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        k: f"#/definitions/{_inner_name(prefix, owner, v.rpartition('/')[2])}"
        if k == "$ref" and isinstance(v, str)
        else _moved(v, prefix, owner)
        for k, v in schema.items()
    }


def _add_operators(definitions: dict[str, Schema]) -> None:
    classes = _classes("fdf.operators")
    operator = definitions["operator"]
    described = _described(classes, definitions, "operator")
    operator["properties"]["op"]["anyOf"] = [{"enum": sorted(classes)}, {"type": "string"}]
    cases = []
    for name, params in described.items():
        definitions[f"params.{name}"] = params
        then: Schema = {"properties": {"params": {"$ref": f"#/definitions/params.{name}"}}}
        kind = getattr(classes[name], "kind", None)
        if kind is not None:
            then["properties"]["kind"] = {"const": kind}
        if params.get("required"):
            then["required"] = ["params"]
        cases.append({"if": {"properties": {"op": {"const": name}}, "required": ["op"]}, "then": then})
    if cases:
        operator["allOf"] = cases


def _add_types(
    definitions: dict[str, Schema], what: str, classes: dict[str, type], *, also: list[str] | None = None
) -> None:
    described = _described(classes, definitions, what)
    base = definitions[what]
    base["properties"]["type"]["enum"] = sorted([*classes, *(also or [])])
    cases = []
    for name, options in described.items():
        then = {
            "properties": {**dict.fromkeys(base["properties"], True), **options.get("properties", {})},
            "required": options.get("required", []),
            "additionalProperties": False,
        }
        cases.append({"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": then})
    base["allOf"] = cases


def _templated(schema: Any) -> Any:
    """Allow `"{{name}}"` wherever a number, a choice or a patterned text is asked for: editors see templates."""
    if isinstance(schema, list):
        return [_templated(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    said = {k: v for k, v in schema.items() if k in ("description", "default")}
    if _is_scalar(schema):
        return {**said, "anyOf": [{k: v for k, v in schema.items() if k not in said}, _ANY_TEMPLATE]}
    if any(map(_is_scalar, schema.get("anyOf", []))):
        members = [part if _is_scalar(part) else _templated(part) for part in schema["anyOf"]]
        return {**{k: _inside(k, v) for k, v in schema.items()}, "anyOf": [*members, _ANY_TEMPLATE]}
    return {k: _inside(k, v) for k, v in schema.items()}


def _is_scalar(schema: Schema) -> bool:
    """Say whether a schema asks for one value that a template's text would not be."""
    kinds = schema.get("type", "string")
    if not set([kinds] if isinstance(kinds, str) else kinds) <= _SCALARS:
        return False
    return "enum" in schema or "pattern" in schema or ("type" in schema and kinds != "string")


def _inside(keyword: str, value: Any) -> Any:
    if keyword in ("properties", "definitions"):
        return {name: _templated(part) for name, part in value.items()}
    # What a condition compares is no place for a template, and values are not schemas.
    return value if keyword in _NO_TEMPLATES else _templated(value)
