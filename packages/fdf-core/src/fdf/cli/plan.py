"""`fdf plan`: what a run would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fdf.cli.options import json_option, limit_option, recipe_argument, recipe_path, run_id_option, set_option

if TYPE_CHECKING:
    from fdf.plan.model import Plan, StagePlan


@click.command(short_help="Show what a run would do: stages, columns, places.")
@recipe_argument
@run_id_option
@limit_option
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@set_option
@json_option
def plan(
    *, recipe: str, run_id: str | None, limit: int | None, until: str | None, sets: tuple[str, ...], as_json: bool
) -> None:
    """Plan RECIPE without running it: looks at the input's files and columns, and says what each stage reads, adds and
    writes, and where. Exits with 2 where the recipe cannot run on this input.
    """
    from fdf.cli.screen import echo_json, show
    from fdf.plan.compile import compile_plan
    from fdf.runner.run import load_run

    loaded = load_run(recipe_path(recipe), sets=sets, run_id=run_id, limit=limit)
    made = compile_plan(loaded, limit=limit, until=until)
    inputs = _inputs(made)
    if as_json:
        echo_json({**made.describe(), "inputs": inputs})
        return
    show(f"{made.recipe.name}, run id {made.recipe.run_id}, recorded in {made.run_dir}")
    if inputs is not None:
        show(f"input: {_words(inputs)}" + (f", the first {limit:,} rows of them" if limit else ""))
    for note in made.notes:
        show(f"note: {note}")
    for stage in made.stages:
        show("", f"{stage.name} -> {stage.root}  ({stage.job.sink.type}, {stage.mode}, {stage.fingerprint[:12]})")
        _show_stage(stage)


def _inputs(made: Plan) -> dict[str, Any] | None:
    """Return how many files the source lists, and their bytes; None for a source without files."""
    listed = getattr(made.stages[0].job.source, "files", None)
    if listed is None:
        return None
    files = listed()
    return {"files": len(files), "bytes": sum(f.size for f in files), "first": [f.uri for f in files[:5]]}


def _words(inputs: dict[str, Any]) -> str:
    from fdf.cli.screen import plural, size

    more = ", ..." if inputs["files"] > 1 else ""
    return f"{plural(inputs['files'], 'file')}, {size(inputs['bytes'])} ({inputs['first'][0]}{more})"


def _show_stage(stage: StagePlan) -> None:
    from fdf.cli.screen import columns, listed, show

    described = stage.describe()
    show(f"  reads   {listed(f'{n}: {kind}' for n, kind in described['columns'].items())}  from {described['reads']}")
    if described["operators"]:
        table = columns("  operator", "kind", "op", "reads", "writes", "when")
        for operator in described["operators"]:
            writes = listed(f"{n}: {t}" if t else f"without {n}" for n, t in operator["writes"].items())
            reads = listed(operator["reads"])
            table.add_row(
                f"  {operator['id']}", operator["kind"], operator["op"], reads, writes, operator.get("when", "-")
            )
        show(table)
    show(f"  writes  {listed(f'{n}: {kind}' for n, kind in described['output'].items())}")
