"""Stages with models in the local runner: processes of their own, the serial runner's bytes, and what goes wrong."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import Cancelled, MissingDependency, OperatorMisbehaved, RecipeError, StageFailed
from fdf.stage.events import CancelToken
from fdf_runner_local import LocalRunner

FILES, ROWS = 4, 12
FILE = Path(__file__).with_name("model_operators.py")


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


def run(place, *steps, workers=2, name="out", **options):
    return fdf.run(recipe(place, *steps, name=name), runner=LocalRunner(workers=workers), **options)


def outcome(result):
    files = [f["path"] for kind in ("outputs", "dropped", "quarantine") for f in result.manifest[kind]]
    return result.manifest["id"], {f: Path(result.path, f).read_bytes() for f in files}


def reference(place, *steps):
    return outcome(fdf.run(recipe(place, *steps, name="reference"), runner="serial"))


def noted(place):
    path = place / "noted"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(column, what, int(pid), int(rows)) for column, what, pid, rows, _ in lines]


def processes(place, what):
    return Counter(pid for _, done, pid, _ in noted(place) if done == what)


@pytest.mark.parametrize("workers", [1, 3])
def test_result_is_the_serial_runners_byte_for_byte(place, workers):
    n = pa.array([1, None, 13, 2, 13, 3], pa.int64())
    pq.write_table(pa.table({"n": n}), place / "in" / "9.parquet")
    steps = step(place), step(place, column="also", rows=3)
    assert outcome(run(place, *steps, workers=workers)) == reference(place, *steps)


def test_model_is_loaded_once_in_a_process_of_its_own(place):
    run(place, step(place), workers=3)
    loaded, prepared = processes(place, "device"), processes(place, "cpu")
    assert list(loaded.values()) == [1]
    assert len(prepared) >= 2
    assert not loaded.keys() & prepared.keys()
    assert processes(place, "infer").keys() == processes(place, "unload").keys() == loaded.keys()


def test_interpreters_of_their_own_hold_models_too(place):
    result = fdf.run(recipe(place, step(place)), runner=LocalRunner(workers=1, start="spawn"))
    assert list(processes(place, "device").values()) == [1]
    assert outcome(result) == reference(place, step(place))


def test_model_that_wants_no_gpu_stays_in_the_workers(place):
    run(place, step(place, gpus=0), workers=2)
    assert processes(place, "device").keys() == processes(place, "cpu").keys()


def test_batches_are_the_serial_runners(place):
    run(place, step(place, rows=5))
    assert Counter(rows for _, what, _, rows in noted(place) if what == "infer") == {5: 2 * FILES, 2: FILES}


def test_row_that_raises_is_quarantined_with_the_same_words(place):
    wrong = step(place, trouble="raises", row=117)
    result = run(place, wrong)
    assert outcome(result) == reference(place, wrong)
    (file,) = result.manifest["quarantine"]
    (row,) = pq.read_table(Path(result.path, file["path"])).to_pylist()
    assert (row["n"], row["__fdf__/error"]) == (117, "KeyError: 'this row'")


def test_row_that_raises_may_fail_the_stage_while_others_wait(place):
    began = time.monotonic()
    wrong = {**step(place, trouble="raises", row=105, rows=1, latency=0.05), "on_error": "fail"}
    with pytest.raises(OperatorMisbehaved, match=r"`score.said` failed on row .*:5: KeyError: 'this row'"):
        run(place, wrong, workers=1)
    assert time.monotonic() - began < 30


def test_wrong_shape_fails_the_stage_by_its_name(place):
    with pytest.raises(OperatorMisbehaved, match=r"infer\(\) of Tiny returned 3 rows for 4"):
        run(place, step(place, trouble="shape"))


def test_lack_of_memory_halves_and_is_remembered_over_splits(place):
    result = run(place, step(place, rows=12, fits=4), workers=1)
    assert result.manifest["counts"]["rows_out"] == FILES * ROWS
    # 12 rows are too many, and 6; from then on each call gets 3, in all splits.
    assert Counter(what for _, what, _, _ in noted(place))["memory"] == 2
    assert {rows for _, what, _, rows in noted(place) if what == "infer"} == {3}


def test_killed_model_process_costs_nothing_but_time(place):
    events = []
    wrong = step(place, trouble="killed once", row=117)
    result = run(place, wrong, on_event=events.append)
    assert list(processes(place, "device").values()) == [1, 1]
    assert outcome(result) == reference(place, wrong)
    assert (place / "killed").exists()
    assert [e for e in events if e.kind == "split_retried"] == []
    (told,) = [e.data["message"] for e in events if e.kind == "warning" and "died" in e.data["message"]]
    assert "`score.said` on cpu died (SIGKILL)" in told


def test_model_process_killed_from_outside_is_replaced(place):
    struck = []

    def strike():
        while not struck:
            (pid,) = list(processes(place, "infer"))[:1] or [None]
            if pid is not None:
                psutil.Process(pid).send_signal(signal.SIGKILL)
                struck.append(pid)
            time.sleep(0.01)

    slow = step(place, latency=0.05)
    threading.Thread(target=strike, daemon=True).start()
    result = run(place, slow)
    assert struck
    assert len(processes(place, "device")) == 2
    assert outcome(result) == reference(place, slow)


@pytest.mark.parametrize(("trouble", "name"), [("segfaults", "SIGSEGV"), ("breaks the device", "SIGABRT")])
def test_only_the_row_that_kills_its_model_is_quarantined(place, trouble, name):
    events = []
    result = run(place, step(place, trouble=trouble, row=117), on_event=events.append)
    assert result.manifest["counts"]["rows_out"] == FILES * ROWS - 1
    (file,) = result.manifest["quarantine"]
    (row,) = pq.read_table(Path(result.path, file["path"])).to_pylist()
    assert (row["n"], row["__fdf__/error"]) == (117, f"killed its worker twice: {name}")
    assert [e for e in events if e.kind == "split_retried"] == []


def test_rows_that_segfault_only_in_company_are_kept(place):
    result = run(place, step(place, trouble="segfaults in company", row=117))
    assert result.manifest["counts"]["rows_out"] == FILES * ROWS


def test_model_that_exits_fails_the_stage_after_some_attempts(place):
    with pytest.raises(
        StageFailed, match=r"`score.said`'s model died 6 times on the same 4 rows \(last: exit code 3\)"
    ):
        run(place, step(place, trouble="exits", row=117))


def test_model_that_cannot_be_loaded_fails_the_stage(place):
    with pytest.raises(StageFailed, match=r"`score.said` on cpu died 6 times before it did anything"):
        run(place, step(place, trouble="setup"))


def test_cancel_reaches_workers_that_wait_for_a_model(place):
    before = psutil.Process().children(recursive=True)
    cancel = CancelToken()
    asked = []

    def watch():
        while not processes(place, "infer"):
            time.sleep(0.01)
        asked.append(time.monotonic())
        cancel.cancel()

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(Cancelled):
        run(place, step(place, trouble="hangs", row=100), cancel=cancel)
    assert time.monotonic() - asked[0] < 5
    assert psutil.Process().children(recursive=True) == before


def test_model_that_hangs_is_reported_with_its_place(place):
    cancel = CancelToken()
    told = []

    def on_event(event):
        if event.kind == "warning" and "has been at" in event.data["message"]:
            told.append(event.data["message"])
            cancel.cancel()

    runner = LocalRunner(workers=1, stall_after=1.0)
    with pytest.raises(Cancelled):
        fdf.run(recipe(place, step(place, trouble="hangs", row=100)), runner=runner, on_event=on_event, cancel=cancel)
    assert told[0].startswith("`score.said` has been at 4 rows for 1 s")
    assert "in misbehave" in told[0]


def test_no_process_and_no_socket_is_left(place, monkeypatch, tmp_path):
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(sockets))
    before = psutil.Process().children(recursive=True)
    run(place, step(place))
    assert psutil.Process().children(recursive=True) == before
    assert list(sockets.iterdir()) == []


@pytest.fixture
def gpus(monkeypatch):
    """Let the runner count GPUs; what runs on them here does not look at its device."""

    def offer(count):
        monkeypatch.setattr("fdf_runner_local.runner.gpu_count", lambda: count)

    return offer


def test_models_that_do_not_fit_together_run_in_turn(place, gpus):
    gpus(1)
    steps = step(place, gpus=0.5, rows=1), step(place, column="also", gpus=1, rows=1)
    result = run(place, *steps)
    assert outcome(result) == reference(place, *steps)


def test_models_in_turn_change_seldom(place, gpus):
    gpus(1)
    pq.write_table(
        pa.table({"n": pa.array(range(1000, 1400), pa.int64())}), place / "in" / "9.parquet", row_group_size=20
    )
    run(place, step(place, gpus=0.5), step(place, column="also", gpus=1))
    done = [(column, what) for column, what, _, _ in noted(place) if what in ("device", "unload", "infer")]
    assert Counter(what for _, what in done)["infer"] == 2 * (FILES * ROWS // 4 + 400 // 4)
    at_hand = None
    for column, what in done:
        if what == "device":
            assert at_hand is None
            at_hand = column
        elif what == "unload":
            assert at_hand == column
            at_hand = None
        else:
            assert at_hand == column
    assert Counter(what for _, what in done)["device"] <= 12
    assert len(processes(place, "device")) == 1


def test_halves_share_a_gpu_and_replicas_fill_the_rest(place, gpus):
    gpus(2)
    run(place, step(place, gpus=0.5), step(place, column="also", gpus=1), workers=4)
    loaded = Counter(column for column, what, _, _ in noted(place) if what == "device")
    assert loaded == {"said": 2, "also": 1}


def test_more_gpus_than_there_are_is_refused_before_the_run(place, gpus):
    gpus(1)
    with pytest.raises(MissingDependency, match=r"`score.said` asks for 2 GPUs, but this machine offers 1"):
        run(place, step(place, gpus=2))


@pytest.mark.parametrize("runner", ["local", "serial"])
def test_models_on_the_cpu_are_told_once(place, runner, monkeypatch):
    monkeypatch.setattr("fdf.runner.devices.gpu_count", lambda: 0)
    steps = recipe(place, step(place))
    steps["stages"].append({"name": "next", "operators": [step(place, column="also")]})
    events = []
    fdf.run(steps, runner=runner, workers=2, on_event=events.append)
    told = [e.data["message"] for e in events if e.kind == "warning" and "GPU" in e.data["message"]]
    assert told == ["this machine offers no GPU, so that `score.said`, `score.also` will run on its CPU"]


def test_bytes_on_their_way_are_bounded_behind_a_slow_model(place):
    pq.write_table(pa.table({"n": pa.array(range(400), pa.int64())}), place / "in" / "9.parquet", row_group_size=8)
    peak = []
    stop = threading.Event()

    def watch():
        while not stop.wait(0.02):
            peak.append(sum(_shared(child) for child in psutil.Process().children(recursive=True)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    run(place, step(place, "Wide", latency=0.02, rows=64), workers=2)
    stop.set()
    watcher.join()
    # 400 rows of a megabyte, in two workers that may each have 128 MiB on their way.
    assert 8 << 20 <= max(peak) <= 2 * (128 << 20)


def _shared(process):
    """Count the bytes of memory files that a process has made and still holds."""
    total = 0
    try:
        for path in Path(f"/proc/{process.pid}/fd").iterdir():
            if "memfd:fdf" in str(path.readlink()):
                total += path.stat().st_size
    except OSError:
        pass
    return total


def test_auto_batches_grow_while_they_pay(place):
    pq.write_table(pa.table({"n": pa.array(range(20, 2020), pa.int64())}), place / "in" / "9.parquet")
    result = run(place, step(place, rows="auto", latency=0.05), workers=1)
    sizes = [rows for _, what, _, rows in noted(place) if what == "infer"]
    assert max(sizes[:4]) == 8
    assert max(sizes) >= 64
    assert result.manifest["counts"]["rows_out"] == FILES * ROWS + 2000


def test_auto_batches_stop_where_memory_does(place):
    pq.write_table(pa.table({"n": pa.array(range(20, 1020), pa.int64())}), place / "in" / "9.parquet")
    run(place, step(place, rows="auto", latency=0.01, fits=40), workers=1)
    # Three calls of 64 rows may be on their way before the first of them is refused.
    assert 1 <= Counter(what for _, what, _, _ in noted(place))["memory"] <= 3
    assert max(rows for _, what, _, rows in noted(place) if what == "infer") == 32


def test_auto_is_for_models_only(place):
    wanted = recipe(place, {"id": "f", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "n", "ge": 1}})
    wanted["stages"][0]["operators"][0]["batch_size"] = "auto"
    with pytest.raises(RecipeError, match="`batch_size: auto` is for operators that run a model"):
        fdf.run(wanted, runner="serial")
