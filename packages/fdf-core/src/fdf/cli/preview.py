"""`fdf preview`: the first rows through a recipe, before and after; writes nothing that stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from fdf.cli.options import json_option, recipe_argument, recipe_path, set_option

if TYPE_CHECKING:
    from fdf.report.preview import PreviewRow

LABEL = 14


@click.command(short_help="Show the first rows before and after; writes nothing.")
@recipe_argument
@click.option(
    "--rows", type=click.IntRange(1, 100_000), default=10, show_default=True, metavar="N", help="How many rows."
)
@click.option("--stage", metavar="STAGE", help="Only what this stage does; by default, all of them.")
@set_option
@json_option
def preview(*, recipe: str, rows: int, stage: str | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Run the first rows of RECIPE's input through its stages, in a temporary folder, and show each row before and
    after, its scores, and why it was dropped. Decisions and ids are those of the real run.
    """
    import tempfile
    from pathlib import Path

    from fdf.cli.screen import echo_json, say, show
    from fdf.cli.story import funnel_table
    from fdf.recipe import load
    from fdf.report.funnel import funnel
    from fdf.report.preview import preview as preview_rows

    loaded = load(recipe_path(recipe), sets=sets)
    with tempfile.TemporaryDirectory(prefix="fdf-preview-") as folder:
        made = preview_rows(loaded, rows=rows, stage=stage, folder=Path(folder))
    if as_json:
        echo_json(
            {
                "rows": [row.to_json() for row in made.rows],
                "funnel": [line.to_json() for m in made.manifests for line in funnel(m)],
                "evaluations": {k: v for m in made.manifests for k, v in m["evaluations"].items()},
            }
        )
        return
    for note in made.notes:
        say(f"note: {note}")
    for row in made.rows:
        show(*_lines(row), "")
    show(funnel_table(made.manifests))


def _lines(row: PreviewRow) -> Iterator[str]:
    from fdf.cli.screen import shortened, terminal_width
    from fdf.cli.story import scores_line

    width = terminal_width()
    yield shortened(f"{row.id}  {_outcome(row)}", width=width)
    if row.scores:
        yield f"  {'scores':<{LABEL}} {scores_line(row.scores)}"
    for name, value in (row.before or row.after or {}).items():
        yield f"  {name:<{LABEL}} {shortened(_text(value), width=width - LABEL - 3)}"
        after = (row.after or {}).get(name, value)
        if row.before is not None and row.after is not None and (after != value or name not in row.after):
            shown = _text(after) if name in row.after else "(removed)"
            yield f"  {'  becomes':<{LABEL}} {shortened(shown, width=width - LABEL - 3)}"
    for name in [n for n in row.after or {} if row.before is not None and n not in row.before]:
        yield f"  {'+ ' + name:<{LABEL}} {shortened(_text((row.after or {})[name]), width=width - LABEL - 3)}"


def _outcome(row: PreviewRow) -> str:
    if row.outcome == "kept":
        return "kept" if row.before is not None else "made, and kept"
    words = f"{row.outcome}" + (f" by {row.operator}" if row.operator else "")
    if row.reason:
        words += f": {row.reason}"
    return f"{words} {row.evidence}" if row.evidence else words


def _text(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
