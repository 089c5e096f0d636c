"""Types and defaults of parameters in words, and prose of docstrings as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

_NAMES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}
_ARXIV = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})")
_CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)
LONGEST_DEFAULT = 160
"""Characters of a default that are shown; a longer list is cut."""


def in_words(schema: dict[str, Any]) -> str:
    """Return the type that a parameter's JSON Schema states, in a few words.

    >>> in_words({"anyOf": [{"type": "number"}, {"const": False, "type": "boolean"}, {"type": "null"}]})
    'number, `false` or null'
    >>> in_words({"type": "array", "items": {"enum": ["en", "de"], "type": "string"}})
    'list of (`"en"` or `"de"`)'
    """
    kinds = list(dict.fromkeys(_kinds(schema)))
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _kinds(schema: dict[str, Any]) -> list[str]:
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return [kind for part in choices for kind in _kinds(part)]
    if "const" in schema:
        return [f"`{_json(schema['const'])}`"]
    if "enum" in schema:
        return [f"`{_json(value)}`" for value in schema["enum"]]
    stated = schema.get("type")
    if isinstance(stated, list):
        # An integer that may also be written as a size.
        return (
            ["integer", 'text such as `"64 MiB"`']
            if "pattern" in schema
            else [_NAMES.get(str(s), str(s)) for s in stated]
        )
    if stated == "array":
        items = schema.get("items")
        if isinstance(items, list):
            return [f"list of {len(items)}: {', '.join(in_words(item) for item in items)}"]
        return [f"list of {_member(items)}" if items else "list"]
    if stated == "object" or "$ref" in schema or "allOf" in schema:
        values = schema.get("additionalProperties")
        return [f"mapping of names to {_member(values)}" if isinstance(values, dict) and values else "mapping"]
    return [_NAMES.get(str(stated), "any value")]


def _member(schema: dict[str, Any]) -> str:
    words = in_words(schema)
    return f"({words})" if " " in words else words


def default_in_words(value: Any) -> str:
    """Return a default as a recipe writes it. A list of hundreds is cut, and its length told."""
    written = _json(value)
    if len(written) <= LONGEST_DEFAULT or not isinstance(value, list):
        return f"`{written}`"
    return f"`{_json(value[:5])[:-1]}, ...]` ({len(value):,} in all)"


def markdown(prose: str, *, pages: Collection[str] = ()) -> str:
    """Return a docstring's prose as Markdown: code in single backticks, names of `pages` as links to them.

    >>> markdown("See `Other`: ``a < b`` and list<int> (arXiv 2112.11446).", pages=["Other"])
    'See [`Other`](Other.md): `a < b` and list&lt;int> ([arXiv 2112.11446](https://arxiv.org/abs/2112.11446)).'
    """
    out, at = [], 0
    for code in _CODE.finditer(prose):
        out.append(_plain(prose[at : code.start()]))
        written = " ".join((code[1] or code[2]).split())
        quoted = f"`{written}`" if "`" not in written else f"`` {written} ``"
        out.append(f"[{quoted}]({written}.md)" if written in pages else quoted)
        at = code.end()
    return "".join([*out, _plain(prose[at:])])


def cell(text: str) -> str:
    r"""Return Markdown that fits into a cell of a table.

    >>> print(cell("a | b"))
    a \| b
    """
    return " ".join(text.split()).replace("|", r"\|")


def _plain(prose: str) -> str:
    # Browsers would take `list<int>` for a tag, and show nothing.
    return _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", prose.replace("&", "&amp;").replace("<", "&lt;"))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
