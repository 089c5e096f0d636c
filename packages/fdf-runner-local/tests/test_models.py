"""Stages with models in the local runner: processes of their own, the serial runner's bytes, and what goes wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import Cancelled, MissingDependency, RecipeError
from fdf.stage.events import CancelToken
from fdf.testing.models import (
    FILES,
    ROWS,
    ModelConformance,
    noted,
    outcome,
    processes,
    recipe,
    reference,
    step,
    write_input,
)
from fdf_runner_local import LocalRunner


class TestLocal(ModelConformance):
    runner = "fdf_runner_local:LocalRunner"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    write_input(tmp_path)
    return tmp_path


def run(place, *steps, workers=2, name="out", **options):
    return fdf.run(recipe(place, *steps, name=name), runner=LocalRunner(workers=workers), **options)


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


_SHORT = '''
import resource, threading
from dataclasses import dataclass
from pathlib import Path
from fdf.models.tensors import tensor
from fdf.testing.small_models import Tiny


@dataclass(frozen=True, kw_only=True)
class Short(Tiny):
    """Lets the process have no other file open for a moment, once."""

    version = "1.0.0"

    def prepare(self, batch):
        self.fall_short("prepare", batch.column(self.field).to_numpy())
        return super().prepare(batch)

    def infer(self, prepared):
        made = super().infer(prepared)
        self.fall_short("infer", tensor(prepared, "x")[:, 0])
        return made

    def fall_short(self, verb, numbers):
        was = Path(self.folder, "short")
        if self.trouble == verb and self.row in numbers and not was.exists():
            was.touch()
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            threading.Timer(0.3, resource.setrlimit, (resource.RLIMIT_NOFILE, before)).start()
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
'''


@pytest.mark.parametrize("verb", ["prepare", "infer"])
@pytest.mark.timeout(60)
def test_moment_without_a_descriptor_left_costs_no_row_and_hangs_nothing(place, verb):
    (place / "short.py").write_text(_SHORT)
    # Slow enough for the model to open no file of its own meanwhile, nor for the worker, which waits for its answer.
    latency = 0.5 if verb == "infer" else 0.0
    short = {**step(place, trouble=verb, row=117, rows=ROWS, latency=latency), "op": f"{place}/short.py:Short"}
    result = fdf.run(recipe(place, short), runner=LocalRunner(workers=1))
    assert (place / "short").exists()
    assert outcome(result) == reference(place, short)
