"""`fdf run`: runs a recipe to its end, or resumes it where it stopped."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from fdf.cli.options import json_option, limit_option, recipe_argument, recipe_path, run_id_option, set_option

if TYPE_CHECKING:
    from fdf.cli.progress import RunProgress
    from fdf.errors import FdfError
    from fdf.plan.model import Plan
    from fdf.runner.result import RunResult
    from fdf.stage.events import Event


@click.command(short_help="Run a recipe, or resume it where it stopped.")
@recipe_argument
@click.option("--runner", metavar="NAME", help="Where it runs; `local` where it is installed, else `serial`.")
@run_id_option
@click.option("--fresh", is_flag=True, help="Start anew under a new run id instead of resuming.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="How many processes work; by default, the cores."
)
@limit_option
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where models run."
)
@click.option(
    "--ray-address", metavar="HOST:PORT", help="Run on this Ray cluster; `--runner ray` without it starts one here."
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
    ray_address: str | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run RECIPE: a file, or the name of a bundled pipeline (see `fdf pipelines list`).

    What is committed stays committed: run the same command again after a failure and only what is missing runs.
    """
    from fdf.cli.interrupts import cancelled_by_signals
    from fdf.cli.progress import RunProgress, face
    from fdf.cli.screen import echo_json_line
    from fdf.errors import FdfError
    from fdf.plan.compile import compile_plan
    from fdf.runner.run import load_run, open_runner, run_plan
    from fdf.stage.events import CancelToken

    path = recipe_path(recipe)
    loaded = load_run(path, sets=sets, run_id=run_id, limit=limit, fresh=fresh)
    plan = compile_plan(loaded, limit=limit, until=until)
    chosen = open_runner(runner, workers=workers, device=device, ray_address=ray_address)
    progress = RunProgress(input_bytes=_input_bytes(plan))
    cancel = CancelToken()

    def as_line(event: Event) -> None:
        progress.take(event)
        echo_json_line(event.to_json())

    try:
        with cancelled_by_signals(cancel):
            if as_json:
                result = run_plan(plan, chosen, on_event=as_line, cancel=cancel)
            else:
                _say_notes(plan)
                with face(progress) as shown:
                    result = run_plan(plan, chosen, on_event=shown.take, cancel=cancel)
    except FdfError as error:
        if progress.run_id is None:
            raise
        go_on = command_to_go_on(ctx, run_id=progress.run_id if fresh else run_id)
        ctx.exit(_tell_failure(error, progress, go_on, as_json=as_json))
    if as_json:
        echo_json_line({"event": "result", **_result_json(result)})
    else:
        _tell_result(result)
    ctx.exit(result.exit_code)


def _input_bytes(plan: Plan) -> int | None:
    """Return the size of all input files where the planner has listed them anyway, for the time left."""
    files = getattr(plan.stages[0].job.source, "files", None)
    if files is None or plan.limit is not None:
        return None
    return sum(file.size for file in files()) or None


def _say_notes(plan: Plan) -> None:
    from fdf.cli.screen import say

    for note in plan.notes:
        say(f"note: {note}")


def command_to_go_on(ctx: click.Context, *, run_id: str | None) -> str:
    """Return the command that resumes this run: the same one, but under its run id instead of a fresh one."""
    words = [*ctx.command_path.split(), str(ctx.params["recipe"])]
    if run_id is not None:
        words += ["--run-id", run_id]
    for name in ("runner", "workers", "limit", "until"):
        if ctx.params[name] is not None:
            words += [f"--{name}", str(ctx.params[name])]
    if ctx.params["device"] != "auto":
        words += ["--device", ctx.params["device"]]
    if ctx.params["ray_address"] is not None:
        words += ["--ray-address", ctx.params["ray_address"]]
    for assignment in ctx.params["sets"]:
        words += ["--set", assignment]
    return shlex.join(words)


def _result_json(result: RunResult) -> dict[str, Any]:
    from fdf.report.funnel import funnel

    return {
        "run_id": result.run_id,
        "status": "gates failed" if result.gates_failed else "finished",
        "exit_code": result.exit_code,
        "path": result.path,
        "stages": [
            {"stage": s.name, "root": s.root, "id": s.manifest["id"], "counts": s.manifest["counts"]}
            for s in result.stages
        ],
        "funnel": [line.to_json() for s in result.stages for line in funnel(s.manifest)],
        "gates_failed": list(result.gates_failed),
    }


def _tell_result(result: RunResult) -> None:
    from fdf.cli.screen import say, show
    from fdf.cli.story import counts_line, funnel_table
    from fdf.report.committed import read_stage

    say()
    show(funnel_table(s.manifest for s in result.stages))
    last = read_stage(result.path)
    say()
    say(f"dataset   {result.path}  ({counts_line(result.manifest)})")
    if last is not None:
        say(f"manifest  {last.manifest_uri}")
    say(f"look      fdf runs show {result.run_id} --dropped 5")
    for gate in result.gates_failed:
        say(f"gate failed: {gate}")
    if result.gates_failed:
        say("the stage is committed; stages after it were not started (exit code 1)")


def _tell_failure(error: FdfError, progress: RunProgress, go_on: str, *, as_json: bool) -> int:
    """Say what failed, how much is safe, and the command to go on; return the exit code."""
    from fdf.cli.failures import tell
    from fdf.cli.screen import echo_json_line, say
    from fdf.errors import Cancelled

    stage = progress.current
    where = f"stage `{stage.name}`" if stage is not None else "the run"
    interrupted = isinstance(error, Cancelled)
    if as_json:
        tell(error.problems, as_json=True)
        echo_json_line(
            {
                "event": "result",
                "run_id": progress.run_id,
                "status": "interrupted" if interrupted else "failed",
                "exit_code": error.exit_code,
                "stage": stage.name if stage else None,
                "safe": [
                    {"stage": s.name, "splits": s.done, "rows_in": s.safe_rows, "committed": s.counts is not None}
                    for s in progress.snapshot()
                ],
                "go_on": go_on,
            }
        )
        return error.exit_code
    if not interrupted:
        tell(error.problems, as_json=False)
        say()
    say(f"{'interrupted' if interrupted else 'failed'}: {where} of run {progress.run_id} (exit code {error.exit_code})")
    say(f"safe: {safe_words(progress)}")
    say(f"to go on: {go_on}")
    return error.exit_code


def safe_words(progress: RunProgress) -> str:
    """Return what stays committed, in words."""
    parts = []
    for stage in progress.snapshot():
        if stage.counts is not None:
            parts.append(f"all of `{stage.name}`")
        elif stage.done:
            splits = "1 split" if stage.done == 1 else f"{stage.done:,} splits"
            parts.append(f"{splits} ({stage.safe_rows:,} rows read) of `{stage.name}`")
    return ", ".join(parts) or "nothing was committed by this call yet, and nothing is lost"
