"""What may be changed after a failure without running anything again, and what a trial may not replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import PlanError, StageFailed
from fdf.stage.events import Event

ROWS = 1000
BAD = 30


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stage without a path of its own, in which 30 of 1,000 rows cannot be cast."""
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    words = ["x" if n % 33 == 0 and n < 33 * BAD else str(n) for n in range(ROWS)]
    pq.write_table(pa.table({"n": words}), tmp_path / "in.parquet")
    cast = {"id": "cast", "kind": "refiner", "op": "CastColumns", "params": {"types": {"n": "int64"}}}
    source = {"type": "parquet", "path": str(tmp_path / "in.parquet")}
    return {"name": "budget", "input": source, "stages": [{"name": "s", "operators": [cast]}]}


def test_a_raised_budget_commits_what_failed_without_running_it_again(recipe: dict[str, Any]) -> None:
    with pytest.raises(StageFailed, match=f"{BAD} of {ROWS} rows failed"):
        fdf.run(recipe, runner="serial")
    recipe["stages"][0]["max_error_rate"] = 0.05
    events: list[Event] = []
    result = fdf.run(recipe, runner="serial", on_event=events.append)
    assert [e.kind for e in events if e.kind.startswith("split_")] == ["split_skipped"]
    assert result.manifest["counts"]["rows_quarantined"] == BAD
    assert result.manifest["counts"]["rows_out"] == ROWS - BAD


def test_a_trial_may_not_replace_the_whole_result(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["stages"][0] |= {"max_error_rate": 1.0, "materialize": {"path": str(tmp_path / "s")}}
    whole = fdf.run(recipe, runner="serial").manifest
    with pytest.raises(PlanError, match="result of all rows"):
        fdf.run(recipe, runner="serial", limit=5)
    assert fdf.run(recipe, runner="serial").manifest == whole


def test_a_trial_of_a_recipe_without_paths_is_a_run_of_its_own(recipe: dict[str, Any]) -> None:
    recipe["stages"][0] |= {"max_error_rate": 1.0}
    whole = fdf.run(recipe, runner="serial")
    trial = fdf.run(recipe, runner="serial", limit=5)
    assert trial.manifest["counts"]["rows_in"] == 5
    assert trial.run_id == f"{whole.run_id}-first-5"
    assert not Path(trial.path).is_relative_to(whole.run_dir)
    events: list[Event] = []
    assert fdf.run(recipe, runner="serial", on_event=events.append).manifest == whole.manifest
    assert [e.kind for e in events if e.kind.startswith("split_")] == ["split_skipped"]


def test_the_whole_may_replace_a_trial(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["stages"][0] |= {"max_error_rate": 1.0, "materialize": {"path": str(tmp_path / "s")}}
    assert fdf.run(recipe, runner="serial", limit=5).manifest["counts"]["rows_in"] == 5
    assert fdf.run(recipe, runner="serial", limit=7).manifest["counts"]["rows_in"] == 7
    assert fdf.run(recipe, runner="serial").manifest["counts"]["rows_in"] == ROWS
