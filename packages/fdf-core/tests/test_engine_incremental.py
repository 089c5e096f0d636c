"""What runs again when inputs or parameters change, what becomes of the files before, and what a mode forbids."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import FdfError, PlanError, StageFailed

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def recipe(tmp_path, op) -> dict[str, Any]:
    """Two stages and an output that keeps every upstream shard apart."""
    return {
        "name": "grow",
        "input": {"type": "parquet", "name": "src", "path": f"{tmp_path}/in/*.parquet"},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": str(tmp_path / "one")},
                "operators": [op("score", "Lengths")],
            },
            {
                "name": "two",
                "materialize": {"path": str(tmp_path / "two")},
                "operators": [op("filter", "Short", most=3)],
            },
        ],
        "output": {"type": "parquet", "path": str(tmp_path / "out"), "shard_size": 1},
    }


STAGES = ("one", "two", "output")


class Watch:
    """Notes which splits ran."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []

    def __call__(self, event) -> None:
        if event.kind == "split_started":
            self.started.append((event.stage, event.data["name"]))
        elif event.kind == "split_skipped":
            self.skipped.append((event.stage, event.data["name"]))

    def per_stage(self) -> dict[str, int]:
        return {s: sum(stage == s for stage, _ in self.started) for s in STAGES}


def run(recipe, **options):
    watch = Watch()
    result = fdf.run(recipe, runner="serial", on_event=watch, **options)
    return result, watch


def stats(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(root)): (p.stat().st_mtime_ns, p.stat().st_ino)
        for p in root.rglob("part-*")
        if ".fdf-tmp" not in p.parts
    }


def assert_holds_exactly_its_manifests_files(root: Path) -> None:
    found = next(p for p in (root / "manifest.json", root / "__fdf__" / "manifest.json") if p.exists())
    manifest = json.loads(found.read_text())
    named = {f["path"] for part in ("outputs", "dropped", "quarantine") for f in manifest[part]}
    assert set(stats(root)) == named
    receipts = [p for p in root.rglob("*.json") if p.parent.parent.name == "_receipts"]
    assert {p.parent.name for p in receipts} <= {manifest["generation"]}


def test_running_again_runs_nothing_and_touches_nothing(tmp_path, recipe, words):
    words("a", ["x", "long one"])
    words("b", ["y", None])
    first, _ = run(recipe)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and "home" not in str(p)}
    second, watch = run(recipe)
    assert watch.started == []
    assert [s.manifest["id"] for s in second.stages] == [s.manifest["id"] for s in first.stages]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and "home" not in str(p)} == before


def test_an_appended_file_is_one_new_split_in_every_stage(tmp_path, recipe, words, texts_of):
    words("a", ["x", "long one"])
    words("c", ["y", "long two"])
    run(recipe)
    before = stats(tmp_path)
    words("b", ["z", "long three"])
    _, watch = run(recipe)
    assert watch.per_stage() == dict.fromkeys(STAGES, 1)
    after = stats(tmp_path)
    assert {k: after[k] for k in before} == before
    # In input order, though it came last.
    assert texts_of(tmp_path / "out") == ["x", "z", "y"]
    for stage in ("one", "two", "out"):
        assert_holds_exactly_its_manifests_files(tmp_path / stage)


def test_a_removed_file_takes_its_rows_along_and_comes_back_with_them(tmp_path, recipe, words, texts_of):
    words("a", ["x", "long one"])
    b = words("b", ["y", "long two"])
    first, _ = run(recipe)
    whole = stats(tmp_path)
    aside = b.rename(tmp_path / "b-aside")
    second, watch = run(recipe)
    assert watch.started == []
    assert texts_of(tmp_path / "out") == ["x"]
    assert second.manifest["counts"]["rows_in"] == 1
    assert len([f for f in stats(tmp_path) if f.startswith(("one", "two", "out"))]) == 4
    for stage in ("one", "two", "out"):
        assert_holds_exactly_its_manifests_files(tmp_path / stage)
    aside.rename(b)
    third, watch = run(recipe)
    assert watch.per_stage() == dict.fromkeys(STAGES, 1)
    assert [s.manifest["id"] for s in third.stages] == [s.manifest["id"] for s in first.stages]
    assert set(stats(tmp_path)) == set(whole)


def test_replaced_content_runs_again_and_the_same_content_under_a_new_stamp_only_where_it_is_read(
    tmp_path, recipe, words, texts_of
):
    words("a", ["x"])
    words("b", ["y"])
    run(recipe)
    words("b", ["new"])
    _, watch = run(recipe)
    assert watch.started == [("one", "b.parquet"), *[(s, watch.started[i][1]) for i, s in ((1, "two"), (2, "output"))]]
    assert texts_of(tmp_path / "out") == ["x", "new"]
    # The version of a local file is its stamp: it is read again, but what comes of it is what was there.
    os.utime(tmp_path / "in" / "a.parquet", (1, 1))
    _, watch = run(recipe)
    assert watch.per_stage() == {"one": 1, "two": 0, "output": 0}
    for stage in ("one", "two", "out"):
        assert_holds_exactly_its_manifests_files(tmp_path / stage)


def test_identity_by_content_passes_a_new_stamp_by(tmp_path, recipe, words):
    recipe["input"]["identity"] = "content"
    words("a", ["x"])
    run(recipe)
    os.utime(tmp_path / "in" / "a.parquet", (1, 1))
    _, watch = run(recipe)
    assert watch.started == []


def readable(root: Path) -> list[str]:
    """Read a directory as someone would who trusts its manifest only."""
    manifest = json.loads((root / "manifest.json").read_text())
    return [
        t
        for part in ("outputs", "dropped")
        for f in manifest[part]
        for t in pq.read_table(root / f["path"]).column("text").to_pylist()
    ]


def test_a_changed_parameter_runs_all_again_while_the_dataset_before_stays_readable(tmp_path, recipe, words):
    del recipe["output"]
    words("a", ["x", "long one"])
    words("b", ["yyyy"])
    run(recipe)
    old = readable(tmp_path / "two")
    seen: list[list[str]] = []

    def reader(event) -> None:
        if event.stage == "two" and event.kind in ("stage_started", "split_started", "split_committed"):
            seen.append(readable(tmp_path / "two"))

    recipe["stages"][1]["operators"][0]["params"]["most"] = 4
    fdf.run(recipe, runner="serial", on_event=reader)
    assert len(seen) == 5
    assert all(rows == old for rows in seen)
    assert sorted(readable(tmp_path / "two")) == sorted(old)  # another part of the rows is dropped now
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert manifest["counts"]["rows_out"] == 2
    assert_holds_exactly_its_manifests_files(tmp_path / "two")


def test_keep_1_leaves_the_dataset_before_until_the_commit_after(tmp_path, recipe, words):
    del recipe["output"]
    recipe["stages"][1]["materialize"]["keep"] = 1
    words("a", ["x", "long one"])
    manifests = []
    for most in (3, 4, 0):
        recipe["stages"][1]["operators"][0]["params"]["most"] = most
        run(recipe)
        run(recipe)  # a run that commits nothing must not shorten anyone's time
        manifests.append(json.loads((tmp_path / "two" / "manifest.json").read_text()))
        for manifest in manifests[-2:]:
            for entry in (*manifest["outputs"], *manifest["dropped"]):
                assert (tmp_path / "two" / entry["path"]).stat().st_size == entry["bytes"]
    gone = {f["path"] for f in manifests[0]["outputs"]} - {f["path"] for m in manifests[1:] for f in m["outputs"]}
    assert not [f for f in gone if (tmp_path / "two" / f).exists()]


def test_one_recipe_then_another_then_the_first_again_ends_as_the_first_did(tmp_path, recipe, words):
    words("a", ["x", "long one"])
    words("b", ["yyyy"])
    first, _ = run(recipe)
    whole = stats(tmp_path)
    recipe["stages"][1]["operators"][0]["params"]["most"] = 4
    other, _ = run(recipe)
    assert other.manifest["id"] != first.manifest["id"]
    recipe["stages"][1]["operators"][0]["params"]["most"] = 3
    again, watch = run(recipe)
    assert [s.manifest["id"] for s in again.stages] == [s.manifest["id"] for s in first.stages]
    assert watch.per_stage()["one"] == 0
    assert set(stats(tmp_path)) == set(whole)
    for stage in ("one", "two", "out"):
        assert_holds_exactly_its_manifests_files(tmp_path / stage)


@pytest.mark.parametrize("damage", ["deleted", "cut short"])
def test_a_lost_or_damaged_shard_is_made_again(tmp_path, recipe, words, damage, contents):
    words("a", ["x", "long one"])
    words("b", ["y"])
    first, _ = run(recipe)
    whole = contents(tmp_path)
    victim = tmp_path / "one" / first.manifests["one"]["outputs"][0]["path"]
    if damage == "deleted":
        victim.unlink()
    else:
        os.truncate(victim, 10)
    second, watch = run(recipe)
    assert watch.per_stage() == {"one": 1, "two": 0, "output": 0}
    assert [s.manifest["id"] for s in second.stages] == [s.manifest["id"] for s in first.stages]
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": "fdf-receipt/1"}'])
def test_a_broken_receipt_only_costs_its_split(tmp_path, recipe, words, damage):
    words("a", ["x"])
    words("b", ["y"])
    first, _ = run(recipe)
    next((tmp_path / "one" / "_receipts").rglob("*.json")).write_bytes(damage)
    second, watch = run(recipe)
    assert watch.per_stage() == {"one": 1, "two": 0, "output": 0}
    assert second.manifest["id"] == first.manifest["id"]


@pytest.mark.parametrize("kind", ["text", "files"])
def test_small_files_are_grouped_and_an_added_one_changes_its_group_only(tmp_path, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    ending = "txt" if kind == "text" else "png"
    for i in range(300):
        (folder / f"{i:04}.{ending}").write_bytes(b"line %d\n" % i)
    recipe = {
        "name": "small",
        "input": {"type": kind, "path": f"{folder}/*.{ending}"},
        "stages": [{"name": "one", "materialize": {"path": str(tmp_path / "one")}, "operators": []}],
    }
    first, all_of_it = run(recipe)
    assert 1 < len(all_of_it.started) < 300
    (folder / f"0150a.{ending}").write_bytes(b"new\n")
    second, watch = run(recipe)
    assert 1 <= len(watch.started) <= 2
    assert second.manifest["counts"]["rows_out"] == first.manifest["counts"]["rows_out"] + 1


# --- modes ------------------------------------------------------------------------------------------------------------


def test_mode_error_refuses_another_runs_result_before_anything_runs(tmp_path, recipe, words):
    words("a", ["x"])
    recipe["output"]["mode"] = "error"
    first, _ = run(recipe, run_id="first")
    again, watch = run(recipe, run_id="first")  # its own result is no obstacle
    assert again.manifest["id"] == first.manifest["id"]
    watch = Watch()
    with pytest.raises(PlanError, match="first") as refused:
        fdf.run(recipe, runner="serial", run_id="second", on_event=watch)
    assert refused.value.exit_code == 2
    assert watch.started == []


def test_overwrite_regenerates_with_a_rising_generation(tmp_path, recipe, words, contents):
    words("a", ["x"])
    words("b", ["y"])
    recipe["stages"][1]["materialize"]["mode"] = "overwrite"
    first, _ = run(recipe, run_id="r")
    whole = contents(tmp_path)
    second, watch = run(recipe, run_id="r")
    assert watch.per_stage() == {"one": 0, "two": 2, "output": 0}
    numbers = [int(m.manifests["two"]["generation"].rsplit(".", 1)[1]) for m in (first, second)]
    assert numbers[1] > numbers[0]
    assert first.manifests["two"]["id"] == second.manifests["two"]["id"]
    assert contents(tmp_path) == whole
    assert_holds_exactly_its_manifests_files(tmp_path / "two")


def test_an_unfinished_overwrite_is_resumed(tmp_path, recipe, words, drive):
    del recipe["output"]
    words("a", ["x"])
    words("b", ["y"])
    recipe["stages"][1]["materialize"]["mode"] = "overwrite"
    run(recipe, run_id="r")
    # Stage one is done, so the first receipt that is written belongs to the overwritten stage.
    killed = drive(recipe, run_id="r", crash_at=f"receipt-written:{tmp_path}/once")
    assert killed.returncode == -9
    _, watch = run(recipe, run_id="r")
    assert watch.per_stage() == {"one": 0, "two": 1, "output": 0}


@pytest.mark.parametrize("mode", ["incremental", "error", "overwrite"])
def test_another_pipelines_directory_is_refused_except_by_overwrite(tmp_path, recipe, words, mode, texts_of):
    words("a", ["x"])
    run(recipe)
    recipe["name"] = "other"
    recipe["output"]["mode"] = mode
    for stage in recipe["stages"]:
        stage["materialize"]["path"] += "-other"
    if mode == "overwrite":
        words("a", ["z"])
        run(recipe)
        assert texts_of(tmp_path / "out") == ["z"]
        assert_holds_exactly_its_manifests_files(tmp_path / "out")
        return
    watch = Watch()
    with pytest.raises(PlanError, match="pipeline `grow`"):
        fdf.run(recipe, runner="serial", on_event=watch)
    assert watch.started == []
    assert texts_of(tmp_path / "out") == ["x"]


@pytest.mark.parametrize("name", ["old.parquet", "notes.txt", "raw/old.parquet", "part-1.csv"])
def test_an_output_folder_with_files_that_fdf_did_not_write_is_refused(tmp_path, recipe, words, name):
    words("a", ["x"])
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    watch = Watch()
    with pytest.raises(PlanError, match="did not write") as refused:
        fdf.run(recipe, runner="serial", on_event=watch)
    assert refused.value.exit_code == 2
    assert watch.started == []
    assert foreign.read_bytes() == b"mine"


@pytest.mark.parametrize("name", [".gitignore", "_SUCCESS", ".cache/x.parquet"])
def test_hidden_files_that_no_reader_sees_are_left_alone(tmp_path, recipe, words, name):
    words("a", ["x"])
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    run(recipe)
    assert foreign.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "paths", [("same", "same/"), ("same", "./same"), ("out/stages/one", "out"), ("one", "one/data")]
)
def test_stages_that_would_write_into_each_others_directory_are_refused(tmp_path, recipe, words, monkeypatch, paths):
    monkeypatch.chdir(tmp_path)
    words("a", ["x"])
    recipe["stages"][0]["materialize"]["path"], recipe["output"]["path"] = paths
    with pytest.raises(PlanError) as refused:
        run(recipe)
    assert "FDF332" in str(refused.value)


# --- budget -----------------------------------------------------------------------------------------------------------


def test_beyond_the_error_budget_there_is_no_manifest_and_raising_it_only_commits(tmp_path, op, words):
    words("a", ["boom"] * 6 + ["x"] * 10)
    words("b", ["boom"] * 6 + ["y"] * 10)
    recipe = {
        "name": "budget",
        "input": {"type": "parquet", "path": f"{tmp_path}/in/*.parquet"},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": str(tmp_path / "one")},
                "operators": [op("score", "Lengths", poison="boom")],
            }
        ],
    }
    with pytest.raises(StageFailed) as failed:
        run(recipe)
    assert failed.value.exit_code == 3
    assert "cannot take boom" in str(failed.value)
    assert not (tmp_path / "one" / "manifest.json").exists()
    assert len(list((tmp_path / "one" / "_receipts").rglob("*.json"))) == 2
    recipe["stages"][0]["min_errors"] = 11
    with pytest.raises(StageFailed):
        run(recipe)
    recipe["stages"][0]["min_errors"] = 12
    result, watch = run(recipe)
    assert watch.started == []
    assert result.manifest["counts"]["rows_quarantined"] == 12
    # The rate counts as well: 12 of 32 rows.
    recipe["stages"][0] |= {"min_errors": 0, "max_error_rate": 0.37}
    with pytest.raises(StageFailed):
        run(recipe)
    recipe["stages"][0]["max_error_rate"] = 0.375
    run(recipe)


def test_exactly_the_row_that_fails_is_quarantined(tmp_path, op, words, texts_of):
    words("a", ["x", None, "boom", "", "y"])
    recipe = {
        "name": "one-bad",
        "input": {"type": "parquet", "path": f"{tmp_path}/in/*.parquet"},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": str(tmp_path / "one")},
                "operators": [op("score", "Lengths", poison="boom"), op("filter", "Short", most=9)],
            }
        ],
    }
    run(recipe)
    assert texts_of(tmp_path / "one") == ["x", "", "y"]
    assert texts_of(tmp_path / "one", "text", "quarantine") == ["boom"]
    assert texts_of(tmp_path / "one", "__fdf__/drop_reason", "dropped") == ["missing"]
    assert texts_of(tmp_path / "one", "__fdf__/error", "quarantine") == ["ValueError: cannot take boom"]


def test_exactly_the_line_that_cannot_be_parsed_is_quarantined_with_its_bytes(tmp_path, texts_of):
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "x"}\n{"text": \xff}\n{"text": "y"}\n[]\n{"text": "z"}\n')
    recipe = {
        "name": "lines",
        "input": {"type": "jsonl", "path": str(tmp_path / "in.jsonl")},
        "output": {"type": "parquet", "path": str(tmp_path / "out")},
    }
    result, _ = run(recipe)
    root = tmp_path / "out"
    assert texts_of(root) == ["x", "y", "z"]
    assert texts_of(root, "__fdf__/raw", "quarantine") == [b'{"text": \xff}', b"[]"]
    assert [i.split(":")[1] for i in texts_of(root, "__fdf__/id", "quarantine")] == ["14", "40"]
    assert result.manifest["counts"]["rows_in"] == 5


def test_on_error_null_passes_the_row_on_and_still_counts_the_error(tmp_path, op, words, texts_of):
    words("a", ["x", "boom"])
    recipe = {
        "name": "nulls",
        "input": {"type": "parquet", "path": f"{tmp_path}/in/*.parquet"},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": str(tmp_path / "one")},
                "operators": [op("score", "Lengths", poison="boom", around={"on_error": "null"})],
            }
        ],
    }
    result, _ = run(recipe)
    assert texts_of(tmp_path / "one", "length") == [1, None]
    assert result.manifest["operators"][0]["errors"] == 1


# --- gates ------------------------------------------------------------------------------------------------------------


def test_a_failed_gate_commits_its_stage_and_stops_the_run(tmp_path, recipe, op, words):
    words("a", ["x", "y"])
    recipe["stages"][0]["operators"].append(
        op("evaluator", "TextSum", around={"require": ["rows >= 3", "chars == 2", "by.name > 0", "no.such <= 1"]})
    )
    result, watch = run(recipe)
    assert result.exit_code == 1
    assert [s.name for s in result.stages] == ["one"]
    assert result.manifest["gates_failed"] == list(result.gates_failed)
    assert [g.split(" (")[0] for g in result.gates_failed] == [
        "evaluator.TextSum: rows >= 3",
        "evaluator.TextSum: no.such <= 1",
    ]
    assert json.loads((tmp_path / "one" / "manifest.json").read_text())["evaluations"] == {
        "evaluator.TextSum": {"rows": 2, "chars": 2, "by": {"name": 1}}
    }
    assert not (tmp_path / "two").exists()
    # A better bound is a new verdict on the same result: nothing runs again but what did not start.
    recipe["stages"][0]["operators"][1]["require"] = ["rows >= 2"]
    result, watch = run(recipe)
    assert result.exit_code == 0
    assert watch.per_stage() == {"one": 0, "two": 1, "output": 1}


def test_an_evaluator_that_met_no_row_fails_its_gates(tmp_path, recipe, op, words):
    words("a", ["x"])
    recipe["stages"][0]["operators"].append(
        op("evaluator", "TextSum", around={"when": "text = 'none'", "require": ["rows >= 0"]})
    )
    assert run(recipe)[0].exit_code == 1


def test_errors_name_the_recipes_faults_before_any_row_is_read(tmp_path, op):
    folder = tmp_path / "in"
    folder.mkdir()
    file = folder / "a.parquet"
    pq.write_table(pa.table({"title": ["x"], "k": [1]}), file)
    data = file.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    file.write_bytes(b"PAR1" + b"\0" * (len(data) - footer - 4) + data[-footer:])  # no page of it can be read

    def problems(*steps) -> str:
        recipe = {
            "name": "wrong",
            "input": {"type": "parquet", "path": str(file)},
            "stages": [{"name": "one", "operators": list(steps)}],
        }
        with pytest.raises(FdfError) as found:
            run(recipe)
        assert found.value.exit_code == 2
        return str(found.value)

    missing = problems(op("score", "Lengths"))
    assert "`text`" in missing
    assert "title, k" in missing
    unwritten = problems(
        op("filter", "ThresholdFilter", field="k", ge=0),
        op("evaluator", "ColumnStats", around={"write_fields": ["nope"]}),
    )
    assert "nope" in unwritten


def test_two_operators_that_write_one_column_are_refused(tmp_path, op, words):
    words("a", ["x"])
    recipe = {
        "name": "twice",
        "input": {"type": "parquet", "path": f"{tmp_path}/in"},
        "stages": [{"name": "s", "operators": [op("score", "Lengths", "a"), op("score", "Lengths", "b")]}],
    }
    with pytest.raises(PlanError, match=r"`b` .* writes the column `length`, which `a` writes already"):
        run(recipe)


@pytest.mark.parametrize("point", ["manifest-ready", "manifest-committed"])
def test_a_change_that_is_killed_around_its_commit_leaves_one_readable_dataset(tmp_path, recipe, words, drive, point):
    del recipe["output"], recipe["stages"][0]
    words("a", ["x", "long one"])
    words("b", ["yyyy"])
    run(recipe)
    old = readable(tmp_path / "two")
    words("c", ["zz"])
    recipe["stages"][0]["operators"][0]["params"]["most"] = 4
    assert drive(recipe, crash_at=f"{point}:{tmp_path}/once").returncode == -9
    new = ["x", "yyyy", "zz", "long one"]
    assert readable(tmp_path / "two") == (old if point == "manifest-ready" else new)
    _, watch = run(recipe)
    assert watch.started == []
    assert readable(tmp_path / "two") == new
    assert_holds_exactly_its_manifests_files(tmp_path / "two")


@pytest.mark.parametrize("extra", ["drop", "error"])
def test_columns_that_were_not_seen_follow_extra_columns(tmp_path, recipe, words, extra, texts_of):
    recipe["input"]["extra_columns"] = extra
    words("a", ["x"])
    run(recipe)
    words("b", ["y"], more=["1"])
    if extra == "error":
        with pytest.raises(FdfError, match="more"):
            run(recipe)
        return
    run(recipe)
    assert texts_of(tmp_path / "out") == ["x", "y"]


def test_a_run_that_commits_nothing_new_leaves_an_unfinished_runs_work_alone(tmp_path, recipe, op, words):
    words("a", ["x", "long one"])
    words("b", ["y", "long two"])
    committed, _ = run(recipe)
    # Another recipe gets as far as its second split, and stops there: a row raises, and may not.
    rival = json.loads(json.dumps(recipe))
    rival["stages"][0]["operators"] = [op("score", "Lengths", poison="long two", around={"on_error": "fail"})]
    with pytest.raises(StageFailed):
        run(rival)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*") if p.is_file()}
    again, watch = run(recipe)
    assert watch.started == []
    assert again.manifests["one"] == committed.manifests["one"]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*") if p.is_file()} == kept
    words("b", ["y", "long 2"])
    _, watch = run(rival)
    assert [s for s in watch.started if s[0] == "one"] == [("one", "b.parquet")]
    for stage in ("one", "two", "out"):
        assert_holds_exactly_its_manifests_files(tmp_path / stage)
