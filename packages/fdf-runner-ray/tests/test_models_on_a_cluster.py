"""Stages with models on a cluster: actors that hold them, the serial runner's bytes, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

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


@pytest.fixture
def gpus(nodes, runner):
    """Give a function that runs on a node with GPUs that Ray only counts; what runs there does not look for one."""

    def run(place, *steps, count=1, cpus=4, workers=2, name="out", **options):
        nodes.add_node(num_cpus=cpus, num_gpus=count)
        return fdf.run(
            recipe(place, *steps, name=name), runner=runner(address=nodes.address, workers=workers), **options
        )

    return run


def test_models_that_fit_together_have_actors_of_their_own_on_their_share_of_a_gpu(gpus, place):
    steps = step(place, gpus=0.5, trouble="tells"), step(place, column="also", gpus=0.25, trouble="tells")
    result = gpus(place, *steps)
    loaded = [(column, pid) for column, what, pid, _ in noted(place) if what == "device"]
    assert sorted(column for column, _ in loaded) == ["also", "said"]
    assert len({pid for _, pid in loaded}) == 2
    assert not {pid for _, pid in loaded} & processes(place, "cpu").keys()
    assert [what for _, what, _, _ in noted(place) if what.startswith("visible")] == ["visible:0"] * 2
    assert outcome(result) == reference(place, *steps)


def test_models_that_do_not_fit_together_run_in_turn(gpus, place):
    steps = step(place, gpus=0.5, rows=1), step(place, column="also", gpus=1, rows=1)
    result = gpus(place, *steps)
    assert len(processes(place, "device")) == 1
    assert outcome(result) == reference(place, *steps)


def test_pool_grows_while_requests_wait_at_all_of_its_actors(gpus, place):
    # Nothing is answered before a second process has loaded the model.
    steps = (step(place, gpus=0.5, rows=1, trouble="wants company"),)
    result = gpus(place, *steps)
    assert len(processes(place, "device")) == 2
    assert len(processes(place, "infer")) == 2
    assert outcome(result) == reference(place, *steps)


def holders(name="ray::ModelHost"):
    """Return the actors that hold models on this machine's clusters which this test's driver may see."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if (process.cmdline() or [""])[0].startswith(name):
                found.append(process)
    return found


def struck(place, strike):
    """Call `strike` once the model has begun to infer; return the thread."""

    def wait():
        while not processes(place, "infer"):
            time.sleep(0.01)
        strike()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("victim", ["actor", "process"])
def test_killed_actor_or_process_of_a_model_costs_nothing_but_time(runner, place, victim):
    slow = step(place, latency=0.1)
    events = []

    def strike():
        if victim == "actor":
            for actor in holders():
                actor.kill()
        else:
            psutil.Process(next(iter(processes(place, "infer")))).kill()

    struck(place, strike)
    result = fdf.run(recipe(place, slow), runner=runner(workers=2), on_event=events.append)
    assert len(processes(place, "device")) == 2
    assert [e for e in events if e.kind == "split_retried"] == []
    (told,) = [e.data for e in events if e.kind == "warning" and "again" in e.data["message"]]
    assert ("its process was killed" if victim == "actor" else "died (SIGKILL)") in told["message"]
    assert told["node"]
    assert outcome(result) == reference(place, slow)


def test_lost_node_of_a_model_is_replaced_by_the_next_that_comes(nodes, lose, runner, place):
    nodes.add_node(num_cpus=1)
    lost = nodes.add_node(num_cpus=1, num_gpus=1)
    slow = step(place, latency=0.1)

    def strike():
        lose(lost)
        nodes.add_node(num_cpus=1, num_gpus=1)

    thread = struck(place, strike)
    result = fdf.run(recipe(place, slow), runner=runner(address=nodes.address, workers=1))
    thread.join()
    assert len(processes(place, "device")) == 2
    assert outcome(result) == reference(place, slow)


_DRIVER = """
import json, sys
import fdf
fdf.run(json.loads(sys.argv[1]), runner="ray", workers=2, ray_address=sys.argv[2])
"""


def test_killed_driver_takes_the_actors_of_its_models_along_and_the_run_resumes(cluster, runner, place, eventually):
    slow = step(place, latency=0.5)
    command = [sys.executable, "-c", _DRIVER, json.dumps(recipe(place, slow)), cluster.address]
    with subprocess.Popen(command, cwd=place) as driver:
        eventually(lambda: list((place / "out").rglob("_receipts/**/*.json")), within=60)
        assert holders()
        driver.kill()
    eventually(lambda: not holders())
    result = fdf.run(recipe(place, slow), runner=runner(workers=2))
    assert result.manifest["resumed_splits"] >= 1
    assert outcome(result) == reference(place, slow)


@pytest.mark.parametrize(("trouble", "name"), [("segfaults", "SIGSEGV"), ("raises", "KeyError: 'this row'")])
def test_only_the_row_that_is_to_blame_is_quarantined(runner, place, trouble, name):
    wrong = step(place, trouble=trouble, row=117)
    result = fdf.run(recipe(place, wrong), runner=runner(workers=2))
    assert result.manifest["counts"]["rows_out"] == FILES * ROWS - 1
    (file,) = result.manifest["quarantine"]
    (row,) = pq.read_table(Path(result.path, file["path"])).to_pylist()
    assert row["n"] == 117
    assert name in row["__fdf__/error"]


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        ("shape", OperatorMisbehaved, r"infer\(\) of Tiny returned 3 rows for 4"),
        ("exits", StageFailed, r"`score.said`'s model died 6 times on the same 4 rows \(last: exit code 3\)"),
        ("setup", StageFailed, r"`score.said` on cpu died 6 times before it did anything"),
    ],
)
def test_model_that_cannot_work_fails_the_stage(runner, place, trouble, error, says):
    with pytest.raises(error, match=says):
        fdf.run(recipe(place, step(place, trouble=trouble, row=117)), runner=runner(workers=2))


def test_lack_of_memory_halves_and_is_remembered_over_splits(runner, place):
    result = fdf.run(recipe(place, step(place, rows=12, fits=4)), runner=runner(workers=1))
    assert result.manifest["counts"]["rows_out"] == FILES * ROWS
    assert Counter(what for _, what, _, _ in noted(place))["memory"] == 2
    assert {rows for _, what, _, rows in noted(place) if what == "infer"} == {3}


def test_cancel_reaches_a_run_whose_model_hangs(runner, place, eventually):
    cancel = CancelToken()
    struck(place, cancel.cancel)
    began = time.monotonic()
    with pytest.raises(Cancelled):
        fdf.run(recipe(place, step(place, trouble="hangs", row=100)), runner=runner(workers=2), cancel=cancel)
    assert time.monotonic() - began < 60
    eventually(lambda: not holders())


def test_model_that_hangs_is_reported_with_its_place_and_node(runner, place):
    cancel = CancelToken()
    told = []

    def on_event(event):
        if event.kind == "warning" and "has been at" in event.data["message"]:
            told.append(event.data)
            cancel.cancel()

    wanted = recipe(place, step(place, trouble="hangs", row=100))
    with pytest.raises(Cancelled):
        fdf.run(wanted, runner=runner(workers=1, stall_after=1.0), on_event=on_event, cancel=cancel)
    assert told[0]["message"].startswith("`score.said` has been at 4 rows for 1 s")
    assert "in misbehave" in told[0]["message"]
    assert told[0]["node"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([{"gpus": 2}], r"the model of `score.a` of stage `only` needs 1 CPUs, 2 GPUs, and no node"),
        ([{"gpus": 1, "memory": 1 << 50}], r"the model of `score.a` .* 1048576.0 GiB of memory, and no node"),
        (
            [{"gpus": 0.5, "cpus": 2}],
            r"at the same time 2 CPUs, 0.5 GPUs for the model of `score.a`; 1 CPUs for a worker",
        ),
    ],
)
def test_models_that_no_node_can_hold_are_refused_before_the_run(gpus, place, asked, says):
    steps = [{**step(place, column=name), "resources": r} for name, r in zip("ab", asked, strict=False)]
    with pytest.raises(MissingDependency, match=says) as raised:
        gpus(place, *steps, cpus=2)
    assert raised.value.exit_code == 4
    assert not (place / "out").exists()


def test_bytes_on_their_way_are_bounded_behind_a_slow_model(runner, place):
    pq.write_table(pa.table({"n": pa.array(range(400), pa.int64())}), place / "in" / "9.parquet", row_group_size=8)
    stop, peak = threading.Event(), []
    watched = runner(workers=2)
    watched._connect()
    whole = ray.cluster_resources()["object_store_memory"]

    def watch():
        while not stop.wait(0.1):
            peak.append(whole - ray.available_resources().get("object_store_memory", whole))

    watcher = threading.Thread(target=watch)
    watcher.start()
    fdf.run(recipe(place, step(place, "Wide", latency=0.02, rows=64)), runner=watched)
    stop.set()
    watcher.join()
    # 400 rows of a megabyte, in two workers that may each have 128 MiB on their way.
    assert 8 << 20 <= max(peak) <= 2 * (128 << 20)
