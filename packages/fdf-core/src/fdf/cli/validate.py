"""`fdf validate`: every mistake of a recipe at once, without reading any input."""

from __future__ import annotations

import click

from fdf.cli.options import json_option, recipe_argument, recipe_path, set_option


@click.command(short_help="Find every mistake in a recipe; reads no data.")
@recipe_argument
@set_option
@json_option
def validate(*, recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE: its grammar, and every operator's parameters. All mistakes are told at once, each with its line and
    column; the exit code is then 2. Inputs, stores and hubs are not looked at: `fdf plan` does that.
    """
    from fdf.cli.screen import echo_json, show
    from fdf.errors import RecipeError
    from fdf.recipe import load

    path = recipe_path(recipe)
    try:
        loaded = load(path, sets=sets)
    except RecipeError as error:
        if as_json:
            echo_json({"valid": False, "problems": [p.to_json() for p in error.problems]})
        raise
    operators = sum(len(stage.operators) for stage in loaded.stages)
    if as_json:
        echo_json(
            {
                "valid": True,
                "problems": [],
                "name": loaded.name,
                "run_id": loaded.run_id,
                "config_hash": loaded.config_hash,
                "stages": [stage.name for stage in loaded.stages],
                "operators": operators,
            }
        )
        return
    show(f"{path}: valid. {loaded.name}: {len(loaded.stages)} stages, {operators} operators, run id {loaded.run_id}")
