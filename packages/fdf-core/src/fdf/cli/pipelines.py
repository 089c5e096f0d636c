"""`fdf pipelines`: the recipes that come with installed packages."""

from __future__ import annotations

from pathlib import Path

import click

from fdf.cli.lazy import LazyGroup
from fdf.cli.options import json_option

pipelines = LazyGroup(
    name="pipelines",
    homes={
        "list": "fdf.cli.pipelines:list_pipelines",
        "show": "fdf.cli.pipelines:show_pipeline",
        "copy": "fdf.cli.pipelines:copy_pipeline",
    },
    short_help="List, show or copy the recipes that come with packages.",
    help="The recipes that come with installed packages. `fdf run NAME` runs one as it is; copy it to change it.",
)


@click.command("list", short_help="List the bundled recipes.")
@json_option
def list_pipelines(*, as_json: bool) -> None:
    """List the recipes that installed packages announce."""
    from fdf.cli.screen import columns, echo_json, say, show
    from fdf.registry import entries

    found = [
        {
            "name": entry.name,
            "distribution": entry.distribution,
            "path": str(entry.resource() or ""),
            "description": _description(entry.resource()),
        }
        for entry in entries("fdf.pipelines")
    ]
    if as_json:
        echo_json(found)
        return
    table = columns("pipeline", "what it does", "package")
    for pipeline in found:
        table.add_row(pipeline["name"], pipeline["description"], pipeline["distribution"])
    if found:
        show(table)
    else:
        say("no installed package brings a recipe")


def _description(path: Path | None) -> str:
    import yaml

    if path is None:
        return "(its file is not there)"
    try:
        said = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        return f"(cannot be read: {error})"
    return str(said.get("description", "")) if isinstance(said, dict) else ""


@click.command("show", short_help="Print a bundled recipe.")
@click.argument("name")
@json_option
def show_pipeline(*, name: str, as_json: bool) -> None:
    """Print the recipe NAME as it is written; with --json, as data."""
    import yaml

    from fdf.cli.options import recipe_path
    from fdf.cli.screen import echo_json

    text = recipe_path(name).read_text("utf-8")
    if as_json:
        echo_json(yaml.safe_load(text))
        return
    click.echo(text, nl=not text.endswith("\n"))


@click.command("copy", short_help="Copy a bundled recipe here, to change it.")
@click.argument("name")
@click.argument("destination", type=click.Path(path_type=Path), required=False)
@json_option
def copy_pipeline(*, name: str, destination: Path | None, as_json: bool) -> None:
    """Copy the recipe NAME to DESTINATION (a file or folder; by default NAME.yaml here). Never overwrites."""
    from fdf.cli.options import recipe_path
    from fdf.cli.screen import echo_json, say
    from fdf.errors import PlanError, Problem

    source = recipe_path(name)
    target = destination or Path()
    if target.is_dir():
        target = target / source.name
    try:
        with target.open("x", encoding="utf-8") as copy:
            copy.write(source.read_text("utf-8"))
    except FileExistsError as error:
        raise PlanError(
            Problem(code="FDF002", message=f"{target} is there already", help="name another destination, or remove it")
        ) from error
    except FileNotFoundError as error:
        raise PlanError(
            Problem(code="FDF002", message=f"{target.parent} is no folder", help="make it, or name another destination")
        ) from error
    if as_json:
        echo_json({"path": str(target)})
        return
    say(f"copied to {target}; next: fdf validate {target}")
