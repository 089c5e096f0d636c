"""A recipe from YAML, a file or a dict: read, overridden, filled in, checked and built; every mistake told at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdf.errors import Problem, RecipeError
from fdf.fingerprint import digest
from fdf.recipe.build import Builder
from fdf.recipe.document import Document, Steps, from_python, read_file, read_text
from fdf.recipe.grammar import GRAMMAR, NAME
from fdf.recipe.model import Recipe
from fdf.recipe.overrides import override
from fdf.recipe.redact import redact
from fdf.recipe.structure import check_structure
from fdf.recipe.templates import resolve


def load(
    source: str | Path | dict[str, Any],
    *,
    sets: Sequence[str] = (),
    run_id: str | None = None,
    idle: bool = False,
) -> Recipe:
    """Return the validated recipe of a YAML file, of YAML text (a string with a line break), or of a dict.

    `sets` are `path=value` overrides (see `fdf.recipe.overrides`). `run_id` is, unless given, the recipe's name and
    the first 10 hex digits of its config_hash. `idle` accepts a recipe that only says what is read. Nothing of the
    input, stores or hubs is looked at.

    Raises RecipeError with every problem found.
    """
    try:
        document = _read(source)
    except RecursionError:
        raise RecipeError(Problem(code="FDF103", message="the recipe is nested too deeply")) from None
    path = _path(source)
    base_dir = path.parent if path else Path()
    return assemble(document, sets=sets, run_id=run_id, path=path, base_dir=base_dir, idle=idle)


def check(source: str | Path | dict[str, Any], *, sets: Sequence[str] = (), run_id: str | None = None) -> list[Problem]:
    """Return every problem of a recipe; none where it is valid."""
    try:
        load(source, sets=sets, run_id=run_id)
    except RecipeError as error:
        return list(error.problems)
    return []


def assemble(
    document: Document,
    *,
    sets: Sequence[str] = (),
    run_id: str | None = None,
    path: Path | None = None,
    base_dir: Path,
    objects: Mapping[Steps, Any] | None = None,
    idle: bool = False,
) -> Recipe:
    """Return the recipe of a document. `objects` are ready operators by their place (`fdf.Pipeline`)."""
    override(document, sets)
    unresolved = resolve(document)
    check_structure(document, unresolved)
    if run_id is not None and not re.fullmatch(NAME, run_id):
        message = f"the run id `{run_id}` must be letters, digits, `.`, `_` and `-`"
        document.note(("--run-id",), Problem(code="FDF113", message=message))
    hidden = redact(unresolved)
    config_hash = digest(_what_is_made(hidden)) if not document.problems else ""
    chosen = run_id or f"{unresolved.get('name')}-{config_hash[:10]}"
    data = resolve(document, run_id=chosen)
    builder = Builder(document, base_dir, objects or {})
    given, stages, output = builder.input(data), builder.stages(data), builder.output(data)
    if not idle and not data.get("stages") and "output" not in data and set(data) <= set(GRAMMAR["properties"]):
        document.add((), "FDF141", "nothing to do: the recipe has neither stages nor an output",
                     hint="add `stages:`, or `output:` to convert the input")  # fmt: skip
    if document.problems:
        raise RecipeError(*document.ordered())
    assert given is not None
    return Recipe(
        name=data["name"],
        description=data.get("description", ""),
        seed=data.get("seed", 0),
        provenance=data.get("provenance", "full"),
        input=given,
        stages=stages,
        output=output,
        run_id=chosen,
        config_hash=config_hash,
        resolved=redact(data),
        path=path,
        base_dir=base_dir,
    )


def _read(source: str | Path | dict[str, Any]) -> Document:
    if isinstance(source, dict):
        return from_python(source)
    if isinstance(source, str) and "\n" in source:
        return read_text(source)
    return read_file(Path(source))


def _path(source: str | Path | dict[str, Any]) -> Path | None:
    return None if isinstance(source, dict) or (isinstance(source, str) and "\n" in source) else Path(source)


def _what_is_made(resolved: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe without what only decides whether its result is accepted.

    Who raises an error budget after a failure resumes the same run, and nothing runs again.
    """
    stages = resolved.get("stages")
    if not isinstance(stages, list):
        return resolved
    kept = [{k: v for k, v in s.items() if k not in ("min_errors", "max_error_rate")} for s in stages]
    return {**resolved, "stages": kept}
