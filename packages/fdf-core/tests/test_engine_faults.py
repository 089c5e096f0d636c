"""What a run does when others write to the same place, operators misbehave, or inputs are not what they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import FdfError, OtherWriter, PlanError, StageFailed, TransientError
from fdf.storage.local import LocalStore

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def recipe(tmp_path, op, words) -> dict[str, Any]:
    words("a", ["x", "long one"])
    words("b", ["yyyy", None])
    words("c", ["z"])
    return {
        "name": "faults",
        "input": {"type": "parquet", "name": "src", "path": f"{tmp_path}/in/*.parquet"},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": str(tmp_path / "one")},
                "operators": [op("score", "Lengths"), op("filter", "Short", most=3)],
            }
        ],
        "output": {"type": "parquet", "path": str(tmp_path / "out"), "shard_size": 1},
    }


def assert_holds_exactly_its_manifests_files(root: Path) -> None:
    found = next(p for p in (root / "manifest.json", root / "__fdf__" / "manifest.json") if p.exists())
    manifest = json.loads(found.read_text())
    named = {f["path"] for part in ("outputs", "dropped", "quarantine") for f in manifest[part]}
    assert {str(p.relative_to(root)) for p in root.rglob("part-*") if ".fdf-tmp" not in p.parts} == named


class Interrupt:
    """Runs another recipe to its end at the nth event of a kind, inside the run that it watches."""

    def __init__(self, kind: str, number: int, other: dict[str, Any]) -> None:
        self.kind, self.left, self.other = kind, number, other
        self.result: Any = None

    def __call__(self, event) -> None:
        if event.kind != self.kind or self.result is not None:
            return
        self.left -= 1
        if self.left == 0:
            self.result = fdf.run(self.other, runner="serial", run_id="other")


MOMENTS = [
    ("run_started", 1),
    ("stage_started", 1),
    ("split_started", 2),
    ("split_committed", 2),
    ("stage_committed", 1),
    ("stage_started", 2),
    ("split_committed", 4),
]


@pytest.mark.parametrize(("kind", "number"), MOMENTS)
def test_the_same_recipe_run_by_another_driver_meanwhile_changes_nothing(tmp_path, recipe, contents, kind, number):
    other = Interrupt(kind, number, recipe)
    result = fdf.run(recipe, runner="serial", run_id="mine", on_event=other)
    assert [s.manifest["id"] for s in result.stages] == [s.manifest["id"] for s in other.result.stages]
    for folder in ("one", "out"):
        assert_holds_exactly_its_manifests_files(tmp_path / folder)
    together = contents(tmp_path)
    alone = json.loads(json.dumps(recipe).replace(f'"{tmp_path}/o', f'"{tmp_path}/alone/o'))
    fdf.run(alone, runner="serial", run_id="alone")
    assert contents(tmp_path / "alone") == {k: v for k, v in together.items() if not k.startswith("alone")}


@pytest.mark.parametrize(("kind", "number"), MOMENTS)
def test_of_two_drivers_with_different_recipes_one_says_that_another_wrote(tmp_path, recipe, kind, number):
    changed = json.loads(json.dumps(recipe))
    changed["stages"][0]["operators"][1]["params"]["most"] = 0
    other = Interrupt(kind, number, changed)
    outcome: Any
    try:
        outcome = fdf.run(recipe, runner="serial", run_id="mine", on_event=other)
    except FdfError as error:
        outcome = error
    if isinstance(outcome, FdfError):
        # Also where the other had already cleaned up what this one was reading or about to commit.
        assert isinstance(outcome, OtherWriter)
        assert outcome.exit_code == 5
        told = json.loads((tmp_path / "one" / "manifest.json").read_text())
        assert told["id"] == other.result.manifests["one"]["id"]
    else:
        assert outcome.manifest["counts"]["rows_out"] == 2
    # Whoever comes last has it all.
    last = fdf.run(recipe, runner="serial", run_id="mine")
    assert last.to_arrow()["text"].to_pylist() == ["x", "z"]
    for folder in ("one", "out"):
        assert_holds_exactly_its_manifests_files(tmp_path / folder)


@pytest.mark.parametrize("way", ["short", "type", "extra", "nothing", "not a dict", "setup"])
def test_an_operator_that_breaks_its_contract_fails_the_stage_by_name(tmp_path, recipe, op, way):
    recipe["stages"][0]["operators"] = [op("score", "Wrong", "culprit", way=way)]
    with pytest.raises(StageFailed, match="culprit") as failed:
        fdf.run(recipe, runner="serial")
    assert failed.value.exit_code == 3
    assert not (tmp_path / "one" / "manifest.json").exists()
    assert not list((tmp_path / "one").rglob("part-*"))


@pytest.mark.parametrize("way", ["nan", "object", "raises"])
def test_an_evaluator_whose_report_is_no_json_fails_the_stage_by_name(tmp_path, recipe, op, way):
    recipe["stages"][0]["operators"].append(op("evaluator", "Unfit", "culprit", way=way))
    with pytest.raises(StageFailed, match="culprit"):
        fdf.run(recipe, runner="serial")
    assert not (tmp_path / "one" / "manifest.json").exists()


@pytest.mark.parametrize("times", [2, 99])
def test_a_fault_that_passes_blames_no_row_and_one_that_stays_fails_the_stage(tmp_path, recipe, op, times, monkeypatch):
    monkeypatch.setattr("fdf.stage.attempts.FIRST_PAUSE", 0.001)
    (tmp_path / "marks").mkdir()
    recipe["stages"][0]["operators"] = [op("score", "Flaky", folder=str(tmp_path / "marks"), times=times)]
    if times == 2:
        assert fdf.run(recipe, runner="serial").manifest["counts"]["rows_out"] == 5
        return
    with pytest.raises(StageFailed, match="network is away") as failed:
        fdf.run(recipe, runner="serial")
    assert failed.value.exit_code == 3


def test_a_store_whose_fault_does_not_pass_fails_the_stage(tmp_path, recipe, monkeypatch):

    monkeypatch.setattr("fdf.stage.worker.FIRST_PAUSE", 0.001)

    def fails(*_: Any) -> None:
        raise TransientError("the store is away")

    monkeypatch.setattr(LocalStore, "place", fails)
    with pytest.raises(StageFailed, match="the store is away") as failed:
        fdf.run(recipe, runner="serial")
    assert failed.value.exit_code == 3
    monkeypatch.undo()
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(LocalStore, "swap", fails)
    with pytest.raises(StageFailed, match="the store is away"):
        fdf.run(recipe, runner="serial")


def test_a_full_disk_fails_the_stage_and_is_resumed(tmp_path, recipe, monkeypatch):

    real = LocalStore.place

    def full(self, file, path):
        if path.startswith("dropped/"):
            raise OSError(28, "No space left on device")
        real(self, file, path)

    monkeypatch.setattr(LocalStore, "place", full)
    with pytest.raises(StageFailed, match="No space left") as failed:
        fdf.run(recipe, runner="serial")
    assert failed.value.exit_code == 3
    monkeypatch.setattr(LocalStore, "place", real)
    fdf.run(recipe, runner="serial")
    for folder in ("one", "out"):
        assert_holds_exactly_its_manifests_files(tmp_path / folder)


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_file_that_goes_or_breaks_after_it_was_listed(tmp_path, recipe, policy):
    recipe["input"]["on_bad_file"] = policy

    def breaks(event) -> None:
        if event.kind == "stage_started" and event.stage == "one":
            (tmp_path / "in" / "a.parquet").unlink()
            data = (tmp_path / "in" / "b.parquet").read_bytes()
            (tmp_path / "in" / "b.parquet").write_bytes(data[: len(data) // 2])

    if policy == "fail":
        with pytest.raises(StageFailed, match=r"[ab]\.parquet"):
            fdf.run(recipe, runner="serial", on_event=breaks)
        return
    result = fdf.run(recipe, runner="serial", on_event=breaks)
    assert result.to_arrow()["text"].to_pylist() == ["z"]
    inputs = result.manifests["one"]["inputs"]
    assert [bool(i["error"]) for i in inputs] == [True, True, False]


def test_rows_over_the_limit_are_quarantined_unread(tmp_path, recipe, texts_of, words):
    words("a", ["x", "q" * 5000, "y"])
    recipe["input"]["max_row_bytes"] = 1000
    result = fdf.run(recipe, runner="serial")
    assert texts_of(tmp_path / "out") == ["x", "y", "z"]
    (error,) = texts_of(tmp_path / "one", "__fdf__/error", "quarantine")
    assert "max_row_bytes" in error
    assert texts_of(tmp_path / "one", "text", "quarantine") == [None]
    assert result.manifests["one"]["counts"]["rows_quarantined"] == 1


def test_inputs_without_rows_are_inputs(tmp_path, recipe, words):
    words("b", [])
    result = fdf.run(recipe, runner="serial")
    assert result.manifests["one"]["counts"]["rows_in"] == 3
    assert len(result.manifests["one"]["inputs"]) == 3


def test_no_input_at_all_is_the_recipes_fault(tmp_path, recipe):
    recipe["input"]["path"] = f"{tmp_path}/nowhere/*.parquet"
    with pytest.raises(PlanError) as refused:
        fdf.run(recipe, runner="serial")
    assert refused.value.exit_code == 2


def test_a_later_file_with_other_columns_follows_the_first_ones(tmp_path, recipe, words):
    result = fdf.run(recipe, runner="serial")
    first = result.manifests["one"]["fingerprint"]
    pq.write_table(pa.table({"more": [1.5], "text": ["w"]}), tmp_path / "in" / "d.parquet")
    pq.write_table(pa.table({"more": [1.5]}), tmp_path / "in" / "e.parquet")
    started: list[str] = []
    result = fdf.run(
        recipe, runner="serial", on_event=lambda e: started.append(e.stage) if e.kind == "split_started" else None
    )
    assert result.manifests["one"]["fingerprint"] == first
    assert started.count("one") == 2
    assert result.to_arrow()["text"].to_pylist() == ["x", "z", "w"]
    assert "more" not in result.to_arrow().schema.names


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null"])
def test_a_damaged_manifest_is_told_and_left_for_repair(tmp_path, recipe, damage):
    fdf.run(recipe, runner="serial")
    manifest = tmp_path / "one" / "manifest.json"
    manifest.write_bytes(damage)
    with pytest.raises(StageFailed, match=r"manifest\.json is not a manifest"):
        fdf.run(recipe, runner="serial")
    assert manifest.read_bytes() == damage


def test_damaged_pins_of_a_run_are_made_anew(tmp_path, recipe, home):
    fdf.run(recipe, runner="serial", run_id="r")
    (home / "runs" / "r" / "pins.json").write_bytes(b"{")
    fdf.run(recipe, runner="serial", run_id="r")
