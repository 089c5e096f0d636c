"""Stages with models on a cluster: actors that hold them, the serial runner's bytes, and what goes wrong."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import Cancelled, MissingDependency, OperatorMisbehaved, StageFailed
from fdf.runner.serial import SerialRunner
from fdf.stage.events import CancelToken

FILES, ROWS = 4, 12
FILE = Path(__file__).parents[2] / "fdf-runner-local" / "tests" / "model_operators.py"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        n = pa.array(range(100 + number * ROWS, 100 + (number + 1) * ROWS), pa.int64())
        pq.write_table(pa.table({"n": n}), tmp_path / "in" / f"{number}.parquet")
    return tmp_path


def step(place, op="Tiny", *, column="said", gpus=1, rows=None, **params):
    made = {
        "id": f"score.{column}",
        "kind": "score",
        "op": f"{FILE}:{op}",
        "params": {"column": column, "folder": str(place), **params},
        "resources": {"gpus": gpus},
    }
    return made if rows is None else {**made, "batch_size": rows}


def recipe(place, *steps, name="out"):
    return {
        "name": "models",
        "input": {"type": "parquet", "path": str(place / "in" / "*.parquet")},
        "stages": [{"name": "only", "materialize": {"path": str(place / name)}, "operators": list(steps)}],
    }


def outcome(result):
    files = [f["path"] for kind in ("outputs", "dropped", "quarantine") for f in result.manifest[kind]]
    return result.manifest["id"], {f: Path(result.path, f).read_bytes() for f in files}


def reference(place, *steps):
    return outcome(fdf.run(recipe(place, *steps, name="reference"), runner=SerialRunner()))


def noted(place):
    path = place / "noted"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(column, what, int(pid), int(rows)) for column, what, pid, rows, _ in lines]


def processes(place, what):
    return Counter(pid for _, done, pid, _ in noted(place) if done == what)


def test_result_is_the_serial_runners_byte_for_byte(runner, place):
    n = pa.array([1, None, 13, 2, 13, 3], pa.int64())
    pq.write_table(pa.table({"n": n}), place / "in" / "9.parquet")
    steps = step(place), step(place, column="also", rows=3)
    result = fdf.run(recipe(place, *steps), runner=runner(workers=2))
    loaded, prepared = processes(place, "device"), processes(place, "cpu")
    assert list(loaded.values()) == [2]  # Without a GPU one process of the node holds both.
    assert not loaded.keys() & prepared.keys()
    assert processes(place, "unload") == loaded
    assert outcome(result) == reference(place, *steps)
