"""The grammar applied: unknown and missing keys, wrong types and values, each in a reader's words at its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from fdf.errors import did_you_mean
from fdf.recipe.document import Document, Steps, kind_of
from fdf.recipe.grammar import DEFINITIONS, GRAMMAR

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_HOLDERS = {
    "operator": "an operator",
    "stage": "a stage",
    "materialize": "`materialize`",
    "resources": "`resources`",
    "output": "`output`",
    "dataset": "a dataset of a mixture",
    "mixture": "a mixture",
}


def check_structure(document: Document, data: dict[str, Any]) -> None:
    """Check data (templates filled in) against the grammar; findings go to the document."""
    errors = list(Draft7Validator(GRAMMAR).iter_errors(data))
    # Unknown keys first: a key that is missing is often one that was misspelt, and that is told once.
    errors.sort(key=lambda e: e.validator != "additionalProperties")
    suggested: set[tuple[Steps, str]] = set()
    for error in errors:
        steps: Steps = tuple(error.absolute_path)
        if not document.sound(*steps) and error.validator not in ("additionalProperties", "required"):
            continue
        _tell(document, error, steps, suggested)


def _tell(document: Document, error: ValidationError, steps: Steps, suggested: set[tuple[Steps, str]]) -> None:
    instance: Any = error.instance
    wanted: Any = error.validator_value
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        for key in (k for k in instance if k not in known):
            hint = did_you_mean(key, known)
            if hint is not None:
                suggested.add((steps, hint.split("`")[1]))
            hint = hint or _lives_in(key, known) or f"there are: {', '.join(known)}"
            document.add((*steps, key), "FDF110", f"unknown key `{key}` in {_holder(steps)}", of="key", hint=hint)
    elif error.validator == "required":
        for key in (k for k in wanted if k not in instance and (steps, k) not in suggested):
            document.add((*steps, key), "FDF111", f"missing key `{key}` in {_holder(steps)}")
    elif error.validator == "type":
        kinds = " or ".join(_TYPES[t] for t in ([wanted] if isinstance(wanted, str) else wanted))
        document.add(steps, "FDF112", f"{_called(steps)} must be {kinds}, and is a {kind_of(instance)}")
    else:
        wish, choices = _wish(error, wanted, schema)
        hint = did_you_mean(str(instance), choices)
        document.add(steps, "FDF113", f"{_called(steps)} {wish}", hint=hint)


def _wish(error: ValidationError, wanted: Any, schema: Any) -> tuple[str, list[str]]:
    """Say what a value must be, and what it may be where there is a list of that."""
    match error.validator:
        case "enum":
            choices = [str(w) for w in wanted if w is not None]
            return f"must be one of {_listed(choices)}", choices
        case "pattern" if "examples" in schema:
            return f"must be one of {_listed(schema['examples'])}", schema["examples"]
        case "pattern":
            return f"must be {schema['description'].rpartition(': ')[2]}", []
        case "minimum":
            return f"must be at least {wanted}", []
        case "maximum":
            return f"must be at most {wanted}", []
        case "exclusiveMinimum":
            return f"must be greater than {wanted}", []
        case "minItems":
            return "must not be empty", []
        case "uniqueItems":
            return "names something twice", []
        case _:
            return f"does not fit: {error.message}", []


def _called(steps: Steps) -> str:
    """Name a value by its key; an item of a list by the list's."""
    keys = [s for s in steps if isinstance(s, str)]
    if not keys:
        return "the recipe"
    return f"`{keys[-1]}`" if isinstance(steps[-1], str) else f"an item of `{keys[-1]}`"


def _holder(steps: Steps) -> str:
    if not steps:
        return "the recipe"
    match steps:
        case ("stages", int(), "operators", int()):
            return "an operator"
        case ("stages", int()):
            return "a stage"
        case _:
            return _called(steps)


def _lives_in(key: str, known: Iterable[str]) -> str | None:
    """Say where a key of the grammar belongs, when it stands in the wrong place."""
    homes = [what for name, what in _HOLDERS.items() if key in DEFINITIONS[name]["properties"] and key not in known]
    if key in GRAMMAR["properties"] and key not in known:
        homes.append("the top level")
    return f"`{key}` belongs to {' or to '.join(homes)}" if homes else None


def _listed(choices: Iterable[str]) -> str:
    return ", ".join(f"`{c}`" for c in choices)
