"""`fdf schema`: the JSON Schemas of what FDF reads and writes."""

from __future__ import annotations

import click

from fdf.cli.options import json_option

NAMES = ("recipe", "manifest", "receipt", "event")


@click.command(short_help="Print the JSON Schema of recipe, manifest, receipt or event.")
@click.argument("name", type=click.Choice(NAMES))
@json_option
def schema(*, name: str, as_json: bool) -> None:  # noqa: ARG001 (a schema is JSON either way)
    """Print a JSON Schema (draft-07). The recipe's includes every installed operator, so that editors complete it; the
    manifest's marks each key as deterministic or observed in `x-fdf-part`.
    """
    from fdf.cli.screen import echo_json

    if name == "recipe":
        from fdf.recipe import recipe_schema

        echo_json(recipe_schema())
        return
    from fdf.report.schemas import SCHEMAS

    echo_json(SCHEMAS[name])
