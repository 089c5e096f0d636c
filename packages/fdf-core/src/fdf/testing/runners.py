"""The suite that every runner passes: whatever happens to workers, the result is the serial runner's, byte for byte.

```python
class TestMyRunner(RunnerConformance):
    runner = "my_package:MyRunner"
```

A runner that runs tasks in the driver's own process says `isolates = False`: what kills a worker kills it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import Cancelled, StageFailed
from fdf.plan.task import Task
from fdf.runner.contract import Runner
from fdf.runner.result import RunResult
from fdf.runner.serial import SerialRunner
from fdf.stage.crashpoints import CRASH_POINTS, VARIABLE
from fdf.stage.events import CancelToken, Emit, Event
from fdf.testing import troublemakers

FILES = 4
ROWS = 40
CANCEL_WITHIN = 5.0

_DRIVER = """
import json, sys
import fdf
from fdf.testing.runners import make_runner
recipe, runner, options = map(json.loads, sys.argv[1:])
fdf.run(recipe, runner=make_runner(runner, workers=2, options=options))
"""


def make_runner(runner: str, *, workers: int, options: Mapping[str, Any]) -> Runner:
    """Return a new runner of the class that `module:Name` says."""
    module, _, name = runner.partition(":")
    made: Runner = getattr(import_module(module), name)(workers=workers, **options)
    return made


class RunnerSuite:
    """What suites of runners have in common: the runner's class and, where it takes some, options beside `workers`."""

    runner: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    isolates: ClassVar[bool] = True

    def make_runner(self, *, workers: int) -> Runner:
        """Return a new runner."""
        return make_runner(self.runner, workers=workers, options=self.options)

    @pytest.fixture
    def needs_isolation(self) -> None:
        """Skip what kills the process that a task runs in."""
        if not self.isolates:
            pytest.skip("this runner runs tasks in the driver's process")


class RunnerConformance(RunnerSuite):
    """Subclass it as `Test...`."""

    @pytest.fixture(autouse=True)
    def _workplace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = tmp_path
        monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
        (tmp_path / "in").mkdir()
        for number in range(FILES):
            n = pa.array(range(number * ROWS, (number + 1) * ROWS))
            text = pc.binary_join_element_wise("row", pc.cast(n, pa.string()), " ")
            pq.write_table(pa.table({"n": n, "text": text}), tmp_path / "in" / f"{number}.parquet")

    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_writes_what_the_serial_runner_writes(self, workers: int) -> None:
        """Files, their names and the manifest's id are the same with any number of workers."""
        recipe = self.recipe("waits")
        assert self.outcome(self.run(recipe, "other", workers=workers)) == self.reference(recipe)

    def test_passes_events_on(self) -> None:
        """Each split starts and is committed once, and its events name it."""
        events: list[Event] = []
        self.run(self.recipe("waits"), "out", on_event=events.append)
        for kind in ("split_started", "split_committed"):
            assert len({e.split for e in events if e.kind == kind}) == FILES
            assert len([e for e in events if e.kind == kind]) == FILES

    def test_draws_tasks_only_as_workers_get_free(self) -> None:
        """However many tasks there are, none waits in the runner."""
        workers, drawn, done, ahead = 2, 0, 0, []
        inner = self.make_runner(workers=workers)

        def counted(tasks: Iterable[Task]) -> Iterator[Task]:
            nonlocal drawn
            for task in tasks:
                drawn += 1
                ahead.append(drawn - done)
                yield task

        class Counting:
            name = inner.name
            check = staticmethod(inner.check)

            def run(self, tasks: Iterable[Task], emit: Emit, cancel: CancelToken) -> None:
                inner.run(counted(tasks), emit, cancel)

        def on_event(event: Event) -> None:
            nonlocal done
            done += event.kind == "split_committed"

        recipe = self.recipe("dawdles", seconds=0.05)
        fdf.run(self.placed(recipe, "out"), runner=Counting(), on_event=on_event)
        assert drawn == FILES
        assert max(ahead) <= workers + 1

    def test_error_of_a_task_stops_the_run_and_is_raised(self) -> None:
        """What a task raises arrives as it is, and there is no manifest."""
        with pytest.raises(StageFailed, match="row 50 fails the stage"):
            self.run(self.recipe("fails_stage", row=50), "out")
        assert not (self.place / "out" / "manifest.json").exists()

    def test_events_tell_a_whole_story_in_order(self) -> None:
        """A run, its stage, its splits: each begins before it ends, ends once, and says nothing afterwards."""
        events: list[Event] = []
        self.run(self.recipe("dawdles", rows=10, seconds=0.02), "out", on_event=events.append)
        _assert_well_formed(events)
        assert [e.kind for e in (events[0], events[-1])] == ["run_started", "run_finished"]

    def test_only_the_row_that_raises_is_quarantined(self) -> None:
        """An exception costs the row that causes it, and the split no second attempt."""
        recipe = self.recipe("raises", row=70)
        events: list[Event] = []
        result = self.run(recipe, "out", on_event=events.append)
        assert self.quarantined(result) == [70]
        assert [e for e in events if e.kind == "split_retried"] == []
        assert self.outcome(result) == self.reference(recipe)

    @pytest.mark.parametrize("fails", [False, True])
    def test_operators_are_set_up_once_in_each_process_and_always_torn_down(self, *, fails: bool) -> None:
        """However many splits a worker runs, and whether the run ends well or not."""
        folder = self.place / "noted"
        folder.mkdir()
        recipe = self.recipe("Registers", folder=str(folder), row=70 if fails else -1)
        if fails:
            with pytest.raises(StageFailed, match="row 70"):
                self.run(recipe, "out")
        else:
            self.run(recipe, "out")
        noted = {path.name: path.read_text() for path in folder.iterdir()}
        set_up = [name for name in noted if name.endswith(".setup")]
        assert 1 <= len(set_up) <= 2
        assert noted == {name: "." for pid in (n.partition(".")[0] for n in set_up) for name in
                         (f"{pid}.setup", f"{pid}.teardown")}  # fmt: skip

    def test_very_many_tiny_splits_all_come_once_and_in_order(self) -> None:
        """As many as FDF_TINY_SPLITS says, 1,000 where it says nothing (`make soak`: 10,000)."""
        count = int(os.environ.get("FDF_TINY_SPLITS", "1000"))
        lines = [f'{{"n": {n:06}}}\n'.replace(" 0", " 1", 1) for n in range(count)]
        (self.place / "tiny.jsonl").write_text("".join(lines))
        recipe = self.recipe("waits")
        recipe["input"] = {"type": "jsonl", "path": str(self.place / "tiny.jsonl"), "split_size": len(lines[0])}
        result = self.run(recipe, "out")
        assert len(result.manifest["outputs"]) == count
        assert result.to_arrow()["n"].to_pylist() == [json.loads(line)["n"] for line in lines]

    @pytest.mark.usefixtures("needs_isolation")
    def test_memory_does_not_grow_behind_a_slow_operator(self) -> None:
        """A split of twice the memory that a worker may hold passes an operator that takes its time."""
        limit = 512 << 20
        schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
        rows, width = 64, 128 << 10
        with pq.ParquetWriter(self.place / "large.parquet", schema, compression="zstd") as writer:
            for group in range(2 * limit // (rows * width)):
                n = list(range(group * rows, (group + 1) * rows))
                writer.write_table(pa.table({"n": n, "text": [f"{i:08}" * (width // 8) for i in n]}, schema=schema))
        recipe = self.recipe("dawdles", seconds=0.01)
        recipe["input"] = {"type": "parquet", "path": str(self.place / "large.parquet"), "split_size": 1 << 40}
        recipe["stages"][0]["operators"][0]["resources"] = {"memory": limit}
        events: list[Event] = []
        result = self.run(recipe, "out", on_event=events.append)
        assert [e.data for e in events if e.kind == "split_retried"] == []
        assert len(result.manifest["outputs"]) == 1
        assert result.manifest["counts"]["rows_out"] == 2 * limit // width

    @pytest.mark.usefixtures("needs_isolation")
    def test_killed_worker_costs_one_attempt(self) -> None:
        """A SIGKILL from outside is not a row's fault: the split runs again, with the same bytes."""
        flag = self.place / "killed"
        recipe = self.recipe("is_killed", row=70, flag=str(flag))
        events: list[Event] = []
        outcome = self.outcome(self.run(recipe, "out", on_event=events.append))
        assert [e.data["cause"] for e in events if e.kind == "split_retried"] == ["killed"]
        _assert_well_formed(events)
        assert flag.exists()
        assert outcome == self.reference(recipe)

    @pytest.mark.usefixtures("needs_isolation")
    def test_only_the_row_that_segfaults_is_quarantined(self) -> None:
        """A row that kills its worker twice while alone is set aside; all others are kept."""
        result = self.run(self.recipe("segfaults", row=70, rows=8), "out")
        assert result.to_arrow()["n"].to_pylist() == [n for n in range(FILES * ROWS) if n != 70]
        assert self.quarantined(result) == [70]

    @pytest.mark.usefixtures("needs_isolation")
    def test_operator_that_exits_fails_the_stage(self) -> None:
        """A process that ends by itself blames no row: after some attempts the stage fails."""
        with pytest.raises(StageFailed, match=r"exit code 3"):
            self.run(self.recipe("exits", row=70), "out")

    @pytest.mark.usefixtures("needs_isolation")
    def test_only_the_row_that_eats_memory_is_quarantined(self) -> None:
        """A worker over its limit is killed, and the row found that took it there."""
        recipe = self.recipe("eats_memory", row=70, rows=2)
        recipe["stages"][0]["operators"][0]["resources"] = {"memory": 512 << 20}
        events: list[Event] = []
        result = self.run(recipe, "out", on_event=events.append)
        assert {e.data["cause"] for e in events if e.kind == "split_retried"} == {"memory"}
        assert self.quarantined(result) == [70]
        assert result.manifest["counts"]["rows_out"] == FILES * ROWS - 1

    def test_cancelled_run_stops_soon_and_resumes(self) -> None:
        """A cancel in the middle of a split commits nothing half; the next run goes on to the same result."""
        flag = self.place / "go"
        recipe = self.recipe("waits", row=70, flag=str(flag))
        cancel = CancelToken()
        asked: list[float] = []

        def ask() -> None:
            asked.append(time.monotonic())
            cancel.cancel()
            if not self.isolates:
                flag.touch()

        timer = threading.Timer(1.5, ask)
        timer.start()
        with pytest.raises(Cancelled):
            self.run(recipe, "out", cancel=cancel)
        assert time.monotonic() - asked[0] < CANCEL_WITHIN
        assert not (self.place / "out" / "manifest.json").exists()
        flag.touch()
        assert self.outcome(self.run(recipe, "out")) == self.reference(recipe)

    @pytest.mark.parametrize("point", CRASH_POINTS)
    def test_crash_at_any_commit_point_loses_and_doubles_nothing(self, point: str) -> None:
        """Whichever process dies there, running again ends with the undisturbed result and no other file."""
        recipe = self.recipe("waits")
        once = self.place / "crashed"
        crash = self.driver(recipe, "out", env={VARIABLE: f"{point}:{once}"})
        crash.wait(60)
        assert crash.returncode in (0, -signal.SIGKILL)
        assert once.exists() or point == "files-removed"
        result = self.run(recipe, "out")
        assert self.outcome(result) == self.reference(recipe)
        named = {self.place / "out" / f["path"] for f in result.manifest["outputs"]}
        assert set((self.place / "out" / "data").iterdir()) == named

    @pytest.mark.usefixtures("needs_isolation")
    def test_killed_driver_leaves_no_process(self) -> None:
        """Workers in the middle of a split end when their driver is gone, and the next run goes on."""
        flag = self.place / "go"
        recipe = self.recipe("waits", row=70, flag=str(flag))
        driver = self.driver(recipe, "out")
        try:
            # A runner may have a cluster to start first.
            _eventually(lambda: any((self.place / "out").rglob("*.json")), "the first receipt", within=90.0)
            workers = descendants(driver.pid)
            assert workers
        finally:
            driver.kill()
            driver.wait()
        _eventually(lambda: not any(map(_lives, workers)), "the end of every worker")
        flag.touch()
        assert self.outcome(self.run(recipe, "out")) == self.reference(recipe)

    def recipe(self, operator: str, *, rows: int | None = None, **params: Any) -> dict[str, Any]:
        """Return a recipe of one stage with one troublemaker, in batches of `rows`."""
        step: dict[str, Any] = {
            "id": "trouble",
            "kind": "filter",
            "op": f"{troublemakers.__file__}:{operator}",
            "params": params,
        }
        if rows is not None:
            step["batch_size"] = rows
        return {
            "name": "conformance",
            "input": {"type": "parquet", "path": str(self.place / "in" / "*.parquet")},
            "stages": [{"name": "only", "operators": [step]}],
        }

    def placed(self, recipe: dict[str, Any], where: str) -> dict[str, Any]:
        """Return the recipe with its stage in this folder, and the folder's name as the pipeline's run."""
        (stage,) = recipe["stages"]
        return {**recipe, "stages": [{**stage, "materialize": {"path": str(self.place / where)}}]}

    def run(
        self,
        recipe: dict[str, Any],
        where: str,
        *,
        workers: int = 2,
        on_event: Emit | None = None,
        cancel: CancelToken | None = None,
    ) -> RunResult:
        """Run the recipe into a folder with the runner under test."""
        runner = self.make_runner(workers=workers)
        return fdf.run(self.placed(recipe, where), runner=runner, on_event=on_event, cancel=cancel)

    def reference(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """Return the outcome with the serial runner."""
        return self.outcome(fdf.run(self.placed(recipe, "reference"), runner=SerialRunner()))

    @staticmethod
    def outcome(result: RunResult) -> dict[str, Any]:
        """Return everything that must not depend on the runner: the manifest's id, and the bytes of every file."""
        files = result.manifest["outputs"]
        return {"id": result.manifest["id"], **{f["path"]: Path(result.path, f["path"]).read_bytes() for f in files}}

    @staticmethod
    def quarantined(result: RunResult) -> list[int]:
        """Return the column `n` of the quarantined rows."""
        tables = [pq.read_table(Path(result.path, f["path"])) for f in result.manifest["quarantine"]]
        return [n for table in tables for n in table["n"].to_pylist()]

    def driver(
        self, recipe: dict[str, Any], where: str, *, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the run in a process of its own."""
        arguments = [self.placed(recipe, where), self.runner, dict(self.options)]
        return subprocess.Popen(  # noqa: S603 (our own program)
            [sys.executable, "-c", _DRIVER, *map(json.dumps, arguments)],
            env={**os.environ, **(env or {})},
            cwd=self.place,
            stdin=subprocess.DEVNULL,
        )


def _assert_well_formed(events: Sequence[Event]) -> None:
    """Check that events of a run that ended well are in an order that a listener can follow."""
    running: set[str] = set()
    failed: set[str] = set()
    ended: set[str] = set()
    stage: str | None = None
    for number, event in enumerate(events):
        json.dumps(event.to_json())
        assert (event.kind == "run_started") == (number == 0)
        assert (event.kind == "run_finished") == (number == len(events) - 1)
        if event.kind == "stage_started":
            assert stage is None
            stage = event.stage
        elif event.kind == "stage_committed":
            assert event.stage == stage
            assert not running
            stage = None
        elif event.kind.startswith("split_"):
            assert event.split is not None
            assert event.stage == stage
            assert event.split not in ended
            if event.kind == "split_started":
                assert event.split not in running or event.split in failed
                running.add(event.split)
                failed.discard(event.split)
            else:
                assert event.split in running or event.kind == "split_skipped"
            if event.kind == "split_retried":
                failed.add(event.split)
            if event.kind == "split_committed":
                running.remove(event.split)
                ended.add(event.split)
    assert stage is None


def descendants(pid: int) -> list[int]:
    """Return the processes that this one started, and those that they started (Linux)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def _lives(pid: int) -> bool:
    """Say whether a process is there and no zombie that its parent has yet to bury."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def _eventually(holds: Callable[[], bool], what: str, *, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come within {within} s"
        time.sleep(0.02)
