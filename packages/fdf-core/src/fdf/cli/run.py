"""`fdf run`: runs a recipe to its end, or resumes it where it stopped."""

from __future__ import annotations

import click

from fdf.cli.options import json_option, limit_option, recipe_argument, recipe_path, run_id_option, set_option


@click.command(short_help="Run a recipe, or resume it where it stopped.")
@recipe_argument
@click.option("--runner", metavar="NAME", help="Where it runs; `local` where it is installed, else `serial`.")
@run_id_option
@click.option("--fresh", is_flag=True, help="Start anew under a new run id instead of resuming.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="How many processes work; by default, the cores.")
@limit_option
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where models run."
)
@set_option
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    *,
    recipe: str,
    runner: str | None,
    run_id: str | None,
    fresh: bool,
    workers: int | None,
    limit: int | None,
    until: str | None,
    device: str,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run RECIPE: a file, or the name of a bundled pipeline (see `fdf pipelines list`).

    What is committed stays committed: run the same command again after a failure and only what is missing runs.
    """
    from fdf.runner.run import run as run_recipe

    result = run_recipe(
        recipe_path(recipe),
        runner=runner,
        run_id=run_id,
        fresh=fresh,
        workers=workers,
        limit=limit,
        until=until,
        device=device,
        sets=sets,
    )
    if as_json:
        click.echo(__import__("json").dumps({"run_id": result.run_id, "path": result.path}))
    ctx.exit(result.exit_code)
