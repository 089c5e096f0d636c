"""The suite that every operator passes.

A package subclasses it with an operator and some rows:

```python
class TestWordCountFilter(OperatorConformance):
    operator = WordCountFilter(min_words=3)
    batch = pa.record_batch({"text": ["one", "one two three", None, "", "a b c d"]})
```

The rows should hold what the operator is about, nulls included, and at least four of them.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest

from fdf.operator import KINDS, Columns, Context, Evaluator, Expansion, Filter, Generator, Operator, Refiner, Score
from fdf.schema import is_internal

MAX_STATE = 64 << 10


class OperatorConformance:
    """Subclass it as `Test...`, with `operator` and `batch`."""

    operator: ClassVar[Operator]
    batch: ClassVar[pa.RecordBatch]
    null_gives_null: ClassVar[bool] = True
    """False for a score or generator that says something about a null (`is_missing`)."""
    tolerance: ClassVar[float] = 1e-6
    """How far floats may differ, relatively, between two runs of a `numeric` operator."""

    @pytest.fixture(autouse=True)
    def _running(self, tmp_path: Path) -> Iterator[None]:
        assert self.batch.num_rows >= 4, "the suite needs four rows at least, to cut them into batches"
        self.operator.setup(Context(operator_id="under.test", seed=0, cache_dir=tmp_path))
        yield
        self.operator.teardown()

    def test_class_declares_what_the_contract_asks(self) -> None:
        """It has a kind, a version, an exactness, and a filter its reasons."""
        operator = self.operator
        assert isinstance(operator, KINDS[operator.kind])
        assert isinstance(operator.version, str)
        assert operator.version
        assert operator.exactness in {"bitwise", "numeric", "free"}
        assert type(operator).__doc__, "the docstring is the operator's documentation"
        if isinstance(operator, Filter):
            assert operator.reasons, "a filter names its reasons"

    def test_parameters_are_json(self) -> None:
        """`params()` goes into manifests and fingerprints as it is."""
        told = self.operator.params()
        assert json.loads(json.dumps(told, allow_nan=False)) == told

    def test_reads_columns_that_are_there(self) -> None:
        """`reads` names columns of the batch."""
        assert set(self.operator.reads(self.batch.schema)) <= set(self.batch.schema.names)

    def test_touches_only_what_it_reads(self) -> None:
        """Rows that have nothing but the columns of `reads` get the same answer."""
        seen = self.batch.select(self.operator.reads(self.batch.schema))
        if isinstance(self.operator, Generator) and self.operator.expands:
            return  # an expansion hands on the columns of its parent
        self._assert_same(_answers(self.operator, seen), _answers(self.operator, self.batch))

    def test_returns_the_columns_that_it_declares(self) -> None:
        """Names, types and lengths are those of `writes`, on full, empty and all-null batches."""
        for batch in (self.batch, self.batch.slice(0, 0), self._nulls()):
            writes = self.operator.writes(batch.schema)
            columns = _columns(self.operator, batch)
            if isinstance(columns, Expansion):
                self._check_expansion(columns, batch, writes)
                continue
            if isinstance(self.operator, Refiner):
                assert set(columns) <= set(writes)
            else:
                assert set(columns) == set(writes)
            for name, values in columns.items():
                wanted = writes[name]
                assert (values is None) == (wanted is None), f"`{name}`: only one of writes() and the verb removes it"
                if values is not None:
                    assert values.type == wanted, f"`{name}` is {values.type}, and writes() says {wanted}"
                    assert len(values) == batch.num_rows

    def test_answer_does_not_depend_on_batches(self) -> None:
        """One row at a time and random cuts give what the whole batch gives."""
        whole = _answers(self.operator, self.batch)
        rows = self.batch.num_rows
        random = np.random.default_rng(7)
        cuts = [list(range(rows + 1))]
        cuts += [[0, *sorted(random.integers(0, rows + 1, size=3).tolist()), rows] for _ in range(3)]
        for cut in cuts:
            pieces = [self.batch.slice(a, b - a) for a, b in pairwise(cut)]
            self._assert_same([answer for p in pieces for answer in _answers(self.operator, p)], whole)

    def test_answer_does_not_depend_on_buffer_offsets(self) -> None:
        """Rows in the middle of longer buffers are judged as they are elsewhere."""
        doubled = pa.concat_batches([self.batch, self.batch])
        whole = _answers(self.operator, self.batch)
        rows = self.batch.num_rows
        self._assert_same(_answers(self.operator, doubled.slice(3, rows)), [*whole[3:], *whole[:3]])

    def test_null_is_passed_by(self) -> None:
        """An all-null batch raises nothing; a score of null is null, and a refiner leaves it null."""
        columns = _columns(self.operator, self._nulls())
        if isinstance(columns, Expansion) or not self.null_gives_null:
            return
        for name, values in columns.items():
            assert values is None or values.null_count == len(values), f"`{name}` of a null is not null"

    def test_same_answer_twice_and_input_left_alone(self) -> None:
        """The verb changes neither its input nor itself."""
        before = _ipc(self.batch)
        told = self.operator.params()
        first = _answers(self.operator, self.batch)
        if self.operator.exactness != "free":
            self._assert_same(_answers(self.operator, self.batch), first)
        assert _ipc(self.batch) == before, "the verb wrote into its input"
        assert self.operator.params() == told

    def test_pickled_operator_is_the_same(self, tmp_path: Path) -> None:
        """What a worker receives is equal, has the same parameters and gives the same answer."""
        received: Operator = pickle.loads(cloudpickle.dumps(self.operator))  # noqa: S301 (our own bytes)
        assert received.params() == self.operator.params()
        assert received.version == self.operator.version
        assert "_runtime" not in received.__dict__, "what setup() loads stays in its process"
        received.setup(Context(operator_id="under.test", seed=0, cache_dir=tmp_path))
        try:
            self._assert_same(_answers(received, self.batch), _answers(self.operator, self.batch))
        finally:
            received.teardown()

    def test_keeps_the_promises_of_its_kind(self) -> None:
        """A filter's reasons and evidence, an evaluator's states, a generator's parents."""
        if isinstance(self.operator, Filter):
            self._check_filter(self.operator)
        elif isinstance(self.operator, Evaluator):
            self._check_evaluator(self.operator)
        elif isinstance(self.operator, Generator):
            made = self.operator.generate(self.batch)
            assert isinstance(made, Expansion) == self.operator.expands, (
                "`expands` says whether it returns an Expansion"
            )

    def _check_filter(self, operator: Filter) -> None:
        verdict = operator.verdict(self.batch)
        assert set(verdict.reasons) <= set(operator.reasons)
        assert len(verdict.codes) == self.batch.num_rows
        assert verdict.codes.min() >= 0
        assert verdict.codes.max() <= len(verdict.reasons)
        for evidence in verdict.evidence(np.flatnonzero(verdict.codes)).to_pylist():
            assert isinstance(json.loads(evidence, parse_constant=_not_json), dict)

    def _check_evaluator(self, operator: Evaluator) -> None:
        rows = self.batch.num_rows
        assert all(name.startswith("eval.") for name in operator.writes(self.batch.schema))
        whole = operator.state(self.batch)
        a, b, c = (operator.state(self.batch.slice(at, n)) for at, n in ((0, 1), (1, rows - 2), (rows - 1, 1)))
        left, right = operator.merge(operator.merge(a, b), c), operator.merge(a, operator.merge(b, c))
        empty = operator.state(self.batch.slice(0, 0))
        report = operator.report(whole)
        json.dumps(report, allow_nan=False)
        for state in (left, right, operator.merge(empty, whole), operator.merge(whole, empty)):
            assert len(state) <= MAX_STATE
            self._assert_same([operator.report(state)], [report])

    def _check_expansion(self, made: Expansion, batch: pa.RecordBatch, writes: dict[str, Any]) -> None:
        parent = made.parent.to_pylist()
        assert len(parent) == made.batch.num_rows
        assert all(0 <= p < batch.num_rows for p in parent)
        known = {f.name: f.type for f in batch.schema} | writes
        for field in made.batch.schema:
            assert known.get(field.name) == field.type, f"new rows have an undeclared column `{field.name}`"

    def _nulls(self) -> pa.RecordBatch:
        rows = self.batch.num_rows
        arrays = [
            column if is_internal(name) else pa.nulls(rows, column.type)
            for name, column in zip(self.batch.schema.names, self.batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.batch.schema)

    def _assert_same(self, got: Sequence[Any], wanted: Sequence[Any]) -> None:
        tolerance = 0.0 if self.operator.exactness == "bitwise" else self.tolerance
        if self.operator.exactness == "free":
            assert len(got) == len(wanted)
            return
        assert _is_same(got, wanted, tolerance), f"{got!r} is not {wanted!r}"


def _columns(operator: Operator, batch: pa.RecordBatch) -> Columns | Expansion:
    if isinstance(operator, Score):
        return operator.score(batch)
    if isinstance(operator, Evaluator):
        return operator.evaluate(batch)
    if isinstance(operator, Refiner):
        return operator.refine(batch)
    if isinstance(operator, Generator):
        return operator.generate(batch)
    assert isinstance(operator, Filter)
    assert len(operator.verdict(batch).codes) == batch.num_rows
    return {}


def _answers(operator: Operator, batch: pa.RecordBatch) -> list[Any]:
    """Return what the operator says of each row, as plain values."""
    if isinstance(operator, Filter):
        verdict = operator.verdict(batch)
        dropped = np.flatnonzero(verdict.codes)
        told: list[Any] = [None] * batch.num_rows
        for row, evidence in zip(dropped.tolist(), verdict.evidence(dropped).to_pylist(), strict=True):
            told[row] = (verdict.reasons[int(verdict.codes[row]) - 1], evidence)
        return told
    columns = _columns(operator, batch)
    if isinstance(columns, Expansion):
        families: list[list[Any]] = [[] for _ in range(batch.num_rows)]
        for parent, row in zip(columns.parent.to_pylist(), columns.batch.to_pylist(), strict=True):
            families[parent].append(row)
        return families
    # A removed column says nothing of any row; `writes` is checked for it elsewhere.
    named = {name: values.to_pylist() for name, values in columns.items() if values is not None}
    return [{name: values[row] for name, values in named.items()} for row in range(batch.num_rows)]


def _is_same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_same(v, b[k], tolerance) for k, v in a.items())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_is_same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _ipc(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _not_json(constant: str) -> NoReturn:
    raise AssertionError(f"evidence holds {constant}, which is not JSON")
