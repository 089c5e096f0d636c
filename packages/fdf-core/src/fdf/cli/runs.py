"""`fdf runs`: what was run here, and what came of it."""

from __future__ import annotations

import click

from fdf.cli.lazy import LazyGroup
from fdf.cli.options import json_option

runs = LazyGroup(
    name="runs",
    homes={"list": "fdf.cli.runs:list_runs", "show": "fdf.cli.runs:show_run"},
    short_help="List runs, or show what one did.",
    help="What was run here: the records in $FDF_HOME/runs (default .fdf/runs).",
)


@click.command("list", short_help="List the recorded runs, the latest first.")
@json_option
def list_runs(*, as_json: bool) -> None:
    """List the recorded runs, the latest first."""
    from dataclasses import asdict

    from fdf.cli.screen import columns, echo_json, listed, say, show
    from fdf.plan.compile import fdf_home
    from fdf.runner.record import list_records

    records = list(list_records(fdf_home()))
    if as_json:
        echo_json([asdict(record) for record in records])
        return
    if not records:
        say(f"no run is recorded in {fdf_home() / 'runs'}")
        return
    table = columns("run", "status", "started", "stages committed", "recipe")
    for record in records:
        started = record.started_at[:19].replace("T", " ")
        done = f"{len(record.committed)}/{len(record.stages)}  {listed(record.committed)}"
        table.add_row(record.run_id, record.status, started, done, record.recipe_path or "-")
    show(table)


@click.command("show", short_help="Show a run: its funnel, where its dataset is, why rows went.")
@click.argument("run_id")
@click.option("--dropped", type=click.IntRange(min=0), default=0, metavar="N", help="Show N dropped rows with reasons.")
@json_option
def show_run(*, run_id: str, dropped: int, as_json: bool) -> None:
    """Show what the run RUN_ID did, from its manifests: the funnel, the reasons, and where everything is."""
    from dataclasses import asdict

    from fdf.cli.screen import echo_json, say, show
    from fdf.cli.story import counts_line, dropped_lines, funnel_table
    from fdf.report.committed import find_run, stages_of
    from fdf.report.dropped import dropped_examples
    from fdf.report.funnel import funnel
    from fdf.stage.manifest import remarks

    record = find_run(run_id)
    stages = stages_of(record)
    there = [stage for stage in stages.values() if stage is not None]
    examples = dropped_examples(there, count=dropped)
    if as_json:
        echo_json(
            {
                **asdict(record),
                "manifests": {stage.name: stage.manifest_uri for stage in there},
                "funnel": [line.to_json() for stage in there for line in funnel(stage.manifest)],
                "dropped_examples": [row.to_json() for row in examples],
                "remarks": [remark for stage in there for remark in remarks(stage.manifest)],
                "gates_failed": [gate for stage in there for gate in stage.manifest["gates_failed"]],
            }
        )
        return
    say(f"run {record.run_id}: {record.status}{f' ({record.error})' if record.error else ''}")
    show(funnel_table(stage.manifest for stage in there))
    show(*(f"{done.name}: {remark}" for done in there for remark in remarks(done.manifest)))
    if dropped:
        show("", f"Dropped, {len(examples)} of {sum(s.manifest['counts']['rows_dropped'] for s in there):,} rows")
        show(*(f"  {line}" for line in dropped_lines(examples)))
    show("")
    for name, root in record.stages.items():
        stage = stages[name]
        if stage is None:
            show(f"{name}: {root}  (not committed by this run, or replaced by another)")
        else:
            show(f"{name}: {root}  ({counts_line(stage.manifest)})", f"  manifest {stage.manifest_uri}")
