"""Columns that turn up in later files: left out and named, or an error; pruned columns are neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fdf
from fdf.errors import BadFile

FILES = 10
LATE = "0009.jsonl"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Ten files; the schema is taken from the first eight, and the last has a column more."""
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        name = f"{number:04}.jsonl"
        row = {"n": number, "unneeded": "x"} | ({"late": 1} if name == LATE else {})
        (tmp_path / "in" / name).write_text(json.dumps(row) + "\n")
    select = {"id": "select", "kind": "refiner", "op": "SelectColumns", "params": {"columns": ["n"]}}
    return {
        "name": "columns",
        "input": {"type": "jsonl", "path": str(tmp_path / "in")},
        "stages": [{"name": "s", "materialize": {"path": str(tmp_path / "s")}, "operators": [select]}],
    }


def test_a_late_column_is_left_out_and_named_in_its_input(recipe: dict[str, Any]) -> None:
    manifest = fdf.run(recipe, runner="serial").manifest
    assert manifest["counts"]["rows_out"] == FILES
    named = {Path(i["uri"]).name: list(i["extra_columns"]) for i in manifest["inputs"]}
    assert named == {f"{n:04}.jsonl": [] for n in range(FILES)} | {LATE: ["late"]}


def test_a_late_column_can_be_an_error_that_names_file_and_column(recipe: dict[str, Any]) -> None:
    recipe["input"]["extra_columns"] = "error"
    with pytest.raises(BadFile, match=LATE) as caught:
        fdf.run(recipe, runner="serial")
    assert "late" in str(caught.value)
    assert "unneeded" not in str(caught.value)


def test_an_evaluator_may_only_write_evaluations(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my_ops.py").write_text(
        "from dataclasses import dataclass\nimport pyarrow as pa\nimport fdf\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Lengths(fdf.Evaluator):\n"
        "    field: str = 'n'\n"
        "    version = '1'\n"
        "    def writes(self, schema): return {'length': pa.int64()}\n"
        "    def state(self, batch): return b''\n"
        "    def merge(self, a, b): return b''\n"
        "    def report(self, state): return {}\n"
    )
    lengths = {"id": "lengths", "kind": "evaluator", "op": f"{tmp_path}/my_ops.py:Lengths"}
    recipe["stages"][0]["operators"].insert(0, lengths)
    with pytest.raises(fdf.FdfError, match=r"FDF314.*`length`"):
        fdf.run(recipe, runner="serial")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"when": "unneeded"}, "FDF224"),
        ({"op": "ThresholdFilter", "kind": "filter", "params": {"field": "unneeded", "ge": 1}}, "FDF225"),
    ],
)
def test_what_does_not_fit_the_columns_is_told_by_the_plan_with_its_place(
    recipe: dict[str, Any], tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    recipe["stages"][0]["operators"][0] |= changes
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    with pytest.raises(fdf.FdfError, match=code) as caught:
        fdf.run(path, runner="serial")
    assert caught.value.problems[0].place is not None
    assert not (tmp_path / "home" / "runs").exists()
