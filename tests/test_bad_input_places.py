"""Places that cannot be written or read: the path, the cause and the next step are told, nothing is half-done, and
once the cause is gone the run goes on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FILES = 4


@pytest.fixture
def inputs(fdf) -> None:
    """Write files of text that does not compress: each shard takes some 64 KiB."""
    folder = fdf.folder / "in"
    folder.mkdir()
    dice = np.random.default_rng(7)
    for number in range(FILES):
        texts = [f"{number}.{i} {dice.bytes(300).hex()}" for i in range(200)]
        pq.write_table(pa.table({"text": texts, "n": list(range(200))}), folder / f"{number}.parquet")


def recipe_for(one: str = "one", out: str = "out") -> dict[str, Any]:
    return {
        "name": "places",
        "input": {"type": "parquet", "name": "src", "path": "in/*.parquet"},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": one},
                "operators": [
                    {"id": "late", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "n", "lt": 190}}
                ],
            }
        ],
        "output": {"type": "parquet", "path": out, "shard_size": 1},
    }


def outcome(*roots: Path) -> list[dict[str, str]]:
    """Return the sha256 of every data file and the id of every manifest below each root."""
    return [
        {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("part-*")}
        | {p.relative_to(root).as_posix(): json.loads(p.read_text())["id"] for p in root.rglob("manifest.json")}
        for root in roots
    ]


@pytest.fixture
def undisturbed(fdf, inputs) -> list[dict[str, str]]:
    fdf.finishes(recipe_for("reference/one", "reference/out"), "--run-id", "reference")
    return outcome(fdf.folder / "reference" / "one", fdf.folder / "reference" / "out")


def mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: this machine does not let us mount ({done.stderr.strip()})")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Give a function that mounts a file system in memory of so many KiB."""
    made: list[Path] = []

    def small(size: int) -> Path:
        folder = tmp_path / f"disk-{len(made)}"
        folder.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder))
        made.append(folder)
        return folder

    yield small
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def read_only(tmp_path) -> Iterator[Callable[[Path], Path]]:
    """Give a function that shows a folder at another place, where it cannot be written, not by root either."""
    made: list[Path] = []

    def shown(folder: Path) -> Path:
        place = tmp_path / f"read-only-{len(made)}"
        place.mkdir()
        mount("--bind", str(folder), str(place))
        made.append(place)
        mount("-o", "remount,bind,ro", str(place))
        return place

    yield shown
    for place in made:
        subprocess.run(["umount", "-l", str(place)], check=True)


# --- Files in the way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "file"),
    [
        (recipe_for(out="taken"), "taken"),
        (recipe_for(out="taken/below/it"), "taken"),
        (recipe_for(one="taken"), "taken"),
        (recipe_for(out="out"), "out/__fdf__"),
    ],
)
def test_a_path_that_is_a_file_is_refused_before_anything_runs(fdf, inputs, recipe, file):
    path = fdf.folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    told = fdf.refuses(recipe, code=2, says=[str(path), "is a file"])
    assert "choose another path" in told
    assert path.read_text() == "precious"
    assert not (fdf.folder / "one" / "data").exists()


def test_a_home_for_records_that_is_a_file_is_refused_before_anything_runs(fdf, inputs, monkeypatch):
    (fdf.folder / "home").write_text("precious")
    monkeypatch.setenv("FDF_HOME", str(fdf.folder / "home"))
    fdf.refuses(recipe_for(), code=2, says=[str(fdf.folder / "home"), "set FDF_HOME to a writable folder"])
    assert not (fdf.folder / "one").exists()


# --- Places that cannot be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", ["serial", "local"])
def test_a_read_only_place_fails_the_stage_by_its_path_and_can_be_resumed_elsewhere(
    fdf, undisturbed, read_only, nothing_half, runner
):
    place = read_only(fdf.folder / "in") / "out"
    told = fdf.refuses(
        recipe_for(out=str(place)),
        "--runner",
        runner,
        code=3,
        says=[str(place), "Read-only file system", "make it writable"],
    )
    assert "safe: all of `one`" in told
    assert nothing_half(place) == 0
    fdf.finishes(recipe_for(), "--runner", runner)
    assert outcome(fdf.folder / "one", fdf.folder / "out") == undisturbed


def test_a_run_with_nothing_to_do_does_not_mind_a_read_only_place(fdf, inputs, read_only):
    (fdf.folder / "kept").mkdir()
    recipe = recipe_for("place/one", "place/out")
    (fdf.folder / "place").symlink_to("kept")
    fdf.finishes(recipe)
    (fdf.folder / "place").unlink()
    (fdf.folder / "place").symlink_to(read_only(fdf.folder / "kept"))
    fdf.finishes(recipe)


@pytest.mark.parametrize("runner", ["serial", "local"])
@pytest.mark.parametrize("full", ["one", "out"])
def test_a_full_disk_fails_the_stage_and_with_room_again_the_run_goes_on(
    undisturbed, small_disk, nothing_half, full, runner, *, fdf
):
    disk = small_disk(2048)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes((2048 - 180) << 10))
    places = {"one": str(fdf.folder / "one"), "out": str(fdf.folder / "out"), full: str(disk / full)}
    options = ["--runner", runner, "--workers", "1"]
    told = fdf.refuses(
        recipe_for(**places), *options, code=3, says=[places[full], "No space left on device", "make room there"]
    )
    safe = nothing_half(disk / full)
    assert 0 < safe < FILES
    assert f"{safe} split" in told
    ballast.unlink()
    done = fdf.finishes(recipe_for(**places), *options, "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["stage"] for e in events if e["event"] == "split_started"].count({"out": "output"}.get(full, full)) == (
        FILES - safe
    )
    assert outcome(Path(places["one"]), Path(places["out"])) == undisturbed


def test_wherever_the_disk_gets_full_nothing_is_half_done(fdf, inputs, undisturbed, small_disk, nothing_half):
    disk = small_disk(2048)
    recipe = recipe_for(str(disk / "one"), str(disk / "out"))
    ends = []
    for room in [0, 4, 8, 12, 60, 72, 76, 84, 150, 290, 310, 330, 350, 600]:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize >> 10
        (disk / "ballast").write_bytes(bytes(max(0, free - room) << 10))
        done = fdf.run(recipe)
        assert done.exit_code in (0, 3), done.output
        ends.append(done.exit_code)
        for root in (disk / "one", disk / "out"):
            if not list(root.rglob("manifest.json")):
                nothing_half(root)
        (disk / "ballast").unlink()
    assert 3 in ends
    fdf.finishes(recipe)
    assert outcome(disk / "one", disk / "out") == undisturbed
    assert [p.name for p in disk.rglob(".fdf-tmp/*/*") if p.name != "alive"] == []


def test_records_on_a_full_disk_fail_the_run_by_their_path(fdf, inputs, small_disk, monkeypatch):
    disk = small_disk(64)
    monkeypatch.setenv("FDF_HOME", str(disk / "home"))
    (disk / "ballast").write_bytes(bytes(64 << 10))
    fdf.refuses(recipe_for(), code=2, says=[str(disk / "home"), "No space left on device", "set FDF_HOME"])
    (disk / "ballast").unlink()
    fdf.finishes(recipe_for())
