"""Arguments and options that several commands share, and how a recipe is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


json_option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
set_option: Callable[[F], F] = click.option(
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a key of the recipe: --set vars.n=5. Repeatable.",
)
run_id_option: Callable[[F], F] = click.option(
    "--run-id", metavar="ID", help="Name the run; by default it follows from the recipe, so that running again resumes."
)
limit_option: Callable[[F], F] = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Read only the first N rows of the input."
)
recipe_argument: Callable[[F], F] = click.argument("recipe")


def recipe_path(recipe: str) -> Path:
    """Return the file of a recipe: a path, or the name of a bundled pipeline. Raises RecipeError for neither."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml", ".json") or "/" in recipe or path.is_file():
        return path
    from fdf.errors import MissingDependency, Problem, RecipeError, did_you_mean
    from fdf.registry import entries, find

    names = {name for e in entries("fdf.pipelines") for name in (e.name, e.qualified)}
    if recipe not in names:
        raise RecipeError(
            Problem(
                code="FDF502",
                message=f"`{recipe}` is neither a file nor a bundled recipe",
                hint=did_you_mean(recipe, names),
                help="fdf pipelines list",
            )
        )
    entry = find("fdf.pipelines", recipe)
    found = entry.resource()
    if found is None or not found.is_file():
        raise MissingDependency(
            f"the pipeline `{recipe}` of `{entry.distribution}` is announced, but its file is not there",
            help=f"pip install --upgrade --force-reinstall {entry.distribution}",
        )
    return found
