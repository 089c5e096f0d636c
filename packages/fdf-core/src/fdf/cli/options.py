"""Arguments and options that several commands share, and how a recipe is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _remember(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001 (click calls it so)
    if value:
        ctx.meta["fdf.json"] = True
    return value


json_option: Callable[[F], F] = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_remember, help="Write JSON to stdout."
)
set_option: Callable[[F], F] = click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Override a key of the recipe: --set vars.n=5. Repeatable."
)
run_id_option: Callable[[F], F] = click.option(
    "--run-id", metavar="ID", help="Name the run; by default it follows from the recipe, so that running again resumes."
)
limit_option: Callable[[F], F] = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Read only the first N rows of the input."
)
recipe_argument: Callable[[F], F] = click.argument("recipe")


def recipe_path(recipe: str) -> Path:
    """Return the file of a recipe: a path, or the name of a bundled pipeline. Raises RecipeError."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml", ".json") or "/" in recipe or path.exists():
        return path
    from fdf.registry import find

    entry = find("fdf.pipelines", recipe)
    found = entry.resource()
    if found is None or not found.is_file():
        from fdf.errors import MissingDependency

        raise MissingDependency(
            f"the pipeline `{recipe}` of `{entry.distribution}` is announced, but its file is not there",
            help=f"pip install --upgrade --force-reinstall {entry.distribution}",
        )
    return found
