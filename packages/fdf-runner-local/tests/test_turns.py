"""Models in turn over groups of small splits: how often they change, and what happens when processes die meanwhile."""

from __future__ import annotations

import signal
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
from fdf.errors import Cancelled, StageFailed
from fdf.stage.events import CancelToken
from fdf.testing import small_models
from fdf_runner_local import LocalRunner

FILES, ROWS = 24, 12
LOADING = 1.0
"""Seconds that a model takes to load. As long a model is waited for, so that a slow machine makes no other changes."""
OPERATORS = small_models.__file__


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("fdf_runner_local.runner.gpu_count", lambda: 1)
    (tmp_path / "in").mkdir()
    write(tmp_path, FILES, ROWS)
    return tmp_path


def write(place, files, rows):
    for number in range(files):
        n = pa.array(range(100 + number * rows, 100 + (number + 1) * rows), pa.int64())
        pq.write_table(pa.table({"n": n}), place / "in" / f"{number:02}.parquet")


def steps(place, op="Tiny", *, rows=None, second=None, **params):
    """Return two models that ask for one and a half of the one GPU; `second` has parameters for that one only."""
    made = []
    for column, gpus, more in (("said", 0.5, {}), ("also", 1, second or {})):
        given = {"column": column, "folder": str(place), "loading": LOADING, **params, **more}
        use = {"id": f"score.{column}", "kind": "score", "op": f"{OPERATORS}:{op}", "params": given}
        made.append({**use, "resources": {"gpus": gpus}, **({} if rows is None else {"batch_size": rows})})
    return made


def run(place, operators, *, name="out", runner=None, **options):
    recipe = {
        "name": "turns",
        "input": {"type": "parquet", "path": str(place / "in" / "*.parquet")},
        "stages": [{"name": "only", "materialize": {"path": str(place / name)}, "operators": operators}],
    }
    return fdf.run(recipe, runner=runner or LocalRunner(workers=2), **options)


def outcome(result):
    files = [f["path"] for kind in ("outputs", "quarantine") for f in result.manifest[kind]]
    return result.manifest["id"], {f: Path(result.path, f).read_bytes() for f in files}


def reference(place, operators):
    calm = {"loading": 0.0, "folder": "", "trouble": ""}
    quick = [{**o, "params": {**o["params"], **calm}} for o in operators]
    return fdf.run(
        {
            "name": "turns",
            "input": {"type": "parquet", "path": str(place / "in" / "*.parquet")},
            "stages": [{"name": "only", "materialize": {"path": str(place / "reference")}, "operators": quick}],
        },
        runner="serial",
    )


def rows_of(result):
    return result.to_arrow().select(["n", "said", "also"])


def noted(place):
    lines = [line.split() for line in (place / "noted").read_text().splitlines()] if (place / "noted").exists() else []
    return [(column, what, int(pid)) for column, what, pid, _, _ in lines]


def loads(place):
    return Counter(what for _, what, _ in noted(place))["device"]


def names(events, kind):
    return [e.data["name"] for e in events if e.kind == kind]


def test_models_change_once_for_all_small_splits_of_a_group(place):
    operators = steps(place)
    events = []
    result = run(place, operators, on_event=events.append)
    assert loads(place) == 2
    assert rows_of(result).equals(rows_of(reference(place, operators)))
    assert sorted(names(events, "split_committed")) == [f"{n:02}.parquet" for n in range(FILES)]
    workers = {pid for _, what, pid in noted(place) if what == "cpu"}
    assert len(workers) <= 2


def test_result_is_the_serial_runners_byte_for_byte(place):
    operators = steps(place, loading=0.0)
    assert outcome(run(place, operators)) == outcome(run(place, operators, name="reference", runner="serial"))


def test_five_hundred_tiny_splits_change_models_as_seldom_as_a_few(place):
    write(place, 500, 2)
    result = run(place, steps(place))
    assert result.manifest["counts"]["rows_out"] == 500 * 2
    assert loads(place) <= 4


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_killed_worker_costs_each_split_that_it_had_an_attempt(place, start):
    operators = steps(place, second={"trouble": "worker killed once", "row": 107})
    events = []
    result = run(place, operators, runner=LocalRunner(workers=2, start=start), on_event=events.append)
    retried = names(events, "split_retried")
    assert {e.data["cause"] for e in events if e.kind == "split_retried"} == {"killed"}
    # How many others it had in hand depends on which of the processes was there first.
    assert "00.parquet" in retried
    assert len(retried) == len(set(retried))
    assert rows_of(result).equals(rows_of(reference(place, operators)))


def test_workers_killed_at_any_moment_change_nothing(place):
    operators = steps(place, loading=0.1, latency=0.01)
    struck, done = [], threading.Event()

    def strike():
        while len(struck) < 4 and not done.wait(0.4):
            ours = {child.pid for child in psutil.Process().children(recursive=True)}
            pids = [pid for _, what, pid in noted(place) if what in ("cpu", "device") and pid in ours]
            if pids:
                struck.append(pids[(7 * len(struck)) % len(pids)])
                psutil.Process(struck[-1]).send_signal(signal.SIGKILL)

    striker = threading.Thread(target=strike)
    striker.start()
    result = run(place, operators)
    done.set()
    striker.join()
    assert struck
    assert rows_of(result).equals(rows_of(reference(place, operators)))


def test_killed_model_process_costs_no_split_another_attempt(place):
    operators = steps(place, second={"trouble": "killed once", "row": 117})
    events = []
    result = run(place, operators, on_event=events.append)
    assert (place / "killed").exists()
    assert names(events, "split_retried") == []
    assert loads(place) <= 4
    assert rows_of(result).equals(rows_of(reference(place, operators)))


def test_only_the_row_that_kills_its_worker_is_quarantined_and_no_other_split_suffers_twice(place):
    operators = steps(place, loading=0.2, second={"trouble": "worker segfaults", "row": 117})
    events = []
    result = run(place, operators, on_event=events.append)
    (file,) = result.manifest["quarantine"]
    (row,) = pq.read_table(Path(result.path, file["path"])).to_pylist()
    assert (row["n"], row["__fdf__/error"]) == (117, "killed its worker twice: SIGSEGV")
    assert result.manifest["counts"]["rows_out"] == FILES * ROWS - 1
    retried = Counter(names(events, "split_retried"))
    assert retried.pop("01.parquet") > 2
    # Which others were in hand at the time depends on the moment.
    assert set(retried.values()) <= {1}


def test_split_whose_operator_ends_the_worker_is_the_one_that_is_named(place):
    operators = steps(place, loading=0.2, second={"trouble": "worker exits", "row": 117})
    with pytest.raises(StageFailed, match=r"workers died 6 times on split 01\.parquet \(last: exit code 3\)"):
        run(place, operators)


def test_cancel_is_heard_while_many_splits_wait(place):
    operators = steps(place, second={"trouble": "hangs", "row": 117})
    before = psutil.Process().children(recursive=True)
    cancel, asked = CancelToken(), []

    def watch():
        while not any(column == "also" and what == "device" for column, what, _ in noted(place)):
            time.sleep(0.01)
        asked.append(time.monotonic())
        cancel.cancel()

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(Cancelled):
        run(place, operators, cancel=cancel)
    assert time.monotonic() - asked[0] < 5
    assert psutil.Process().children(recursive=True) == before


def test_bytes_that_wait_for_models_in_turn_are_bounded(place):
    # 24 questions of 64 MiB, of which two workers may have 256 MiB each on their way, and one each in the making.
    write(place, FILES, 64)
    shared, held, stop = [], [], threading.Event()

    def watch():
        while not stop.wait(0.02):
            processes = psutil.Process().children(recursive=True)
            # A memory file on its way is open at both ends.
            shared.append(sum({file: size for p in processes for file, size in _shared(p)}.values()))
            held.append(max((_held(p) for p in processes), default=0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    run(place, steps(place, "Wide", rows=64))
    stop.set()
    watcher.join()
    assert 128 << 20 <= max(shared) <= 2 * (257 << 20)
    # What waits is also held by its worker, and one more is being made.
    assert max(held) <= 640 << 20


def _shared(process):
    """Return the memory files that a process has open, with the bytes in each."""
    found = []
    with suppress(OSError):
        for path in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                if "memfd:fdf" in str(path.readlink()):
                    found.append((path.stat().st_ino, path.stat().st_size))
    return found


def _held(process):
    """Count the bytes that only this process holds."""
    try:
        info = process.memory_info()
    except psutil.Error:
        return 0
    return info.rss - info.shared
