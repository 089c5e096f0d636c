"""The run's own record below `$FDF_HOME/runs/<run_id>`: which recipe, what was pinned, how it went. Never the truth:
that is in each stage's manifest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fdf.errors import PlanError
from fdf.plan.encoding import encode_schema
from fdf.plan.model import Plan


@dataclass(kw_only=True)
class RunRecord:
    """What `run.json` holds."""

    run_id: str
    name: str
    config_hash: str
    recipe_path: str | None
    status: str = "running"
    generation: int = 0
    stages: dict[str, str] = field(default_factory=dict)
    """The root of each stage that was planned; local ones absolute, as the record is read from any directory."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    """The fingerprint of each: it names the receipts that an unfinished run resumes from."""
    committed: dict[str, str] = field(default_factory=dict)
    """The manifest id of each stage that was committed."""
    started_at: str = ""
    finished_at: str | None = None
    error: str | None = None
    runner: str = ""

    def save(self, run_dir: Path) -> None:
        """Write the record whole."""
        run_dir.mkdir(parents=True, exist_ok=True)
        aside = run_dir / f".run.json.{os.getpid()}"
        aside.write_text(json.dumps(asdict(self), indent=1) + "\n")
        aside.replace(run_dir / "run.json")


def load_record(run_dir: Path) -> RunRecord | None:
    """Return the record of a run, or None where there is none that can be read."""
    try:
        value = json.loads((run_dir / "run.json").read_text())
        return RunRecord(**value)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def list_records(home: Path) -> Iterator[RunRecord]:
    """Yield the records of all runs, the latest first."""
    found = [load_record(p) for p in (home / "runs").glob("*")]
    yield from sorted((r for r in found if r is not None), key=lambda r: r.started_at, reverse=True)


def begin(plan: Plan, *, runner: str) -> RunRecord:
    """Start or resume the record of a plan's run, and pin what must not change until it is finished.

    The generation rises when the last run was finished, so that an unfinished `overwrite` resumes.
    """
    recipe = plan.recipe
    old = load_record(plan.run_dir)
    if old is not None and old.config_hash != recipe.config_hash and old.status != "finished":
        # Another recipe under this run_id: its pins do not hold any more.
        (plan.run_dir / "pins.json").unlink(missing_ok=True)
    record = RunRecord(
        run_id=recipe.run_id,
        name=recipe.name,
        config_hash=recipe.config_hash,
        recipe_path=str(recipe.path) if recipe.path else None,
        generation=0 if old is None else old.generation + (old.status == "finished"),
        stages={s.name: _anywhere(s.root) for s in plan.stages},
        fingerprints={s.name: s.fingerprint for s in plan.stages},
        started_at=now(),
        runner=runner,
    )
    try:
        record.save(plan.run_dir)
        pin(plan)
        (plan.run_dir / "recipe.json").write_text(json.dumps(recipe.resolved, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise PlanError(
            f"the run's record cannot be written to {plan.run_dir}: {error}", help="set FDF_HOME to a writable folder"
        ) from error
    return record


def _anywhere(root: str) -> str:
    return root if "://" in root else str(Path(root).absolute())


def pin(plan: Plan) -> None:
    """Keep what the input was resolved to, and its columns, for as long as the run is unfinished."""
    first = plan.stages[0]
    value: dict[str, Any] = {"config_hash": plan.recipe.config_hash}
    if first.physical_schema is not None:
        value["physical_schema"] = encode_schema(first.physical_schema)
        value["source"] = dict(first.job.source.pins()) if first.job.source is not None else {}
    elif first.mixture is not None:
        value["mixture"] = first.mixture.pins
    else:
        return
    (plan.run_dir / "pins.json").write_text(json.dumps(value) + "\n")


def unpin(plan: Plan) -> None:
    """Let the next run look at its input afresh."""
    (plan.run_dir / "pins.json").unlink(missing_ok=True)


def fresh_run_id(home: Path, run_id: str) -> str:
    """Return the first of `run_id-2`, `run_id-3`, ... that no run has; `run_id` itself where it is free."""
    taken = {p.name for p in (home / "runs").glob(f"{run_id}*")}
    if run_id not in taken:
        return run_id
    numbers = [int(m.group(1)) for t in taken if (m := re.fullmatch(re.escape(run_id) + r"-(\d+)", t))]
    return f"{run_id}-{max([1, *numbers]) + 1}"


def now() -> str:
    """Return the time as manifests and records write it: UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
