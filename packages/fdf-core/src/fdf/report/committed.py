"""Finds and reads what was committed: the stages of a run, or one stage or output directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdf.errors import PlanError, Problem, did_you_mean
from fdf.plan.compile import fdf_home
from fdf.plan.job import OUTPUT_LAYOUT, STAGE_LAYOUT, Layout
from fdf.runner.record import RunRecord, list_records, load_record
from fdf.stage.manifest_file import read_manifest
from fdf.storage import open_store
from fdf.storage.base import Store
from fdf.storage.uri import local_path


@dataclass(frozen=True, kw_only=True)
class CommittedStage:
    """One stage directory and the manifest that is in force there."""

    root: str
    layout: Layout
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["stage"])

    @property
    def manifest_uri(self) -> str:
        return f"{self.root.rstrip('/')}/{self.layout.manifest}"

    def store(self) -> Store:
        """Open the store that holds the stage."""
        return open_store(self.root)


def read_stage(root: str) -> CommittedStage | None:
    """Return the stage or output that is committed below a root, or None. Raises StageFailed for a damaged manifest."""
    store = open_store(root)
    for layout in (STAGE_LAYOUT, OUTPUT_LAYOUT):
        found = read_manifest(store, layout.manifest)
        if found is not None and str(found[0].get("format", "")).startswith("fdf/"):
            return CommittedStage(root=root, layout=layout, manifest=found[0])
    return None


def find_run(run_id: str) -> RunRecord:
    """Return a run's record. Raises PlanError that names runs which are there."""
    record = load_record(fdf_home() / "runs" / run_id)
    if record is not None:
        return record
    known = [r.run_id for r in list_records(fdf_home())]
    raise PlanError(
        Problem(
            code="FDF351",
            message=f"no run `{run_id}` is recorded in {fdf_home() / 'runs'}",
            hint=did_you_mean(run_id, known),
            help="fdf runs list, or set FDF_HOME to where the run was recorded",
        )
    )


def stages_of(record: RunRecord) -> Mapping[str, CommittedStage | None]:
    """Return a run's stages by name in their order; None where nothing is committed, or another run's result is."""
    found: dict[str, CommittedStage | None] = {}
    for name, root in record.stages.items():
        stage = read_stage(root)
        found[name] = stage if stage is not None and stage.manifest["id"] == record.committed.get(name) else None
    return found


def find_stages(target: str) -> list[CommittedStage]:
    """Return the stages of a run, or the one below a path or URI. Raises PlanError where nothing is committed."""
    here = read_stage(target) if _could_be_place(target) else None
    if here is not None:
        return [here]
    record = load_record(fdf_home() / "runs" / target) if "/" not in target else None
    if record is not None:
        found = [s for s in stages_of(record).values() if s is not None]
        if found:
            return found
        raise PlanError(Problem(code="FDF352", message=f"run `{target}` has committed nothing", help="run it again"))
    if _could_be_place(target):
        message = f"nothing is committed in {target}: there is no manifest.json and no __fdf__/manifest.json"
        raise PlanError(Problem(code="FDF352", message=message, help="name a stage or output directory, or a run id"))
    find_run(target)
    raise AssertionError("find_run raises")


def _could_be_place(target: str) -> bool:
    path = local_path(target)
    return path is None or "/" in target or Path(path).exists()
