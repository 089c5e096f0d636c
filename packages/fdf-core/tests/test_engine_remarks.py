"""What a person must not miss: files left out, a stage of which nothing came through, a gate on no metric."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fdf
from fdf.cli.main import main
from fdf.errors import PlanError
from fdf.operators.column_stats import ColumnStats


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"n": ["1", "2"]}), tmp_path / "in" / "a.parquet")
    return {
        "name": "remarks",
        "input": {"type": "parquet", "path": str(tmp_path / "in")},
        "stages": [{"name": "s", "materialize": {"path": str(tmp_path / "s")}, "operators": []}],
    }


def warnings(recipe: dict[str, Any]) -> list[str]:
    said: list[str] = []
    fdf.run(recipe, runner="serial", on_event=lambda e: said.append(e.data["message"]) if e.kind == "warning" else None)
    return said


def test_an_ordinary_run_warns_of_nothing(recipe: dict[str, Any]) -> None:
    assert warnings(recipe) == []


def test_skipped_files_are_told_during_the_run_and_afterwards(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "in" / "b.parquet").write_bytes(b"no parquet at all")
    recipe["input"]["on_bad_file"] = "skip"
    (said,) = warnings(recipe)
    assert said.startswith("1 of 2 inputs could not be read")
    assert "b.parquet" in said
    (record,) = (tmp_path / "home" / "runs").iterdir()
    shown = CliRunner().invoke(main, ["runs", "show", record.name])
    assert shown.exit_code == 0
    # The table printer wraps long lines.
    assert "1 of 2 inputs could not be read" in re.sub(r"\s+", " ", shown.output)


def test_a_stage_of_which_every_row_failed_is_told(recipe: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": ["x", "y"]}), tmp_path / "in" / "a.parquet")
    cast = {"id": "cast", "kind": "refiner", "op": "CastColumns", "params": {"types": {"n": "int64"}}}
    recipe["stages"][0]["operators"] = [cast]
    (said,) = warnings(recipe)
    assert said.startswith("all 2 rows of stage `s` failed")


def test_a_gate_on_a_metric_that_is_not_reported_is_found_before_any_row_is_read(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    stats = {"id": "stats", "kind": "evaluator", "op": "ColumnStats", "require": ["null_rate.m <= 0.5", "rows >= 1"]}
    recipe["stages"][0]["operators"] = [stats]
    with pytest.raises(PlanError, match=r"FDF315.*`null_rate\.m`") as caught:
        fdf.run(recipe, runner="serial")
    assert "null_rate.n" in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_the_metrics_that_column_stats_announces_are_those_that_it_reports() -> None:
    batch = pa.record_batch({"n": [1.0, None], "t": ["a", "b"], "l": [[1], None]})
    stats = ColumnStats()
    report = stats.report(stats.state(batch))
    told = {"rows"} | {f"{s}.{name}" for s, by_name in report.items() if isinstance(by_name, dict) for name in by_name}
    assert told <= set(stats.metrics(batch.schema))
    assert {m.partition(".")[0] for m in stats.metrics(batch.schema)} == set(report)
