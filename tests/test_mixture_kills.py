"""A mixture that is killed, wherever and however often, ends as one that was left alone: the same rows in the same
order, the same bytes. Of sources that are listed, and of a stream beside them, whose reader is killed too.

Moments are drawn from seeds; `make soak` draws more of them (see `Soak` in conftest.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fdf.stage.crashpoints import READER_POINTS, VARIABLE
from fdf.testing.drivers import Driver

pytestmark = pytest.mark.timeout(900)
ROWS, STREAMED = 1500, 4000
WORKERS = pytest.mark.parametrize("workers", [1, 2, 4])
KINDS = pytest.mark.parametrize("kind", ["listed", "streamed"])
BOUNDS = {
    "fdf.mixture.ranges.MOST_ROWS": 400,
    "fdf.stage.streaming.chunks.MOST_ROWS": 150,
}
"""Many splits and chunks of little data."""
FUNCTION = """
import time

def documents(rows, pause):
    for number in range(rows):
        if number % 200 == 199:
            time.sleep(pause)
        yield {"text": f"streamed {number} ".ljust(20 + number * 7919 % 150, "x"), "n": number}
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    dice = random.Random(11)
    for name in ("web", "code"):
        (folder / name).mkdir()
        for part in range(3):
            numbers = range(part * ROWS // 3, (part + 1) * ROWS // 3)
            texts = [f"{name} {n} ".ljust(dice.randint(12, 220), "y") for n in numbers]
            pq.write_table(pa.table({"text": texts, "n": list(numbers)}), folder / name / f"{part}.parquet")
    (folder / "mine.py").write_text(FUNCTION)
    return folder


def recipe_for(root: Path, inputs: Path, kind: str) -> dict[str, Any]:
    third: dict[str, Any] = {"type": "parquet", "path": str(inputs / "code")}
    if kind == "streamed":
        third = {"type": "python", "function": f"{inputs}/mine.py:documents", "args": {"rows": STREAMED, "pause": 0.02}}
        third["schema"] = {"text": "string", "n": "int64"}
    datasets = [
        {"name": "third", "weight": 0.5, "source": third},
        {"name": "web", "weight": 0.3, "epochs": 2, "source": {"type": "parquet", "path": str(inputs / "web")}},
        {"name": "code", "weight": 0.2, "source": {"type": "parquet", "path": str(inputs / "code")}},
    ]
    words = {"id": "words", "kind": "filter", "op": "WordCountFilter", "params": {"min_words": 2}}
    return {
        "name": "mixed",
        "input": {
            "type": "mixture",
            "seed": 3,
            "unit": "bytes",
            "on_exhausted": "renormalize",
            "datasets": datasets,
        },
        "stages": [{"name": "one", "materialize": {"path": str(root / "one")}, "operators": [words]}],
        "output": {"type": "parquet", "path": str(root / "output"), "shard_size": 60_000},
    }


def outcome(root: Path) -> dict[str, str]:
    """Return the sha256 of every data file, the id of every manifest, and the name of everything else."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if ".fdf-tmp" in path.parts or not path.is_file() or path.name == "README.md":
            continue
        if path.name.startswith(".fdf-ray-"):  # By which nodes are asked for the folder; a later run removes it.
            continue
        if path.name == "manifest.json":
            found[name] = json.loads(path.read_text())["id"]
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.name.startswith("part-") else ""
    return found


def readable(root: Path) -> None:
    """What is committed can be read at any moment."""
    for path in root.rglob("manifest.json"):
        top = path.parent.parent if path.parent.name == "__fdf__" else path.parent
        for entry in json.loads(path.read_text())["outputs"]:
            assert hashlib.sha256((top / entry["path"]).read_bytes()).hexdigest() == entry["sha256"], entry


@dataclass
class Undisturbed:
    """What runs that nobody killed left, by the kind of mixture, and their drivers."""

    files: dict[str, dict[str, str]] = field(default_factory=dict)
    drivers: dict[tuple[str, int], Driver] = field(default_factory=dict)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, inputs) -> Undisturbed:
    place = tmp_path_factory.mktemp("undisturbed")
    known = Undisturbed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FDF_HOME", str(place / "home"))
        warm = recipe_for(place / "warm-up", inputs, "listed")
        assert Driver(warm, place, runner="serial", limit=1, bounds=BOUNDS).wait() == 0
        for kind in ("listed", "streamed"):
            for workers in (0, 1, 2, 4):
                root = place / f"{kind}-{workers}"
                options = {"runner": "local", "workers": workers} if workers else {"runner": "serial"}
                driver = Driver(recipe_for(root, inputs, kind), place, bounds=BOUNDS, **options)
                assert driver.wait() == 0, driver.errors()
                driver.wait_for_workers()
                known.drivers[kind, workers] = driver
                assert outcome(root) == known.files.setdefault(kind, outcome(root))
            check_rows(root, kind)
    return known


def check_rows(root: Path, kind: str) -> None:
    """No row is lost or doubled, and the stream is in its order."""
    entries = json.loads((root / "one" / "manifest.json").read_text())["outputs"]
    rows = pa.concat_tables([pq.read_table(root / "one" / e["path"]) for e in entries])
    ids = rows["__fdf__/id"].to_pylist()
    assert len(set(ids)) == len(ids) == 2 * ROWS + ROWS + (STREAMED if kind == "streamed" else ROWS)
    if kind == "streamed":
        third = rows.filter(pa.compute.equal(rows["__fdf__/source"], "third"))
        assert third["n"].to_pylist() == list(range(STREAMED))
    assert not list(root.rglob("_spool"))


@pytest.fixture
def start(tmp_path, monkeypatch, inputs):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))

    def start(root: Path, kind: str, *, crash: str = "", **options: Any) -> Driver:
        env = {VARIABLE: crash} if crash else {}
        return Driver(recipe_for(root, inputs, kind), tmp_path / "drivers", env=env, bounds=BOUNDS, **options)

    return start


@KINDS
@WORKERS
def test_driver_killed_at_random_moments(tmp_path, start, undisturbed, soak, kind, workers):
    def run(root: Path) -> Driver:
        return start(root, kind, runner="local", workers=workers)

    def settled(root: Path) -> None:
        assert outcome(root) == undisturbed.files[kind]

    like = undisturbed.drivers[kind, workers]
    soak.kill_drivers(run, tmp_path, times=soak.times(3), like=like, alive=readable, settled=settled)


@KINDS
@WORKERS
def test_workers_killed_at_random_moments_cost_no_run(tmp_path, start, undisturbed, soak, kind, workers):
    def run(root: Path) -> Driver:
        return start(root, kind, runner="local", workers=workers)

    def settled(root: Path) -> None:
        assert outcome(root) == undisturbed.files[kind]

    like = undisturbed.drivers[kind, workers]
    soak.kill_workers(run, tmp_path, times=soak.times(2), work=like.seconds - like.begun, settled=settled)


@WORKERS
def test_readers_killed_at_random_moments_cost_no_run(tmp_path, start, undisturbed, soak, workers):
    dice = soak.dice("readers", workers)
    like = undisturbed.drivers["streamed", workers]
    killed = number = 0
    while killed < soak.times(2):
        number += 1
        root = tmp_path / f"dataset-{number}"
        driver = start(root, "streamed", runner="local", workers=workers)
        driver.wait_for("stage_started")
        of_this_run = 0
        # A stream may lose four readers in a row without a chunk between, no more.
        while of_this_run < 4 and driver.wait(dice.uniform(0, like.seconds / 3)) is None:
            for pid in [pid for pid in driver.workers() if is_reader(pid)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed, of_this_run = killed + 1, of_this_run + 1
                    soak.struck(f"reader after {driver.last_event()}")
        assert driver.wait() == 0, driver.errors()
        driver.wait_for_workers()
        assert outcome(root) == undisturbed.files["streamed"]
        shutil.rmtree(root)


@pytest.mark.parametrize("point", READER_POINTS)
def test_driver_killed_while_a_chunk_is_between_two_places(tmp_path, start, undisturbed, soak, point):
    """The reader dies there and its driver with it: the chunk is in place, or in the journal, and nobody was told."""
    for number in range(soak.times(1, share=4)):
        root = tmp_path / f"{number}"
        nth = soak.dice(point, number).randint(1, STREAMED // BOUNDS["fdf.stage.streaming.chunks.MOST_ROWS"])
        passed = tmp_path / f"{number}-passed"
        driver = start(root, "streamed", crash=f"{point}:{passed}#{nth}", runner="serial")
        while driver.wait(0.005) is None and (not passed.exists() or passed.stat().st_size < nth):
            pass
        if driver.wait(0) is None:
            os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() in (0, -signal.SIGKILL)
        soak.struck(f"driver at {point}")
        readable(root)
        assert start(root, "streamed", runner="local", workers=2).wait() == 0
        assert outcome(root) == undisturbed.files["streamed"]
        shutil.rmtree(root)


@KINDS
def test_driver_of_a_cluster_that_is_killed_goes_on_where_it_was(tmp_path, start, undisturbed, soak, kind):
    dice = soak.dice("ray", kind)
    for number in range(soak.times(1, share=10)):
        root = tmp_path / f"{number}"
        driver = start(root, kind, runner="ray", workers=2)
        driver.wait_for("split_committed")
        if driver.wait(dice.uniform(0, 0.5)) is None:
            os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() in (0, -signal.SIGKILL), driver.errors()
        soak.struck(f"driver of a cluster after {driver.last_event()}")
        readable(root)
        again = start(root, kind, runner="ray", workers=2)
        assert again.wait() == 0, again.errors()
        assert outcome(root) == undisturbed.files[kind]
        shutil.rmtree(root)


def test_two_drivers_at_once_make_one_dataset(tmp_path, start, undisturbed, soak):
    seconds = undisturbed.drivers["streamed", 0].seconds
    for number in range(soak.times(1, share=4)):
        root = tmp_path / f"{number}"
        offset = soak.dice("two", number).uniform(0, seconds)
        first = start(root, "streamed", runner="local", workers=2)
        first.wait(offset)
        second = start(root, "streamed", runner="serial")
        codes = first.wait(), second.wait()
        assert set(codes) <= {0, 5}, (offset, first.errors(), second.errors())
        first.wait_for_workers()
        second.wait_for_workers()
        soak.struck(f"two drivers {codes}")
        if 0 not in codes:
            assert start(root, "streamed", runner="serial").wait() == 0
        if 5 in codes:
            # A rival that gave up may leave what it had spooled since the other cleaned up, which is for this to judge.
            fdf = Path(sys.executable).with_name("fdf")
            subprocess.run([fdf, "gc", "--delete", "--grace", "0", root / "one"], check=True, capture_output=True)
        assert outcome(root) == undisturbed.files["streamed"]
        shutil.rmtree(root)


def is_reader(pid: int) -> bool:
    try:
        return "fdf.stage.streaming.reader" in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
