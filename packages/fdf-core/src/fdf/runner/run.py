"""Runs a plan: stage after stage, each committed before the next begins, and says what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fdf.errors import Cancelled, FdfError, OtherWriter, PlanError, StageFailed
from fdf.hooks import installed
from fdf.plan.compile import compile_plan, fdf_home
from fdf.plan.job import OUTPUT_LAYOUT
from fdf.plan.model import Plan, StagePlan
from fdf.registry import entries
from fdf.registry import load as load_plugin
from fdf.runner.card import write_card
from fdf.runner.contract import Runner
from fdf.runner.record import RunRecord, begin, fresh_run_id, load_record, now, unpin
from fdf.runner.result import RunResult, StageResult
from fdf.stage.budget import Watch
from fdf.stage.directory import StageDirectory, check_writable
from fdf.stage.events import CancelToken, Emit, Event
from fdf.stage.manifest import remarks
from fdf.stage.manifest_file import read_manifest
from fdf.stage.mixing import MixtureRun, final_report, open_mixture
from fdf.stage.receipt import Receipt
from fdf.stage.shard_file import FileEntry
from fdf.stage.tasks import stage_tasks
from fdf.storage import open_store
from fdf.storage.failures import given_up, told_as_failure

if TYPE_CHECKING:
    from fdf.recipe.model import Recipe
    from fdf.recipe.pipeline import Pipeline

RecipeLike: TypeAlias = "Recipe | Pipeline | str | Path | dict[str, Any]"
EXIT_BUG = 70


def run(
    recipe: RecipeLike,
    *,
    runner: str | Runner | None = None,
    run_id: str | None = None,
    fresh: bool = False,
    workers: int | None = None,
    limit: int | None = None,
    until: str | None = None,
    device: str = "auto",
    ray_address: str | None = None,
    sets: Sequence[str] = (),
    on_event: Emit | None = None,
    cancel: CancelToken | None = None,
) -> RunResult:
    """Run a recipe to its end, or resume it where it stopped; return what came of it.

    `recipe` is a path, YAML as a dict, a `Pipeline` or a loaded `Recipe`. The other arguments are those of `fdf run`;
    `sets` holds its `--set a.b=c`. Raises an FdfError whose `exit_code` is what the command line would exit with.
    """
    loaded = load_run(recipe, sets=sets, run_id=run_id, limit=limit, fresh=fresh)
    plan = compile_plan(loaded, limit=limit, until=until)
    chosen = open_runner(runner, workers=workers, device=device, ray_address=ray_address)
    return run_plan(plan, chosen, on_event=on_event, cancel=cancel or CancelToken())


def load_recipe(recipe: RecipeLike, *, sets: Sequence[str] = (), run_id: str | None = None) -> Recipe:
    """Return a checked recipe, from whatever it is written in. Raises RecipeError."""
    from fdf.recipe import Recipe, load

    if isinstance(recipe, (str, Path, dict)):
        return load(recipe, sets=sets, run_id=run_id)
    if isinstance(recipe, Recipe):
        if not sets and run_id in (None, recipe.run_id):
            return recipe
        return load(recipe.resolved, sets=sets, run_id=run_id)
    return recipe.recipe(sets=sets, run_id=run_id)


def load_run(
    recipe: RecipeLike,
    *,
    sets: Sequence[str] = (),
    run_id: str | None = None,
    limit: int | None = None,
    fresh: bool = False,
) -> Recipe:
    """Return a checked recipe under the id of the run that is asked for. Raises RecipeError.

    Without an id of its own a trial of the first `limit` rows is another run than that of all rows, so that what FDF
    itself names after the run (its folder, `{{run_id}}`) is the trial's alone. `fresh` takes an id that no run has.
    """
    loaded = load_recipe(recipe, sets=sets, run_id=run_id)
    name = loaded.run_id if run_id is not None or limit is None else f"{loaded.run_id}-first-{limit}"
    if fresh:
        name = fresh_run_id(fdf_home(), name)
    return loaded if name == loaded.run_id else load_recipe(recipe, sets=sets, run_id=name)


def open_runner(
    runner: str | Runner | None, *, workers: int | None = None, device: str = "auto", ray_address: str | None = None
) -> Runner:
    """Return a runner by name; by default `local` where it is installed, else `serial`. Raises MissingDependency.

    A Ray cluster's address asks for the runner `ray`; with another one it is an error (PlanError).
    """
    if ray_address is not None and runner not in (None, "ray"):
        name = runner if isinstance(runner, str) else runner.name
        raise PlanError(
            f"the address of a Ray cluster was given, but the runner `{name}` uses none",
            help="leave `--ray-address` out, or run with `--runner ray`",
        )
    if runner is not None and not isinstance(runner, str):
        return runner
    if runner is None:
        runner = "local" if any(e.name == "local" for e in entries("fdf.runners")) else "serial"
        runner = runner if ray_address is None else "ray"
    address = {} if ray_address is None else {"address": ray_address}
    made: Runner = load_plugin("fdf.runners", runner)(workers=workers, device=device, **address)
    return made


def run_plan(
    plan: Plan, runner: Runner, *, on_event: Emit | None = None, cancel: CancelToken | None = None
) -> RunResult:
    """Run a plan's stages in order. What is committed stays committed, whatever happens to the rest."""
    runner.check(plan)
    for stage in plan.stages:
        with given_up(f"stage `{stage.name}`"), told_as_failure(f"stage `{stage.name}`", root=stage.root):
            check_writable(stage, run_id=plan.recipe.run_id)
    for step in (step for stage in plan.stages for step in stage.job.steps):
        step.use.operator.fetch()
    floor = _last_generation(plan)
    record = begin(plan, runner=runner.name)
    record.generation = max(record.generation, floor)
    record.save(plan.run_dir)
    return _Run(plan, runner, record, on_event, cancel or CancelToken()).to_its_end()


class _Run:
    """One run of a plan: what its steps share."""

    def __init__(
        self, plan: Plan, runner: Runner, record: RunRecord, on_event: Emit | None, cancel: CancelToken
    ) -> None:
        self._plan = plan
        self._runner = runner
        self._record = record
        self._on_event = on_event
        self._cancel = cancel
        self._hooks = installed()
        self._done: list[StageResult] = []

    def to_its_end(self) -> RunResult:
        """Run all stages; whatever happens, the record and everyone who listens learn how it ended."""
        record, run_id = self._record, self._record.run_id
        self._emit(Event(kind="run_started", data={"run_id": run_id, "stages": [s.name for s in self._plan.stages]}))
        self._hooks.call("fdf_run_started", run_id=run_id, recipe=self._plan.recipe)
        exit_code = EXIT_BUG
        try:
            for stage in self._plan.stages:
                if self._run_and_tell(stage)["gates_failed"]:
                    break
            if self._plan.stages[-1].job.layout == OUTPUT_LAYOUT and len(self._done) == len(self._plan.stages):
                what = "the card of the dataset, which is committed,"
                with given_up(what), told_as_failure(what, root=self._done[-1].root):
                    write_card(self._plan.recipe, self._done)
            result = RunResult(run_id=run_id, run_dir=self._plan.run_dir, stages=tuple(self._done))
            exit_code = result.exit_code
            record.status = "gates failed" if exit_code else "finished"
            unpin(self._plan)
        except (Cancelled, KeyboardInterrupt):
            record.status, exit_code = "interrupted", Cancelled.exit_code
            raise
        except FdfError as error:
            record.status, record.error, exit_code = "failed", error.problems[0].message, error.exit_code
            raise
        except BaseException as error:
            record.status, record.error = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            record.finished_at = now()
            with suppress(OSError):
                record.save(self._plan.run_dir)
            data = {"run_id": run_id, "status": record.status, "exit_code": exit_code}
            self._emit(Event(kind="run_finished", data=data))
            self._hooks.call("fdf_run_finished", run_id=run_id, exit_code=exit_code)
        return result

    def _emit(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        if event.kind == "split_committed":
            receipt = {"split": event.split, **event.data}
            self._hooks.call("fdf_shard_committed", run_id=self._record.run_id, stage=event.stage, receipt=receipt)

    def _run_and_tell(self, stage: StagePlan) -> dict[str, Any]:
        self._cancel.raise_if_cancelled()
        run_id = self._record.run_id
        self._emit(Event(kind="stage_started", stage=stage.name, data={"root": stage.root}))
        self._hooks.call("fdf_stage_started", run_id=run_id, stage=stage.name)
        try:
            manifest = self._survive(stage)
        except FdfError as error:
            self._emit(Event(kind="stage_failed", stage=stage.name, data={"error": error.problems[0].message}))
            raise
        self._done.append(StageResult(name=stage.name, root=stage.root, manifest=manifest))
        self._record.committed[stage.name] = manifest["id"]
        with told_as_failure("the record of the run", root=str(self._plan.run_dir)):
            self._record.save(self._plan.run_dir)
        data = {k: manifest[k] for k in ("id", "counts", "gates_failed")}
        self._emit(Event(kind="stage_committed", stage=stage.name, data=data))
        for message in remarks(manifest):
            self._emit(Event(kind="warning", stage=stage.name, data={"message": message}))
        self._hooks.call("fdf_stage_committed", run_id=run_id, stage=stage.name, manifest=manifest)
        return manifest

    def _survive(self, stage: StagePlan) -> dict[str, Any]:
        """Run a stage; a fault of the store or the machine fails it like any other, to be resumed."""
        what = f"stage `{stage.name}`"
        try:
            with given_up(what), told_as_failure(what, root=stage.root):
                return self._run_stage(stage)
        except StageFailed as error:
            if self._upstream_replaced(stage):
                raise OtherWriter(
                    f"another run committed a different result to {self._done[-1].root}, which stage `{stage.name}` "
                    "was reading",
                    help="run again to build on it, or give the two runs different paths",
                ) from error
            raise

    def _upstream_replaced(self, stage: StagePlan) -> bool:
        """Say whether what this stage reads is no longer what this run committed."""
        if not self._done:
            return False
        before = self._plan.stages[self._plan.stages.index(stage) - 1]
        try:
            found = read_manifest(open_store(before.root), before.job.layout.manifest)
        except (FdfError, OSError):
            return False  # The store's own trouble is what the stage failed of.
        return found is None or found[0]["id"] != self._done[-1].manifest["id"]

    def _run_stage(self, stage: StagePlan) -> dict[str, Any]:
        started_at = now()
        record = self._record
        directory = StageDirectory(
            stage,
            run_id=record.run_id,
            config_hash=record.config_hash,
            generation=f"{record.run_id}.{record.generation}" if stage.mode == "overwrite" else "0",
        )
        for message in directory.warnings:
            self._emit(Event(kind="warning", stage=stage.name, data={"message": message}))
        before = self._done[-1].manifest if self._done else None
        upstream = [FileEntry.from_json(f) for f in before["outputs"]] if before else None
        mixing: MixtureRun | None = None
        if stage.mixture is not None:
            mixing = open_mixture(
                stage.mixture,
                directory.job,
                upstream,
                before,
                limit=self._plan.limit,
                interrupted=self._cancel.raise_if_cancelled,
            )
            tasks = mixing.tasks(directory.job)
        else:
            tasks = stage_tasks(stage, directory.job, upstream, limit=self._plan.limit)
        watch = Watch(stage, sum(f.rows for f in upstream) if upstream is not None else None)

        def emit(event: Event) -> None:
            self._emit(event)
            if event.kind == "split_committed":
                watch.committed(event.data)
            if mixing is not None and event.kind in ("split_committed", "split_skipped"):
                mixing.streams.settled(event.split)

        pending = directory.pending(tasks, emit)
        try:
            self._runner.run(mixing.streams.provided(pending) if mixing is not None else pending, emit, self._cancel)
        except (StageFailed, OSError):
            # Another driver that has committed here also cleans up, and what it removes may be what is missing.
            directory.refuse_overtaken()
            raise
        finally:
            if mixing is not None:
                mixing.streams.close()
        self._cancel.raise_if_cancelled()
        manifest = directory.commit(
            {
                "code_version": code_version(),
                "recipe": self._plan.recipe.resolved,
                "upstream": before["id"] if before else None,
                "resources": {"runner": self._runner.name},
                "started_at": started_at,
                "finished_at": now(),
            },
            mixture=self._mixture_of(stage, mixing),
        )
        if mixing is not None:
            mixing.streams.clear(before=directory.started)
        return manifest

    def _mixture_of(
        self, stage: StagePlan, mixing: MixtureRun | None
    ) -> Callable[[Sequence[Receipt]], dict[str, Any]] | None:
        """Return what makes the manifest's `mixture`, in a run that mixes."""
        if mixing is not None:
            return mixing.report
        if stage.job.counted is None:
            return None
        mixed = self._done[0].manifest["mixture"] if self._plan.stages[0].mixture is not None else None
        return partial(final_report, mixed)


def code_version() -> str:
    """Return the version of FDF that is running."""
    from fdf import __version__

    return __version__


def _last_generation(plan: Plan) -> int:
    """Return the generation that must not be used again by `overwrite`, where the run's record is lost."""
    if load_record(plan.run_dir) is not None:
        return 0
    floor = 0
    for stage in plan.stages:
        if stage.mode != "overwrite":
            continue
        found = open_store(stage.root).read_tagged(stage.job.layout.manifest)
        generation = json.loads(found[0]).get("generation", "") if found else ""
        number = re.search(rf"-{re.escape(plan.recipe.run_id)}\.(\d+)$", generation)
        if number:
            floor = max(floor, int(number.group(1)) + 1)
    return floor


__all__ = ["RunResult", "load_recipe", "open_runner", "run", "run_plan"]
