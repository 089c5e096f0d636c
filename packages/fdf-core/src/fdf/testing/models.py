"""The suite for runners that give models to other processes: what a model says, and what goes wrong with it, must come
out as with the serial runner.

```python
class TestMyRunner(ModelConformance):
    runner = "my_package:MyRunner"
```

Nothing here needs a GPU: the models are a few numbers (`fdf.testing.small_models`). `step`, `recipe`, `noted` and
`processes` are for a runner's own tests of its models too.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import Cancelled, OperatorMisbehaved, StageFailed
from fdf.runner.result import RunResult
from fdf.runner.serial import SerialRunner
from fdf.stage.events import CancelToken, Event
from fdf.testing import small_models
from fdf.testing.runners import RunnerSuite

FILES, ROWS = 4, 12
FIRST = 100
"""The number in the first row."""


def write_input(place: Path) -> None:
    """Write `FILES` files of `ROWS` numbers each, from `FIRST` on."""
    (place / "in").mkdir()
    for number in range(FILES):
        n = pa.array(range(FIRST + number * ROWS, FIRST + (number + 1) * ROWS), pa.int64())
        pq.write_table(pa.table({"n": n}), place / "in" / f"{number}.parquet")


def step(
    place: Path,
    op: str = "Tiny",
    *,
    column: str = "said",
    gpus: float = 1,
    rows: int | str | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Return an operator of a recipe whose model notes in `place` what it does; `rows` is its `batch_size`."""
    made: dict[str, Any] = {
        "id": f"score.{column}",
        "kind": "score",
        "op": f"{small_models.__file__}:{op}",
        "params": {"column": column, "folder": str(place), **params},
        "resources": {"gpus": gpus},
    }
    return made if rows is None else {**made, "batch_size": rows}


def recipe(place: Path, *steps: Mapping[str, Any], name: str = "out") -> dict[str, Any]:
    """Return a recipe of one stage with these operators."""
    return {
        "name": "models",
        "input": {"type": "parquet", "path": str(place / "in" / "*.parquet")},
        "stages": [{"name": "only", "materialize": {"path": str(place / name)}, "operators": list(steps)}],
    }


def outcome(result: RunResult) -> tuple[str, dict[str, bytes]]:
    """Return everything that must not depend on the runner: the manifest's id, and the bytes of every file."""
    files = [f["path"] for kind in ("outputs", "dropped", "quarantine") for f in result.manifest[kind]]
    return result.manifest["id"], {f: Path(result.path, f).read_bytes() for f in files}


def reference(place: Path, *steps: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
    """Return the outcome with the serial runner."""
    return outcome(fdf.run(recipe(place, *steps, name="reference"), runner=SerialRunner()))


def noted(place: Path) -> list[tuple[str, str, int, int]]:
    """Return what models noted so far: column, what they did, in which process, with how many rows."""
    path = place / "noted"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(column, what, int(pid), int(rows)) for column, what, pid, rows, _ in lines]


def processes(place: Path, what: str) -> Counter[int]:
    """Return how often each process did something."""
    return Counter(pid for _, done, pid, _ in noted(place) if done == what)


def strike_when_asked(place: Path, strike: Callable[[], object]) -> threading.Thread:
    """Call `strike` in a thread once a model has begun to infer."""

    def wait() -> None:
        while not processes(place, "infer"):
            time.sleep(0.01)
        strike()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


class ModelConformance(RunnerSuite):
    """Subclass it as `Test...`. A runner that runs models in the driver's own process says `isolates = False`."""

    @pytest.fixture(autouse=True)
    def _workplace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = tmp_path
        monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
        write_input(tmp_path)

    def run(self, *steps: Mapping[str, Any], workers: int = 2, **options: Any) -> RunResult:
        """Run these operators with the runner under test."""
        return fdf.run(recipe(self.place, *steps), runner=self.make_runner(workers=workers), **options)

    def step(self, **params: Any) -> dict[str, Any]:
        """Return an operator with a model."""
        return step(self.place, **params)

    def reference(self, *steps: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
        """Return the outcome with the serial runner."""
        return reference(self.place, *steps)

    @pytest.mark.parametrize("workers", [1, 3])
    def test_writes_what_the_serial_runner_writes(self, workers: int) -> None:
        """Nulls, rows that are refused, two models, batches of different sizes."""
        n = pa.array([1, None, 13, 2, 13, 3], pa.int64())
        pq.write_table(pa.table({"n": n}), self.place / "in" / "9.parquet")
        steps = self.step(), self.step(column="also", rows=3)
        assert outcome(self.run(*steps, workers=workers)) == self.reference(*steps)

    def test_model_is_loaded_once_in_each_process_that_holds_it(self) -> None:
        """However many splits there are; and it is torn down."""
        self.run(self.step())
        assert set(processes(self.place, "device").values()) == {1}
        assert processes(self.place, "unload") == processes(self.place, "device")

    def test_batches_are_the_serial_runners(self) -> None:
        """Batches are neither joined over splits nor cut again."""
        self.run(self.step(rows=5))
        sizes = Counter(rows for _, what, _, rows in noted(self.place) if what == "infer")
        assert sizes == {5: 2 * FILES, 2: FILES}

    def test_row_that_raises_is_quarantined_with_the_same_words(self) -> None:
        """What `infer` raised reads as if it had been raised in the worker."""
        wrong = self.step(trouble="raises", row=117)
        result = self.run(wrong)
        assert outcome(result) == self.reference(wrong)
        assert self.quarantined(result) == [(117, "KeyError: 'this row'")]

    def test_row_that_raises_may_fail_the_stage(self) -> None:
        """With `on_error: fail`, at once."""
        wrong = {**self.step(trouble="raises", row=105, rows=1), "on_error": "fail"}
        with pytest.raises(OperatorMisbehaved, match=r"`score.said` failed on row .*:5: KeyError: 'this row'"):
            self.run(wrong)

    def test_wrong_shape_fails_the_stage_by_its_name(self) -> None:
        """It is the operator's fault, not a row's."""
        with pytest.raises(OperatorMisbehaved, match=r"infer\(\) of Tiny returned 3 rows for 4"):
            self.run(self.step(trouble="shape"))

    def test_lack_of_memory_halves_and_is_remembered_over_splits(self) -> None:
        """12 rows are too many, and 6; from then on each call gets 3, in all splits."""
        result = self.run(self.step(rows=12, fits=4), workers=1)
        assert result.manifest["counts"]["rows_out"] == FILES * ROWS
        assert Counter(what for _, what, _, _ in noted(self.place))["memory"] == 2
        assert {rows for _, what, _, rows in noted(self.place) if what == "infer"} == {3}

    def test_automatic_batches_grow(self) -> None:
        """As long as that makes the model faster."""
        pq.write_table(pa.table({"n": pa.array(range(20, 2020), pa.int64())}), self.place / "in" / "9.parquet")
        result = self.run(self.step(rows="auto", latency=0.05), workers=1)
        sizes = [rows for _, what, _, rows in noted(self.place) if what == "infer"]
        assert max(sizes[:4]) == 8
        assert max(sizes) >= 64
        assert result.manifest["counts"]["rows_out"] == FILES * ROWS + 2000

    @pytest.mark.usefixtures("needs_isolation")
    def test_killed_process_of_a_model_costs_nothing_but_time(self) -> None:
        """No split is run again for it, and a warning says what happened."""
        slow = self.step(latency=0.1)
        events: list[Event] = []
        struck = strike_when_asked(
            self.place, lambda: psutil.Process(next(iter(processes(self.place, "infer")))).kill()
        )
        result = self.run(slow, on_event=events.append)
        struck.join()
        assert len(processes(self.place, "device")) == 2
        assert [e for e in events if e.kind == "split_retried"] == []
        (told,) = [e.data["message"] for e in events if e.kind == "warning" and "died" in e.data["message"]]
        assert "died (SIGKILL)" in told
        assert outcome(result) == self.reference(slow)

    @pytest.mark.usefixtures("needs_isolation")
    @pytest.mark.parametrize(("trouble", "name"), [("segfaults", "SIGSEGV"), ("breaks the device", "SIGABRT")])
    def test_only_the_row_that_kills_its_model_is_quarantined(self, trouble: str, name: str) -> None:
        """Found by halving, and only after it did so twice while alone; the split is not run again."""
        events: list[Event] = []
        result = self.run(self.step(trouble=trouble, row=117), on_event=events.append)
        assert result.manifest["counts"]["rows_out"] == FILES * ROWS - 1
        assert self.quarantined(result) == [(117, f"killed its worker twice: {name}")]
        assert [e for e in events if e.kind == "split_retried"] == []

    @pytest.mark.usefixtures("needs_isolation")
    def test_rows_that_segfault_only_in_company_are_kept(self) -> None:
        """Alone they did not."""
        result = self.run(self.step(trouble="segfaults in company", row=117))
        assert result.manifest["counts"]["rows_out"] == FILES * ROWS

    @pytest.mark.usefixtures("needs_isolation")
    def test_model_that_exits_fails_the_stage_after_some_attempts(self) -> None:
        """An exit says nothing about rows."""
        says = r"`score.said`'s model died 6 times on the same 4 rows \(last: exit code 3\)"
        with pytest.raises(StageFailed, match=says):
            self.run(self.step(trouble="exits", row=117))

    @pytest.mark.usefixtures("needs_isolation")
    def test_model_that_cannot_be_loaded_fails_the_stage(self) -> None:
        """Not after as many attempts as there are splits."""
        with pytest.raises(StageFailed, match=r"`score.said` on cpu died 6 times before it did anything"):
            self.run(self.step(trouble="setup"))

    @pytest.mark.usefixtures("needs_isolation")
    def test_cancel_reaches_a_run_whose_model_hangs(self) -> None:
        """Nothing waits for its answer."""
        cancel = CancelToken()
        asked: list[float] = []

        def strike() -> None:
            asked.append(time.monotonic())
            cancel.cancel()

        strike_when_asked(self.place, strike)
        with pytest.raises(Cancelled):
            self.run(self.step(trouble="hangs", row=100), cancel=cancel)
        assert time.monotonic() - asked[0] < 20

    def test_model_that_wants_no_gpu_stays_in_the_workers(self) -> None:
        """`gpus: 0` says so."""
        self.run(self.step(gpus=0))
        assert processes(self.place, "device").keys() == processes(self.place, "cpu").keys()

    @staticmethod
    def quarantined(result: RunResult) -> list[tuple[int, str]]:
        """Return the number and the error of each quarantined row."""
        tables = [pq.read_table(Path(result.path, f["path"])) for f in result.manifest["quarantine"]]
        return [(row["n"], row["__fdf__/error"]) for table in tables for row in table.to_pylist()]
