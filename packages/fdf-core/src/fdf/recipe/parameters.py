"""Parameters against the dataclass that declares them: the JSON Schema of its fields, and a checked instance.

The fields, annotations and defaults are mirrored into a dataclass of our own, so that pydantic's strictness (no text
for numbers, no unknown keys, also in nested dataclasses) does not depend on how an operator was written.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import to_jsonable_python

from fdf.errors import FdfError, did_you_mean
from fdf.operator import recipe_name
from fdf.recipe.draft07 import to_draft07
from fdf.recipe.field_docs import field_docs
from fdf.recipe.grammar import SIZE, Schema
from fdf.recipe.sizes import is_size_name, parse_size


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One mistake in parameters. `at` is the way to it; `of_key` where the key itself is the mistake."""

    fault: str
    """`unknown`, `missing`, `value`, `refused` or `undescribed`."""
    at: tuple[str | int, ...]
    message: str
    hint: str | None = None
    of_key: bool = False


def names(declared: type) -> list[str]:
    """List the parameters of a dataclass, as a recipe writes them."""
    return [recipe_name(f.name) for f in dataclasses.fields(declared) if f.init]


def json_schema(declared: type) -> Schema:
    """Return the JSON Schema (draft-07) of a dataclass's parameters. Raises TypeError where there can be none."""
    schema: Schema = to_draft07(_adapter(declared).json_schema())
    schema.pop("description", None)
    said = {recipe_name(name): text for name, text in field_docs(declared).items()}
    made = {
        recipe_name(f.name): f.default_factory
        for f in dataclasses.fields(declared)
        if f.init and f.default_factory is not dataclasses.MISSING
    }
    for name, field in schema.get("properties", {}).items():
        # pydantic leaves these out, so that `{}` would look like null; beside `$ref` draft-07 would ignore them.
        if name in made and "$ref" not in field:
            field.setdefault("default", to_jsonable_python(made[name]()))
        if name in said:
            field.setdefault("description", said[name])
        if _is_size(name, field):
            field["type"] = ["integer", "string"]
            field["pattern"] = SIZE
    return schema


def check(declared: type, given: dict[str, Any], *, beside: tuple[str, ...] = ()) -> tuple[Any, list[Finding]]:
    """Return an instance made from parameters as YAML gives them (a list for a tuple, an integer for a float), or
    None and what is wrong with them. `beside` are keys that stand among the parameters but are not theirs."""
    try:
        adapter = _adapter(declared)
    except TypeError as error:
        return None, [Finding(fault="undescribed", at=(), message=str(error))]
    known = names(declared)
    findings = [
        Finding(fault="unknown", at=(key,), message=key, hint=_near(key, [*beside, *known]), of_key=True)
        for key in given
        if key not in known
    ]
    wanted = {key: _bytes(key, value) for key, value in given.items() if key in known}
    try:
        mirror = adapter.validate_json(json.dumps(wanted), strict=True)
    except ValidationError as error:
        guessed = {finding.hint for finding in findings}
        told = _findings(error, wanted)
        # `min_word` for a required `min_words` is one mistake, not two.
        findings += [f for f in told if not (f.fault == "missing" and f"did you mean `{f.message}`?" in guessed)]
        return None, findings
    if findings:
        return None, findings
    try:
        return declared(**{f.name: getattr(mirror, f.name) for f in dataclasses.fields(declared) if f.init}), []
    except (ValueError, TypeError) as error:
        return None, [Finding(fault="refused", at=(), message=str(error))]
    except FdfError as error:
        return None, [Finding(fault="refused", at=(), message=p.message, hint=p.hint) for p in error.problems]


def stated(instance: Any) -> dict[str, Any]:
    """Return the parameters of an operator made in Python as a recipe would write them: those that differ from their
    defaults, as JSON values."""
    fields = [f for f in dataclasses.fields(instance) if f.init]
    values: dict[str, Any] = instance.params()
    stated = [f for f in fields if not _is_default(f, getattr(instance, f.name))]
    return {recipe_name(f.name): values[recipe_name(f.name)] for f in stated}


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return default is value or (type(default) is type(value) and bool(default == value))


@lru_cache(maxsize=512)
def _adapter(declared: type) -> TypeAdapter[Any]:
    if not dataclasses.is_dataclass(declared):
        raise TypeError(
            f"{declared.__name__} is not a dataclass: decorate it with @dataclass(frozen=True, kw_only=True)"
        )
    try:
        hints = get_type_hints(declared, include_extras=True)
        mirror = dataclasses.make_dataclass(
            declared.__name__,
            [
                (f.name, Annotated[hints[f.name], Field(alias=recipe_name(f.name))], _same_default(f))
                for f in dataclasses.fields(declared)
                if f.init
            ],
            kw_only=True,
            namespace={"__pydantic_config__": ConfigDict(extra="forbid", strict=True), "__doc__": declared.__doc__},
        )
        return TypeAdapter(mirror)
    except (NameError, PydanticUserError) as error:
        raise TypeError(f"the annotations of {declared.__name__} cannot be read: {error}") from error


def _same_default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=field.default) if field.default is not dataclasses.MISSING else dataclasses.field()


def _is_size(name: str, schema: Schema) -> bool:
    return is_size_name(name) and schema.get("type") == "integer"


def _bytes(name: str, value: Any) -> Any:
    """Read `64 MiB` as bytes where the parameter's name says that it is a size."""
    size = parse_size(value) if isinstance(value, str) and is_size_name(name) else None
    return value if size is None else size


def _near(name: str, known: list[str]) -> str | None:
    if not known:
        return "it takes no parameters"
    return did_you_mean(name, known) or f"there are: {', '.join(known)}"


def _findings(error: ValidationError, given: dict[str, Any]) -> list[Finding]:
    """Turn pydantic's errors into one finding per place: the members of a union are one mistake, not five."""
    by_place: dict[tuple[str | int, ...], list[Any]] = {}
    for found in error.errors(include_url=False, include_context=True):
        at = _existing(found["loc"], given)
        if found["type"] == "missing":  # the last step leads to nothing: it is the name of what is missing
            at = (*at, found["loc"][-1])
        by_place.setdefault(at, []).append(found)
    return [_finding(at, found) for at, found in by_place.items()]


def _existing(location: tuple[str | int, ...], given: Any) -> tuple[str | int, ...]:
    """Drop what pydantic adds to a location (the member of a union) and keep the steps that lead to a value."""
    here: Any = given
    kept: list[str | int] = []
    for step in location:
        inside = step in here if isinstance(here, dict) else isinstance(here, list) and isinstance(step, int)
        if inside:
            here = here[step]
            kept.append(step)
    return tuple(kept)


def _finding(at: tuple[str | int, ...], found: list[dict[str, Any]]) -> Finding:
    name = ".".join(str(step) for step in at)
    kinds = {f["type"] for f in found}
    if kinds == {"missing"}:
        return Finding(fault="missing", at=at, message=str(at[-1]) if at else "")
    if kinds == {"unexpected_keyword_argument"}:
        return Finding(fault="unknown", at=at, message=str(at[-1]), of_key=True)
    if kinds == {"literal_error"} and len(found) == 1:
        allowed = str(found[0]["ctx"]["expected"]).replace("'", "`")
        close = did_you_mean(
            str(found[0]["input"]), [part.strip("`") for part in allowed.replace(" or ", ", ").split(", ")]
        )
        return Finding(fault="value", at=at, message=f"`{name}` must be {allowed}", hint=close)
    wishes = list(dict.fromkeys(_wish(f["msg"]) for f in found))
    if "a number" in wishes and "an integer" in wishes:
        wishes.remove("an integer")
    return Finding(fault="value", at=at, message=f"`{name}` must be {' or '.join(wishes)}")


def _wish(message: str) -> str:
    wish = message.removeprefix("Input should be ").removeprefix("a valid ").removeprefix("Value error, ")
    words = {
        "array": "a list",
        "dictionary": "a mapping",
        "None": "null",
        "an object": "a mapping",
        "integer": "an integer",
    }
    return words.get(wish, f"a {wish}" if wish in ("string", "number", "boolean") else wish)
