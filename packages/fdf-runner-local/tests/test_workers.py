"""What happens to worker processes of the local runner, beyond the suite that every runner passes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import Cancelled, FdfError, MissingDependency, PlanError
from fdf.stage.events import CancelToken
from fdf.testing import troublemakers
from fdf_runner_local import LocalRunner


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for number in range(3):
        pq.write_table(pa.table({"n": range(number * 4, number * 4 + 4)}), tmp_path / "in" / f"{number}.parquet")
    return tmp_path


def recipe(place, operator, **params):
    step = {"id": "trouble", "kind": "filter", "op": f"{troublemakers.__file__}:{operator}", "params": params}
    return {
        "name": "workers",
        "input": {"type": "parquet", "path": str(place / "in" / "*.parquet")},
        "stages": [{"name": "only", "materialize": {"path": str(place / "out")}, "operators": [step]}],
    }


def children():
    return psutil.Process().children(recursive=True)


@pytest.fixture
def seen_workers():
    """Return (events, on_event): each event is kept, with the processes that were there when it came."""
    seen = []
    return seen, lambda event: seen.append((event, children()))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_no_process_is_left_after_a_run(place, seen_workers, start):
    before = children()
    seen, on_event = seen_workers
    fdf.run(recipe(place, "dawdles"), runner=LocalRunner(workers=2, start=start), on_event=on_event)
    assert max(len(there) for _, there in seen) > len(before)
    assert children() == before


def test_runner_that_is_kept_leaves_only_what_it_forks_from(place):
    before = children()
    runner = LocalRunner(workers=2)
    fdf.run(recipe(place, "dawdles"), runner=runner)
    assert len(children()) == len(before) + 1
    runner.close()
    assert children() == before


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_no_process_is_left_after_a_failure(place, start):
    before = children()
    with pytest.raises(FdfError):
        fdf.run(recipe(place, "fails_stage", row=5), runner=LocalRunner(workers=2, start=start))
    assert children() == before


def test_no_process_is_left_after_an_interrupt_in_the_driver(place):
    before = children()

    def interrupt(event):
        if event.kind == "split_started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fdf.run(recipe(place, "dawdles", seconds=5.0), runner=LocalRunner(workers=2), on_event=interrupt)
    assert children() == before


def test_workers_are_replaced_when_all_processes_are_killed(place):
    flag = place / "go"
    killed = []
    events = []

    def on_event(event):
        events.append(event)
        if event.kind == "split_started" and not killed:
            killed.extend(children())
            for process in killed:
                process.send_signal(signal.SIGKILL)
            flag.touch()

    wanted = recipe(place, "waits", row=0, flag=str(flag))
    result = fdf.run(wanted, runner=LocalRunner(workers=2), on_event=on_event)
    assert len(killed) >= 2
    assert result.to_arrow()["n"].to_pylist() == list(range(12))
    assert {e.data["cause"] for e in events if e.kind == "split_retried"} == {"killed"}


def test_what_a_worker_started_dies_with_it(place):
    (place / "ops.py").write_text(
        "import os, pathlib, subprocess\n"
        "def starts(batch, *, pids: str = ''):\n"
        "    started = subprocess.Popen(['sleep', '600'])\n"
        "    with open(pids, 'a') as out:\n"
        "        out.write(f'{started.pid}\\n')\n"
        "    os.kill(os.getpid(), 9) if len(pathlib.Path(pids).read_text().split()) == 1 else None\n"
        "    return batch['n'].is_valid()\n"
    )
    wanted = recipe(place, "waits")
    wanted["stages"][0]["operators"][0] |= {"op": f"{place}/ops.py:starts", "params": {"pids": str(place / "pids")}}
    fdf.run(wanted, runner=LocalRunner(workers=1))
    started = [int(pid) for pid in (place / "pids").read_text().split()]
    assert len(started) == 4
    deadline = time.monotonic() + 5
    while any(map(psutil.pid_exists, started)):
        assert time.monotonic() < deadline, started
        time.sleep(0.02)


def test_split_without_progress_is_reported_with_its_place_and_goes_on(place):
    flag = place / "go"
    stalls = []

    def on_event(event):
        if event.kind == "split_stalled":
            stalls.append(event)
            if len(stalls) == 2:
                flag.touch()

    wanted = recipe(place, "waits", row=6, flag=str(flag))
    result = fdf.run(wanted, runner=LocalRunner(workers=2, stall_after=1.0), on_event=on_event)
    assert result.manifest["counts"]["rows_out"] == 12
    first, second = (event.data for event in stalls[:2])
    assert first["name"].endswith("1.parquet")
    assert 1.0 <= first["seconds"] < 2.0 <= second["seconds"]
    assert "troublemakers.py" in first["where"]
    assert "in waits" in first["where"]
    assert first["worker"] > 0


def test_stall_is_reported_also_where_the_interpreter_is_locked(place):
    (place / "ops.py").write_text(
        "import ctypes\n"
        "def hogs(batch):\n"
        "    ctypes.PyDLL(None).usleep(6_000_000)\n"  # PyDLL keeps the interpreter's lock.
        "    return batch['n'].is_valid()\n"
    )
    wanted = recipe(place, "waits")
    wanted["stages"][0]["operators"][0] |= {"op": f"{place}/ops.py:hogs", "params": {}}
    stalls = []
    cancel = CancelToken()

    def on_event(event):
        if event.kind == "split_stalled":
            stalls.append(event)
            cancel.cancel()

    with pytest.raises(Cancelled):
        fdf.run(wanted, runner=LocalRunner(workers=1, stall_after=1.0), on_event=on_event, cancel=cancel)
    assert "does not answer" in stalls[0].data["where"]


def test_worker_that_ignores_a_cancel_is_killed(place):
    cancel = CancelToken()
    asked = []

    def on_event(event):
        if event.kind == "split_started" and not asked:
            asked.append(time.monotonic())
            threading.Timer(0.2, cancel.cancel).start()

    with pytest.raises(Cancelled):
        fdf.run(recipe(place, "dawdles", seconds=30.0), runner=LocalRunner(workers=2), on_event=on_event, cancel=cancel)
    assert time.monotonic() - asked[0] < 5


def test_bug_is_told_with_its_traceback():
    unreadable = _any_task()
    with pytest.raises(FdfError, match=r"(?s)failed on split .*EOFError: Ran out of input.*Traceback") as raised:
        LocalRunner(workers=1).run(iter([unreadable]), lambda _: None, CancelToken())
    assert raised.value.exit_code == 70


def test_interpreter_that_cannot_start_workers_is_named(place, monkeypatch, capfd):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p and "runner-local" not in p])
    with pytest.raises(MissingDependency, match="worker processes cannot be started") as raised:
        LocalRunner(workers=1).run(iter([_any_task()]), lambda _: None, CancelToken())
    assert raised.value.exit_code == 4
    assert "ModuleNotFoundError" in capfd.readouterr().err


def _any_task():
    from fdf.plan.task import SplitKey, StageRef, Task

    return Task(key=SplitKey.of("a", "b", "c"), stage=StageRef(name="s", digest="d", payload=b""), inputs=())


def test_workers_compute_with_one_thread(place):
    (place / "ops.py").write_text(
        "import os, pathlib\nimport polars as pl\nimport pyarrow as pa\n"
        "def tells(batch, *, out: str = ''):\n"
        "    told = pa.cpu_count(), pl.thread_pool_size(), os.environ['OMP_NUM_THREADS']\n"
        "    pathlib.Path(out).write_text(repr(told))\n"
        "    return batch['n'].is_valid()\n"
    )
    wanted = recipe(place, "waits")
    wanted["stages"][0]["operators"][0] |= {"op": f"{place}/ops.py:tells", "params": {"out": str(place / "told")}}
    fdf.run(wanted, runner=LocalRunner(workers=1))
    assert (place / "told").read_text() == "(1, 1, '1')"
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "1"


def test_nothing_to_do_starts_no_process():
    before = children()
    LocalRunner(workers=2).run(iter(()), lambda _: None, CancelToken())
    assert children() == before


def test_operator_that_wants_more_memory_than_there_is_is_refused_before_the_run(place):
    wanted = recipe(place, "waits")
    wanted["stages"][0]["operators"][0]["resources"] = {"memory": 1 << 60}
    with pytest.raises(MissingDependency, match="`trouble` of stage only asks for"):
        fdf.run(wanted, runner=LocalRunner(workers=1))


def test_no_workers_are_refused():
    with pytest.raises(PlanError, match="0 workers"):
        LocalRunner(workers=0)
