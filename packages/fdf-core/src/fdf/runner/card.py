"""The dataset card: what a finished output is and how it was made, for people, in Markdown beside its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fdf.plan.job import OUTPUT_LAYOUT
from fdf.schema import is_internal
from fdf.storage import open_store

if TYPE_CHECKING:
    from fdf.recipe.model import Recipe
    from fdf.runner.result import StageResult

PATH = f"{OUTPUT_LAYOUT.meta}README.md"


def write_card(recipe: Recipe, stages: Sequence[StageResult]) -> None:
    """Put the card of the last stage, an output, in its place; an older card is replaced."""
    store = open_store(stages[-1].root)
    card = render(recipe, stages).encode()
    there = store.read_tagged(PATH)
    if there is None or there[0] != card:
        # Two runs that commit the same result write the same card, so losing a race here loses nothing.
        store.swap(PATH, card, there[1] if there else None)


def render(recipe: Recipe, stages: Sequence[StageResult]) -> str:
    """Return the card: the columns, the way of the rows, and what names the result for good."""
    output = stages[-1].manifest
    size = sum(f["bytes"] for f in output["outputs"])
    rows = output["counts"]["rows_out"]
    lines = [f"# {recipe.name}", ""]
    if recipe.description:
        lines += [recipe.description, ""]
    lines += [f"{rows:,} rows in {len(output['outputs']):,} files, {size:,} bytes.", "", "## Columns", ""]
    lines += _table(
        ["column", "type"], [[c["name"], c["type"]] for c in output["schema"] if not is_internal(c["name"])]
    )
    lines += ["## How it was made", ""]
    lines += _table(["stage", "operator", "rows in", "rows out", "dropped"], [r for s in stages for r in _steps(s)])
    lines += [
        f"Made by FoundationDataFactory {output['code_version']}, run `{output['run_id']}`.",
        "The manifest beside this page has the recipe, the inputs and every file's checksum.",
        "",
        f"Manifest id: `{output['id']}`",
        "",
    ]
    return "\n".join(lines)


def _steps(stage: StageResult) -> list[list[str]]:
    counts = stage.manifest["counts"]
    whole = [stage.name, "", counts["rows_in"], counts["rows_out"], counts["rows_dropped"]]
    steps = [
        ["", f"{o['id']} ({o['op']} {o['version']})", o["rows_in"], o["rows_out"], o["rows_dropped"]]
        for o in stage.manifest["operators"]
    ]
    return [[f"{v:,}" if isinstance(v, int) else v for v in row] for row in [whole, *steps]]


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    cells = [[str(c).replace("|", "\\|") for c in row] for row in [head, ["---"] * len(head), *rows]]
    return [*("| " + " | ".join(row) + " |" for row in cells), ""]
