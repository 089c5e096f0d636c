"""JSON Schema 2020-12, as pydantic writes it, into draft-07, as editors complete it."""

from __future__ import annotations

from typing import Any

_VALUES = ("default", "const", "enum", "examples")
_RENAMED = {"$defs": "definitions"}


def to_draft07(schema: Any) -> Any:
    """Return the same schema in draft-07: `definitions` for `$defs`, lists of `items` for `prefixItems`; without the
    titles that only repeat a field's name."""
    if isinstance(schema, list):
        return [to_draft07(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # Titles repeat the field's name; `discriminator` is OpenAPI's.
    out = {k: v if k in _VALUES else to_draft07(v) for k, v in schema.items() if k not in ("$defs", "discriminator")}
    if isinstance(out.get("title"), str):
        del out["title"]
    for key in ("properties", "$defs"):
        if key in schema:
            out[_RENAMED.get(key, key)] = {name: to_draft07(part) for name, part in schema[key].items()}
    if "prefixItems" in out:
        out["additionalItems"] = out.pop("items", False)
        out["items"] = out.pop("prefixItems")
    if "$ref" in out:
        reference = {"$ref": out.pop("$ref").replace("#/$defs/", "#/definitions/")}
        # Beside `$ref` draft-07 ignores every other key.
        return {**out, "allOf": [reference]} if out else reference
    return out
