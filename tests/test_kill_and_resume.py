"""A run that is killed, wherever and however often, ends as one that was left alone: same files, same manifests."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.stage.crashpoints import CRASH_POINTS

STAGES = ("one", "two", "output")
FILES = 5
DRIVER = textwrap.dedent(
    """
    import json, os, signal, sys
    import fdf

    recipe, options, kill_at = map(json.loads, sys.argv[1:])
    seen = 0

    def on_event(event):
        global seen
        seen += event.kind != "split_progress"
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    fdf.run(recipe, on_event=on_event, **options)
    """
)


@pytest.fixture
def inputs(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    chosen = random.Random(7)
    for number in range(FILES):
        texts = [" ".join(chosen.choices(["the", "of", "naïve", "cafe\u0301", "x" * 9, "  "], k=n)) for n in range(30)]
        pq.write_table(pa.table({"text": [*texts, None], "n": list(range(31))}), folder / f"{number}.parquet")
    return folder


def recipe_for(root: Path, inputs: Path) -> dict[str, Any]:
    def stage(name: str, *operators: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "materialize": {"path": str(root / name)}, "operators": list(operators)}

    return {
        "name": "killed",
        "input": {"type": "parquet", "name": "src", "path": f"{inputs}/*.parquet"},
        "stages": [
            stage(
                "one",
                {"id": "clean", "kind": "refiner", "op": "NormalizeText"},
                {"id": "words", "kind": "filter", "op": "WordCountFilter", "params": {"min_words": 4}},
            ),
            stage("two", {"id": "count", "kind": "score", "op": "TextStatistics"}),
        ],
        "output": {"type": "parquet", "path": str(root / "output"), "shard_size": 1},
    }


def outcome(root: Path) -> dict[str, str]:
    """Return the sha256 of every data file, and the id of every manifest."""
    found = {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("part-*")
        if ".fdf-tmp" not in p.parts
    }
    return found | {str(p.relative_to(root)): json.loads(p.read_text())["id"] for p in root.rglob("manifest.json")}


def receipts(root: Path) -> dict[str, int]:
    return {stage: len([p for p in (root / stage).rglob("*.json") if "_receipts" in p.parts]) for stage in STAGES}


@pytest.fixture
def undisturbed(tmp_path, inputs, monkeypatch) -> dict[str, str]:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    fdf.run(recipe_for(tmp_path / "reference", inputs), runner="serial", run_id="reference")
    return outcome(tmp_path / "reference")


def drive(recipe: dict[str, Any], *, kill_at: int = 0, crash_at: str | None = None, **options: Any) -> int:
    """Run in a process of its own, and return its exit status when that and every process it started are gone."""
    env = dict(os.environ)
    if crash_at is not None:
        env["FDF_TEST_CRASH_AT"] = crash_at
    arguments = [json.dumps(a) for a in (recipe, options, kill_at)]
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    deadline = time.monotonic() + 20
    while any(map(_is_of_this_test, psutil.process_iter())):
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.05)
    return ended.returncode


def _is_of_this_test(process: psutil.Process) -> bool:
    try:
        home = process.environ().get("FDF_HOME")
        return process.pid != os.getpid() and home == os.environ["FDF_HOME"] and process.status() != "zombie"
    except psutil.Error:
        return False


def resume_and_compare(root: Path, recipe: dict[str, Any], undisturbed: dict[str, str], **options: Any) -> None:
    """Run again: only splits without a receipt run, and all ends as in the undisturbed run."""
    before = receipts(root)
    uncommitted = [s for s in STAGES if not list((root / s).rglob("manifest.json"))]
    started: list[tuple[str, str]] = []

    def on_event(event) -> None:
        if event.kind == "split_started":
            started.append((event.stage, event.split))

    result = fdf.run(recipe, on_event=on_event, **options)
    assert {s: sum(stage == s for stage, _ in started) for s in STAGES} == {s: FILES - before[s] for s in STAGES}
    for stage in uncommitted:
        assert result.manifests[stage]["resumed_splits"] == before[stage]
    assert outcome(root) == undisturbed
    assert receipts(root) == dict.fromkeys(STAGES, FILES)


@pytest.mark.parametrize(
    ("where", "point"),
    [*(("one", point) for point in CRASH_POINTS), *(("output", p) for p in ("shard-placed", "manifest-ready"))],
)
def test_driver_killed_at_a_commit_point(tmp_path, inputs, undisturbed, where, point):
    root = tmp_path / "killed"
    recipe = recipe_for(root, inputs)
    if where == "output":
        fdf.run(recipe, runner="serial", until="two")
    assert drive(recipe, crash_at=f"{point}:{tmp_path}/once", runner="serial") == -signal.SIGKILL
    resume_and_compare(root, recipe, undisturbed, runner="serial")


@pytest.mark.parametrize("point", ["shard-placed", "receipt-written"])
def test_worker_killed_at_a_commit_point_costs_no_run(tmp_path, inputs, undisturbed, point):
    root = tmp_path / "killed"
    recipe = recipe_for(root, inputs)
    assert drive(recipe, crash_at=f"{point}:{tmp_path}/once", runner="local", workers=2) == 0
    assert (tmp_path / "once").exists()
    assert outcome(root) == undisturbed


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_driver_of_workers_killed_at_random_moments_again_and_again(tmp_path, inputs, undisturbed, workers):
    root = tmp_path / "killed"
    recipe = recipe_for(root, inputs)
    moments = random.Random(workers)
    for last in (7, 22):  # a whole run has 41 events
        drive(recipe, kill_at=moments.randint(2, last), runner="local", workers=workers)
    resume_and_compare(root, recipe, undisturbed, runner="local", workers=workers)


@pytest.mark.parametrize("workers", [2])
def test_driver_of_workers_killed_before_the_manifest(tmp_path, inputs, undisturbed, workers):
    root = tmp_path / "killed"
    recipe = recipe_for(root, inputs)
    assert drive(recipe, crash_at=f"manifest-ready:{tmp_path}/once", runner="local", workers=workers) == -signal.SIGKILL
    # The runner may change in between.
    resume_and_compare(root, recipe, undisturbed, runner="serial")


def test_two_drivers_at_once_make_one_dataset(tmp_path, inputs, undisturbed):
    root = tmp_path / "killed"
    recipe = recipe_for(root, inputs)
    arguments = [json.dumps(a) for a in (recipe, {"runner": "serial"}, 0)]
    drivers = [
        subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [driver.communicate(timeout=60)[1] for driver in drivers]
    assert any(driver.returncode == 0 for driver in drivers), errors
    for driver, error in zip(drivers, errors, strict=True):
        # The one that lost has the same result, or says that another writer was there.
        assert driver.returncode == 0 or "OtherWriter" in error or "another driver" in error, error
    assert outcome(root) == undisturbed
    assert receipts(root) == dict.fromkeys(STAGES, FILES)


def test_limit_takes_the_same_first_rows_with_any_number_of_workers(tmp_path, inputs, undisturbed):
    fdf.run(recipe_for(tmp_path / "serial", inputs), runner="serial", run_id="serial", limit=77)
    result = fdf.run(recipe_for(tmp_path / "local", inputs), runner="local", workers=3, run_id="local", limit=77)
    assert result.manifests["one"]["counts"]["rows_in"] == 77
    assert outcome(tmp_path / "local") == outcome(tmp_path / "serial")
