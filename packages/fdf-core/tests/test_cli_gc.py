"""`fdf gc` as a person or a script meets it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fdf.cli.main import main

SHARD = "part-0123456789ab-0123456789ab.parquet"


@pytest.fixture
def fdf(home, tmp_path, monkeypatch):
    """Give a function that calls the command line in this process, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


@pytest.fixture
def run_id(fdf, tmp_path, words, op) -> str:
    """Run a recipe of a stage and an output, and give its run id."""
    words("a", ["one", "two", "three"])
    recipe: dict[str, Any] = {
        "name": "tidy",
        "input": {"type": "parquet", "path": "in"},
        "stages": [{"name": "clean", "operators": [op("score", "Lengths")]}],
        "output": {"type": "parquet", "path": "out"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = fdf("run", "recipe.yaml", "--runner", "serial", "--json")
    assert done.exit_code == 0, done.output
    return str(json.loads(done.stdout.splitlines()[-1])["run_id"])


@pytest.fixture
def leftovers(run_id, home, tmp_path) -> list[Path]:
    """Leave a shard of nobody in both directories, and a traceback, all two days old."""
    paths = [
        home / "runs" / run_id / "clean" / "data" / SHARD,
        tmp_path / "out" / SHARD,
        home / "crashes" / "crash-20260101-120000-77.txt",
    ]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"12345")
    then = time.time() - 48 * 3600
    for path in (*home.rglob("*"), *(tmp_path / "out").rglob("*")):
        os.utime(path, (then, then))
    return paths


def test_by_default_it_only_shows_what_would_go(fdf, leftovers):
    said = fdf("gc")
    assert said.exit_code == 0, said.output
    assert "would remove 3 files, 15 B; nothing was removed: fdf gc --delete" in said.stderr
    assert [line.split()[-4:] for line in said.stdout.splitlines()[2:]] == [
        ["data", "1", "5", "B"],
        ["data", "1", "5", "B"],
        ["crashes", "1", "5", "B"],
    ]
    assert all(path.exists() for path in leftovers)


def test_delete_removes_it_and_the_dataset_stays_whole(fdf, leftovers, run_id):
    assert fdf("verify", run_id).exit_code == 1
    said = fdf("gc", "--delete")
    assert (said.exit_code, "removed 3 files, 15 B" in said.stderr) == (0, True)
    assert not any(path.exists() for path in leftovers)
    assert fdf("verify", run_id).exit_code == 0
    assert "nothing to remove in 3 places" in fdf("gc").stderr


def test_grace_is_in_hours(fdf, leftovers):
    assert json.loads(fdf("gc", "--json", "--grace", 49).stdout)["files"] == 0
    assert json.loads(fdf("gc", "--json", "--grace", 47.5).stdout)["files"] == 3
    assert fdf("gc", "--grace", -1).exit_code == 2


def test_json_names_every_file_with_its_place(fdf, leftovers, run_id, home, tmp_path):
    said = json.loads(fdf("gc", "--json").stdout)
    assert (said["deleted"], said["grace_hours"], said["files"], said["bytes"]) == (False, 24.0, 3, 15)
    assert [(Path(p["root"]), p["stage"], [f["path"] for f in p["files"]]) for p in said["places"]] == [
        (home / "runs" / run_id / "clean", "clean", [f"data/{SHARD}"]),
        (tmp_path / "out", "output", [SHARD]),
        (home, None, ["crashes/crash-20260101-120000-77.txt"]),
    ]


def test_named_places_and_runs_are_all_that_is_looked_at(fdf, leftovers, run_id, tmp_path):
    def places(*targets):
        return [place["stage"] for place in json.loads(fdf("gc", "--json", *targets).stdout)["places"]]

    assert places("out") == ["output"]
    assert places(run_id) == ["clean", "output"]
    # Each directory once, however it is written.
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert places("out", f"{tmp_path}/out/", run_id, "./link") == ["output", "clean"]


def test_a_folder_that_fdf_did_not_write_is_refused_and_left_alone(fdf, leftovers, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / SHARD).touch()
    said = fdf("gc", "--delete", "--grace", 0, "mine")
    assert said.exit_code == 2
    assert "mine is no stage or output directory" in said.stderr
    assert "= help: " in said.stderr
    assert (tmp_path / "mine" / SHARD).exists()
    assert fdf("gc", "no-such-run").exit_code == 2
    assert fdf("gc", "./no-such-place").exit_code == 2


def test_one_damaged_manifest_does_not_keep_it_from_the_others(fdf, leftovers, home, tmp_path):
    (tmp_path / "out" / "__fdf__" / "manifest.json").write_text("{")
    said = fdf("gc", "--delete", "--json")
    assert said.exit_code == 1
    assert [path.exists() for path in leftovers] == [False, True, False]
    assert "is not a manifest" in json.loads(said.stderr.splitlines()[-1])[0]["message"]


def test_nothing_is_recorded_and_nothing_is_made(fdf, home):
    said = fdf("gc", "--delete")
    assert said.exit_code == 0
    assert "nothing to remove" in said.stderr
    assert not home.exists()
