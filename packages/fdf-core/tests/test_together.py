"""Several splits under way at once in one worker: their bounds, their order, and faults that concern one of them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import Cancelled, StageFailed, TransientError
from fdf.models.contract import ModelScore, Prepared
from fdf.models.tensors import tensor, tensor_batch
from fdf.stage import worker as workers
from fdf.stage.ahead import Ahead, Baton
from fdf.stage.blame import Attempt
from fdf.stage.events import CancelToken
from fdf.stage.worker import Worker

SPLITS, ROWS = 24, 5
PATIENCE = 0.3


@dataclass(frozen=True, kw_only=True)
class Adds(ModelScore):
    """Adds a number, as a model would; tells `watch` which rows it prepares and finishes."""

    field: str = "n"
    column: str = "first"
    more: int = 1

    version = "1.0.0"
    watch = staticmethod(lambda rows: None)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {self.column: pa.float32()}

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        numbers = batch.column(self.field).to_numpy()
        type(self).watch(numbers)
        return Prepared(tensor_batch({"x": numbers.astype(np.float32)[:, None]}))

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        return tensor_batch({"y": tensor(prepared, "x")[:, 0] + self.more})

    def finish(self, rows: pa.RecordBatch, inferred: pa.RecordBatch) -> dict[str, pa.Array]:
        type(self).watch(rows.column(self.field).to_numpy())
        return {self.column: pa.array(tensor(inferred, "y"), pa.float32())}


class Models:
    """Stands for models in other processes: they answer when `quorum` questions wait, or no other comes for a while."""

    def __init__(self, *, quorum=1, most=64, room=1 << 20, crowd=None):
        self.baton = Baton()
        self.quorum, self.most, self.room, self.crowd = quorum, most, room, crowd
        self.waiting = self.peak = self.asked = self.answered = 0
        self.changed = threading.Condition()
        self.fault = None
        self.patience = PATIENCE

    def ahead(self):
        return Ahead(baton=self.baton, most=self.most, room=self.room, crowded=self.crowded)

    def crowded(self):
        return self.crowd is not None and self.waiting >= self.crowd

    def infer(self, operator_id):
        more = {"a": 1, "b": 10}[operator_id]

        def ask(prepared):
            with self.baton.handed_on():
                self.wait()
            numbers = tensor(prepared, "x")[:, 0]
            if self.fault is not None:
                self.fault(numbers)
            return tensor_batch({"y": numbers + more}), 0.0

        return ask

    def wait(self):
        with self.changed:
            self.asked += 1
            self.waiting += 1
            self.last = time.monotonic()
            self.peak = max(self.peak, self.waiting)
            if self.waiting >= self.quorum:
                self.answered = self.asked
                self.changed.notify_all()
            mine = self.asked
            while mine > self.answered and not self.baton.given_up:
                self.changed.wait(0.05)
                if time.monotonic() - self.last > self.patience:
                    self.answered = self.asked
            self.changed.notify_all()
            self.waiting -= 1


class Together:
    """A runner of one worker in this process, which is given every task as soon as it asks for one."""

    name = "together"

    def __init__(self, models):
        self.models = models
        self.at = ""
        self.most_beside = 0

    def check(self, plan):
        pass

    def run(self, tasks, emit, cancel):
        coming = iter(tasks)

        class Coming:
            def draw(_, *, beside):  # noqa: N805 (`self` is the runner)
                self.most_beside = max(self.most_beside, beside)
                task = next(coming, None)
                return None if task is None else (task, Attempt())

            def ring(_, bell):  # noqa: N805
                pass

        with Worker(elsewhere=self.models) as worker:
            while (task := next(coming, None)) is not None:
                self.done = []
                worker.run_together(
                    task, Attempt(), Coming(), emit=emit, cancel=cancel, at=self.turn, done=self.done.append
                )

    def turn(self, split):
        self.at = split


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for number in range(SPLITS):
        n = pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64())
        pq.write_table(pa.table({"n": n}), tmp_path / "in" / f"{number:02}.parquet")
    return tmp_path


def run(place, runner, *, name="out", **options):
    pipeline = fdf.Pipeline("together").read("parquet", path=str(place / "in" / "*.parquet"))
    steps = [("a", Adds()), ("b", Adds(column="second", more=10))]
    pipeline = pipeline.stage("s", steps, path=str(place / name))
    return fdf.run(pipeline, runner=runner, **options)


def test_all_small_splits_wait_for_a_model_at_once_and_results_are_the_same(place):
    runner = Together(Models(quorum=SPLITS))
    result = run(place, runner)
    assert runner.models.peak == SPLITS
    assert runner.models.asked == 2 * SPLITS
    assert result.manifest["id"] == run(place, "serial", name="reference").manifest["id"]
    assert result.to_arrow()["second"].to_pylist() == [n + 10 for n in range(SPLITS * ROWS)]


def test_bytes_under_way_are_bounded_over_splits(place):
    # Each split holds five numbers of eight bytes, and which of them are null.
    runner = Together(Models(quorum=3, room=3 * (ROWS * 8 + 1)))
    result = run(place, runner)
    assert runner.models.peak == 3
    assert result.manifest["counts"]["rows_out"] == SPLITS * ROWS


def test_number_of_batches_under_way_is_bounded(place):
    runner = Together(Models(quorum=4, most=4))
    run(place, runner)
    assert runner.models.peak == 4


def test_nothing_is_begun_while_a_batch_waits_for_room_to_ask(place):
    runner = Together(Models(quorum=2, crowd=2))
    run(place, runner)
    assert runner.models.peak == 2


def test_worker_tells_which_split_it_is_at_work_on(place, monkeypatch):
    runner = Together(Models(quorum=SPLITS))
    seen = []
    monkeypatch.setattr(Adds, "watch", staticmethod(lambda rows: seen.append((runner.at, int(rows[0]) // ROWS))))
    events = []
    run(place, runner, on_event=events.append)
    numbers = {e.split: int(e.data["name"].partition(".")[0]) for e in events if e.kind == "split_started"}
    assert len(seen) == 4 * SPLITS
    assert all(numbers[at] == number for at, number in seen)


def test_fault_that_may_pass_costs_its_split_alone_another_try(place, monkeypatch):
    commit, failed = workers.commit_task, []

    def fails_once(task, job, parcels, store, **options):
        if task.name == "03.parquet" and not failed:
            failed.append(next(iter(parcels)))
            raise TransientError("the store is away")
        return commit(task, job, parcels, store, **options)

    monkeypatch.setattr(workers, "commit_task", fails_once)
    events = []
    result = run(place, Together(Models()), on_event=events.append)
    assert failed
    assert [(e.data["name"], e.data["cause"]) for e in events if e.kind == "split_retried"] == [
        ("03.parquet", "the store is away")
    ]
    assert [e.data["name"] for e in events if e.kind == "split_committed"][-1] == "03.parquet"
    assert result.manifest["id"] == run(place, "serial", name="reference").manifest["id"]


def test_error_while_a_later_split_is_read_leaves_the_ones_before_it_alone(place):
    (place / "in" / "20.parquet").write_bytes(b"PAR1 and no more PAR1")
    events = []
    with pytest.raises(StageFailed, match=r"20\.parquet"):
        run(place, Together(Models(quorum=20)), on_event=events.append)
    assert len([e for e in events if e.kind == "split_committed"]) == 20


def test_error_of_one_split_ends_those_that_wait_beside_it(place):
    models = Models()

    def fault(numbers):
        if 7 * ROWS in numbers:
            raise StageFailed("the model says no")

    models.fault = fault
    before = threading.active_count()
    with pytest.raises(StageFailed, match="the model says no"):
        run(place, Together(models))
    assert threading.active_count() == before


def test_cancel_is_heard_while_all_splits_wait(place):
    models, cancel = Models(quorum=10 * SPLITS), CancelToken()
    models.patience = 60.0

    def ask():
        while models.waiting < SPLITS:
            time.sleep(0.01)
        cancel.cancel()

    threading.Thread(target=ask, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run(place, Together(models), cancel=cancel)
    assert time.monotonic() - began < 10
