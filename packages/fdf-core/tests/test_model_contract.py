"""The three verbs of an operator that runs a model, composed in one process."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

import fdf
from fdf.errors import OperatorMisbehaved
from fdf.models.batching import BatchSize
from fdf.models.contract import ModelScore, Prepared
from fdf.models.copying import forget_copies, start_copies, tensor_on
from fdf.models.memory import is_out_of_memory
from fdf.models.tensors import tensor, tensor_batch
from fdf.operator import Columns, Context, Partial
from fdf.stage.ahead import Ahead, Baton, ModelDied
from fdf.stage.attempts import Caller, Failure, Success
from fdf.stage.blame import Attempt
from fdf.stage.rows import Rows

SEEN: list[int] = []
"""How many rows each call of `infer` got."""


@pytest.fixture(autouse=True)
def _nothing_seen():
    SEEN.clear()


class OutOfMemoryError(RuntimeError):
    """Named and placed as torch's, which this test does without."""

    __module__ = "torch"


@dataclass(frozen=True, kw_only=True)
class Doubler(ModelScore):
    """Doubles numbers in a model of its own; refuses 13."""

    field: str = "n"
    fits: int = 100
    fault: str = ""

    version = "1.0.0"

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"double": pa.float32()}

    def setup_cpu(self, context: Context) -> None:
        self.runtime.cpu = True

    def setup_device(self, context: Context) -> None:
        self.runtime.device = context.device

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        numbers = batch.column(self.field).to_numpy()
        bad = numbers == 13
        errors = pa.array([f"{n} is unlucky" if b else None for n, b in zip(numbers, bad, strict=True)], pa.string())
        kept = numbers[~bad]
        if self.fault == "prepare":
            kept = kept[1:]
        return Prepared(tensor_batch({"x": np.stack([kept, kept], axis=1)}), errors)

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        SEEN.append(prepared.num_rows)
        if prepared.num_rows > self.fits:
            raise OutOfMemoryError("CUDA out of memory")
        made = tensor(prepared, "x").sum(axis=1)
        return tensor_batch({"y": made[1:] if self.fault == "infer" else made})

    def finish(self, rows: pa.RecordBatch, inferred: pa.RecordBatch) -> Columns:
        assert rows.num_rows == inferred.num_rows
        kind = pa.float64() if self.fault == "finish" else pa.float32()
        return {"double": pa.array(tensor(inferred, "y"), kind)}


@dataclass(frozen=True, kw_only=True)
class Halver(fdf.Refiner):
    """Halves even numbers; odd ones fail."""

    field: str = "n"

    version = "1.0.0"

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"n": pa.int64()}

    def refine(self, batch: pa.RecordBatch) -> Columns:
        numbers = batch.column("n").to_numpy()
        errors = pa.array(["odd" if n % 2 else None for n in numbers], pa.string())
        return Partial({"n": pa.array(numbers // 2)}, errors=errors)


def doubled(operator: Doubler, numbers: list[int | None]) -> Columns:
    return operator.score(pa.record_batch({"n": pa.array(numbers, pa.int64())}))


def test_nulls_and_refused_rows_never_reach_the_model():
    operator = Doubler()
    made = doubled(operator, [1, None, 13, 2, None])
    assert made["double"].to_pylist() == [2.0, None, None, 4.0, None]
    assert isinstance(made, Partial)
    assert made.errors.to_pylist() == [None, None, "13 is unlucky", None, None]
    assert SEEN == [2]


def test_model_is_not_asked_about_nothing():
    operator = Doubler()
    for numbers in ([], [None, None], [13]):
        assert doubled(operator, numbers)["double"].to_pylist() == [None] * len(numbers)
    assert SEEN == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("prepare", r"prepare\(\) of Doubler returned 2 rows for 3 without an error"),
        ("infer", r"infer\(\) of Doubler returned 2 rows for 3"),
        ("finish", "returned 3 values of double in `double` for 3 rows, but declares float"),
    ],
)
def test_verb_that_breaks_its_contract_is_named(fault, says):
    with pytest.raises(OperatorMisbehaved, match=says):
        doubled(Doubler(fault=fault), [1, 2, 3])


def test_worker_loads_only_what_its_verbs_need(tmp_path):
    wanted = {"prepare": {"cpu"}, "finish": {"cpu"}, "infer": {"device"}}
    for verb, held in wanted.items():
        operator = Doubler()
        operator.setup(Context(operator_id="x", seed=0, cache_dir=tmp_path, verbs=frozenset({verb})))
        assert set(vars(operator.runtime)) == held


def test_rows_a_verb_refuses_are_quarantined_at_the_price_of_one_call(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    table = pa.table({"n": [1, 13, 2, 13, None, 3]})
    pipeline = fdf.Pipeline("doubles").read(table).stage("s", [Doubler()], path=str(tmp_path / "s"))
    result = fdf.run(pipeline, runner="serial")
    assert result.to_arrow().column("double").to_pylist() == [2.0, 4.0, None, 6.0]
    assert result.manifest["counts"]["rows_quarantined"] == 2
    assert SEEN == [3]


@pytest.mark.parametrize("on_error", ["null", "quarantine"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_failed_rows_and_rows_left_out_keep_their_places(tmp_path, monkeypatch, on_error, batch_size):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    numbers = [1, 13, 50, 2, None, 13, 60, 13, 3, 70]
    step = fdf.Step(Doubler(), when="n < 40", on_error=on_error, batch_size=batch_size)
    stage = fdf.Pipeline("doubles").read(pa.table({"n": numbers})).stage("s", [step], path=str(tmp_path / "s"))
    result = fdf.run(stage, runner="serial")
    double = {1: 2.0, 2: 4.0, 3: 6.0}
    kept = [n for n in numbers if n != 13 or on_error == "null"]
    assert result.to_arrow().select(["n", "double"]).to_pylist() == [{"n": n, "double": double.get(n)} for n in kept]
    counts = result.manifest["counts"]
    assert counts["rows_quarantined"] == (3 if on_error == "quarantine" else 0)
    assert result.manifest["operators"][0]["errors"] == 3


def test_refiner_that_reports_failed_rows_leaves_them_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    step = fdf.Step(Halver(), on_error="null")
    stage = fdf.Pipeline("halves").read(pa.table({"n": [4, 7, 8]})).stage("s", [step], path=str(tmp_path / "s"))
    table = fdf.run(stage, runner="serial").to_arrow()
    assert table.column("n").to_pylist() == [2, 7, 4]
    assert table.column("__fdf__/refined_by").to_pylist() == [["refiner.Halver"], [], ["refiner.Halver"]]


def test_out_of_memory_halves_and_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    step = fdf.Step(Doubler(fits=3), batch_size=8)
    table = pa.table({"n": list(range(20, 36))})
    result = fdf.run(fdf.Pipeline("doubles").read(table).stage("s", [step], path=str(tmp_path / "s")), runner="serial")
    assert result.to_arrow().column("double").to_pylist() == [2.0 * n for n in range(20, 36)]
    # 8 rows are too many, and 4; from then on each call gets 2.
    assert SEEN == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert result.manifest["counts"]["rows_quarantined"] == 0


def test_frames_of_a_call_that_ran_out_are_gone_before_memory_is_given_back(monkeypatch):
    tensors = []

    class Leaky(Doubler):
        def infer(self, prepared):
            big = np.zeros(10)
            tensors.append(weakref.ref(big))
            raise OutOfMemoryError("CUDA out of memory")

    alive = []
    give_back = lambda: alive.extend(tensor() for tensor in tensors)  # noqa: E731
    monkeypatch.setattr("fdf.models.contract.give_back_device_memory", give_back)
    with pytest.raises(MemoryError, match="CUDA out of memory") as caught:
        doubled(Leaky(), [1, 2])
    assert alive == [None]
    assert caught.value.__context__ is None


def test_running_out_of_memory_is_told_from_other_errors():
    assert is_out_of_memory(OutOfMemoryError())
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("CUDA out of memory"))


def test_tensors_cross_a_process_border_without_a_copy_of_ours():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    batch = tensor_batch({"x": values})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    received = pa.ipc.open_stream(sink.getvalue()).read_next_batch()
    assert np.array_equal(tensor(received, "x"), values)
    assert np.shares_memory(tensor(batch, "x"), values)
    assert np.array_equal(tensor(batch.slice(1), "x"), values[1:])


def caller(**options):
    return Caller(Attempt(), None, **options)


def rows(numbers):
    return Rows(data=pa.record_batch({"n": pa.array(numbers, pa.int64())}), ordinals=np.arange(len(numbers)))


def test_row_is_to_blame_only_if_it_killed_its_model_twice_while_alone():
    deaths: dict[int, int] = {}

    def verb(some):
        numbers = some.data.column("n").to_pylist()
        for number in numbers:
            if number == 3 or (number == 5 and len(numbers) == 1 and not deaths.get(5)):
                deaths[number] = deaths.get(number, 0) + (len(numbers) == 1)
                raise ModelDied("SIGSEGV")
        if 5 in numbers and len(numbers) > 1:
            raise ModelDied("SIGSEGV")
        return numbers

    outcomes = list(caller().call("model", rows([1, 2, 3, 4, 5, 6]), verb))
    failed = [o for o in outcomes if isinstance(o, Failure)]
    assert [(o.rows.data.column("n")[0].as_py(), o.error) for o in failed] == [(3, "killed its worker twice: SIGSEGV")]
    assert deaths == {3: 2, 5: 1}
    assert sorted(n for o in outcomes if isinstance(o, Success) for n in o.result) == [1, 2, 4, 5, 6]


def test_calls_overlap_where_a_model_is_elsewhere_and_their_order_stays():
    baton = Baton()
    waiting, most = [0], [0]

    def verb(some):
        waiting[0] += 1
        with baton.handed_on():
            time.sleep(0.02)
            most[0] = max(most[0], waiting[0])
        waiting[0] -= 1
        return some.data.column("n").to_pylist()

    ahead = Ahead(baton=baton, most=2, room=1 << 20, calls=3)
    with baton.held():
        outcomes = list(caller(ahead=ahead, elsewhere={"model"}).call("model", rows(range(20)), verb, batch_size=2))
    assert [n for o in outcomes for n in o.result] == list(range(20))
    assert most[0] == 3


def test_error_of_one_batch_ends_those_that_wait_behind_it():
    baton = Baton()

    def work(number):
        if number == 2:
            raise ValueError("here")
        deadline = time.monotonic() + 10
        while number > 2 and not baton.given_up:
            assert time.monotonic() < deadline
            with baton.handed_on():
                time.sleep(0.01)
        return number

    came = []
    with pytest.raises(ValueError, match="here"):
        came.extend(baton.in_order(work, range(10), most=4, room=100, size=lambda _: 1))
    with baton.held():
        assert baton.given_up


def test_bytes_ahead_are_bounded():
    baton = Baton()
    drawn, done = [0], [0]

    def items():
        for _ in range(20):
            drawn[0] += 1
            assert drawn[0] - done[0] <= 4
            yield 10

    for _ in baton.in_order(lambda size: size, items(), most=16, room=30, size=lambda size: size):
        done[0] += 1
    assert done[0] == 20


def test_batch_size_settles_where_memory_ends():
    size = BatchSize()
    while not size.settled:
        if size.rows > 100:
            size.ran_out(size.rows)
        else:
            size.observe(size.rows, seconds=1.0)
    assert size.rows == 64


def test_tensors_are_on_the_device_whether_or_not_they_were_sent_ahead():
    values = np.arange(12, dtype=np.uint8).reshape(2, 6)
    batch = tensor_batch({"x": values})
    start_copies(batch, "cpu")
    made = tensor_on(batch, "x", "cpu")
    assert made.numpy().tolist() == values.tolist()
    made[:] = 0
    assert tensor(batch, "x").tolist() == values.tolist()
    forget_copies(batch)
