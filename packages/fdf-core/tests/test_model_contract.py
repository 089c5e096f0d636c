"""The three verbs of an operator that runs a model, composed in one process."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

import fdf
from fdf.errors import OperatorMisbehaved
from fdf.models.contract import ModelScore, Prepared
from fdf.models.memory import is_out_of_memory
from fdf.models.tensors import tensor, tensor_batch
from fdf.operator import Columns, Context, Partial

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
