from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.errors import PlanError, RecipeError
from fdf.fingerprint import keyed_hashes
from fdf.operator import recipe_name
from fdf.operators.cast_columns import CastColumns
from fdf.operators.column_stats import ColumnStats
from fdf.operators.expression import ExpressionFilter
from fdf.operators.rename_columns import RenameColumns
from fdf.operators.sample import SampleFilter
from fdf.operators.select_columns import SelectColumns
from fdf.operators.threshold import ThresholdFilter
from fdf.registry.index import build_index
from fdf.rowhash import row_hashes
from fdf.sketch import estimate, sketch


def reasons(operator, batch):
    verdict = operator.verdict(batch)
    return [verdict.reasons[c - 1] if c else "keep" for c in verdict.codes]


def of(values, kind=None):
    return pa.record_batch({"x": pa.array(values, kind)})


# --- ThresholdFilter


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"gt": 2}, ["below_min", "below_min", "keep", "null"]),
        ({"ge": 2}, ["below_min", "keep", "keep", "null"]),
        ({"lt": 2}, ["keep", "above_max", "above_max", "null"]),
        ({"le": 2}, ["keep", "keep", "above_max", "null"]),
        ({"eq": 2}, ["not_equal", "keep", "not_equal", "null"]),
        ({"in_": (1, 3)}, ["keep", "not_in", "keep", "null"]),
        ({"ge": 2, "le": 2}, ["below_min", "keep", "above_max", "null"]),
        ({"ge": 2, "nulls": "keep"}, ["below_min", "keep", "keep", "keep"]),
        ({"in_": (1, 3), "nulls": "keep"}, ["keep", "not_in", "keep", "keep"]),
    ],
)
@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.float64()])
def test_threshold_drops_for_the_bound_that_is_broken(bounds, expected, kind):
    assert reasons(ThresholdFilter(field="x", **bounds), of([1, 2, 3, None], kind)) == expected


def test_nan_meets_no_bound():
    nan = of([math.nan])
    assert reasons(ThresholdFilter(field="x", ge=0), nan) == ["below_min"]
    assert reasons(ThresholdFilter(field="x", le=0), nan) == ["above_max"]


def test_float32_score_meets_the_bound_as_it_is_written():
    assert reasons(ThresholdFilter(field="x", ge=0.7), of([0.7], pa.float32())) == ["keep"]


@settings(deadline=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=10),
    st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False),
)
def test_integers_are_compared_exactly(values, bound):
    batch = of(values, pa.int64())
    # Python compares integers with floats exactly.
    for name, holds in (
        ("gt", int.__gt__),
        ("ge", int.__ge__),
        ("lt", int.__lt__),
        ("le", int.__le__),
        ("eq", int.__eq__),
    ):
        expected = []
        for value in values:
            told = holds(value, bound) if isinstance(bound, int) else getattr(bound, _MIRROR[name])(value)
            expected.append(bool(told))
        kept = [r == "keep" for r in reasons(ThresholdFilter(field="x", **{name: bound}), batch)]
        assert kept == expected, name


_MIRROR = {"gt": "__lt__", "ge": "__le__", "lt": "__gt__", "le": "__ge__", "eq": "__eq__"}


def test_threshold_takes_text_and_booleans():
    assert reasons(ThresholdFilter(field="x", in_=("en", "de")), of(["en", "fr", None])) == ["keep", "not_in", "null"]
    assert reasons(ThresholdFilter(field="x", eq=True), of([True, False])) == ["keep", "not_equal"]
    assert reasons(ThresholdFilter(field="x", eq="a"), of(["a", "b"])) == ["keep", "not_equal"]


def test_threshold_tells_the_value_and_the_bound():
    verdict = ThresholdFilter(field="x", ge=0.6).verdict(of([0.25, None, math.nan]))
    told = [json.loads(e) for e in verdict.evidence(np.array([0, 1, 2])).to_pylist()]
    assert told[0] == {"value": 0.25, "ge": 0.6}
    assert told[1] == {"value": None}
    assert told[2] == {"value": "nan", "ge": 0.6}


def test_in_is_written_without_its_underscore_in_recipes():
    assert recipe_name("in_") == "in"
    assert ThresholdFilter(field="x", in_=(1,)).params()["in"] == [1]


@pytest.mark.parametrize(
    ("bounds", "says"),
    [({}, "one bound"), ({"gt": 1, "ge": 1}, "not both"), ({"in_": ()}, "empty"), ({"le": math.inf}, "infinite")],
)
def test_bounds_that_say_nothing_are_refused(bounds, says):
    with pytest.raises(ValueError, match=says):
        ThresholdFilter(field="x", **bounds)


@pytest.mark.parametrize(
    ("kind", "bounds"), [(pa.string(), {"ge": 1}), (pa.int64(), {"in_": ("a",)}), (pa.int64(), {"eq": "a"})]
)
def test_bound_of_another_type_is_a_plan_error(kind, bounds):
    with pytest.raises(PlanError, match="cannot compare column `x`"):
        ThresholdFilter(field="x", **bounds).writes(pa.schema({"x": kind}))


# --- ExpressionFilter


def test_expression_separates_false_from_unknown():
    assert reasons(ExpressionFilter(keep="x > 1"), of([1, 2, None])) == ["not_met", "keep", "null"]
    assert reasons(ExpressionFilter(keep="x > 1", nulls="keep"), of([1, 2, None])) == ["not_met", "keep", "keep"]


def test_expression_tells_what_was_asked():
    verdict = ExpressionFilter(keep="x > 1").verdict(of([1]))
    assert json.loads(verdict.evidence(np.array([0]))[0].as_py()) == {"value": 1, "keep": "x > 1"}


def test_expression_that_is_not_row_wise_is_refused_at_once():
    with pytest.raises(RecipeError, match="aggregate"):
        ExpressionFilter(keep="x > avg(x)")


# --- SampleFilter


def test_sample_takes_about_its_share_and_more_is_a_superset():
    batch = pa.record_batch({"__fdf__/id": [f"ab:{i}" for i in range(5_000)]})
    kept = {rate: SampleFilter(rate=rate).verdict(batch).codes == 0 for rate in (0.0, 0.1, 0.3, 1.0)}
    # Within five standard deviations of the binomial distribution.
    assert abs(kept[0.1].sum() - 500) < 5 * math.sqrt(5_000 * 0.1 * 0.9)
    assert not kept[0.0].any()
    assert kept[1.0].all()
    assert not (kept[0.1] & ~kept[0.3]).any()


def test_sample_of_ids_is_xxh3_with_the_seed():
    ids = [f"ab:{i}" for i in range(50)]
    codes = SampleFilter(rate=0.4, seed=9).verdict(pa.record_batch({"__fdf__/id": ids})).codes
    assert ((codes == 0) == (keyed_hashes(ids, key=9) < int(0.4 * 2**64))).all()


def test_other_seed_is_another_sample():
    batch = pa.record_batch({"__fdf__/id": [f"ab:{i}" for i in range(200)]})
    one, other = (SampleFilter(rate=0.5, seed=seed).verdict(batch).codes.tolist() for seed in (1, 2))
    assert one != other


def test_equal_values_of_a_field_share_their_fate():
    verdict = SampleFilter(rate=0.5, field="x").verdict(of(["a", "b", "a", None] * 5))
    assert len({verdict.codes[i] for i in range(0, 20, 2)}) == 1
    assert [verdict.reasons[verdict.codes[i] - 1] for i in range(3, 20, 4)] == ["null"] * 5


@pytest.mark.parametrize("values", [[1, 2, None, -(2**40)], [0.5, -0.0, 7.0, None]])
def test_numbers_hash_alike_in_every_width(values):
    wide, narrow = (pa.int64(), pa.int64()) if isinstance(values[0], int) else (pa.float64(), pa.float32())
    assert (row_hashes(pa.array(values, wide), key=3) == row_hashes(pa.array(values, narrow), key=3)).all()
    assert row_hashes(pa.array([1], pa.int8()))[0] == row_hashes(pa.array([1], pa.uint64()))[0]
    assert row_hashes(pa.array([0.0]))[0] == row_hashes(pa.array([-0.0]))[0]


def test_number_hash_is_splitmix64():
    # The first outputs of the reference splitmix64.c (Vigna) for the state 0.
    reference = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(row_hashes(pa.array([0]), key=k)[0]) for k in range(3)] == reference


# --- columns


def test_select_keeps_fdf_columns_and_order_of_nothing_else():
    batch = pa.record_batch({"__fdf__/id": ["a"], "x": [1], "y": [2], "z": [3]})
    assert SelectColumns(columns=("y",)).refine(batch) == {"x": None, "z": None}
    assert SelectColumns(drop=("y", "__fdf__/id")).refine(batch) == {"y": None}


def test_column_to_keep_that_is_absent_is_a_plan_error():
    with pytest.raises(PlanError, match="did you mean `text`"):
        SelectColumns(columns=("texd",)).writes(pa.schema({"text": pa.string()}))


def test_columns_swap_names():
    batch = pa.record_batch({"a": [1], "b": ["x"]})
    swap = RenameColumns(columns={"a": "b", "b": "a"})
    assert {n: v.to_pylist() for n, v in swap.refine(batch).items()} == {"a": ["x"], "b": [1]}
    assert swap.writes(batch.schema) == {"a": pa.string(), "b": pa.int64()}


def test_rename_onto_a_column_that_stays_is_a_plan_error():
    with pytest.raises(PlanError, match="a column `b` is there already"):
        RenameColumns(columns={"b": "a"}).writes(pa.schema({"a": pa.int8(), "b": pa.int8()}))


@pytest.mark.parametrize(("values", "kind"), [(["1", "x"], "int8"), ([300], "int8"), ([1.5], "int64")])
def test_value_that_does_not_fit_raises(values, kind):
    with pytest.raises(pa.ArrowInvalid):
        CastColumns(types={"x": kind}).refine(of(values))


def test_cast_that_can_never_work_is_a_plan_error():
    with pytest.raises(PlanError, match="from list<item: int64> into int8"):
        CastColumns(types={"x": "int8"}).writes(pa.schema({"x": pa.list_(pa.int64())}))


def test_name_that_is_no_type_is_refused():
    with pytest.raises(ValueError, match="did you mean `float32`"):
        CastColumns(types={"x": "flaot32"})


# --- ColumnStats


def report(*batches, **parameters):
    stats = ColumnStats(**parameters)
    state = stats.state(batches[0])
    for batch in batches[1:]:
        state = stats.merge(state, stats.state(batch))
    assert len(state) <= 64 << 10
    return stats.report(state)


def test_column_stats_tell_what_a_column_holds():
    at = datetime(2020, 3, 1, tzinfo=UTC)
    batch = pa.record_batch(
        {
            "n": [3, None, 2**60, 3],
            "f": [0.1, math.nan, math.inf, 0.3],
            "s": ["a", "b", None, None],
            "l": pa.array([[1], None, [], []], pa.list_(pa.int8())),
            "t": pa.array([at, None, at, at], pa.timestamp("s", "UTC")),
            "b": [True, False, True, True],
        }
    )
    told = report(batch)
    assert told["rows"] == 4
    assert told["null_rate"] == {"n": 0.25, "f": 0.0, "s": 0.5, "l": 0.25, "t": 0.25, "b": 0.0}
    assert told["nan_rate"] == {"f": 0.25}
    assert told["distinct"] == {"n": 2, "f": 4, "s": 2, "t": 1, "b": 2}
    assert told["min"] == {"n": 3, "f": 0.1, "t": "2020-03-01 00:00:00Z", "b": 0}
    assert told["max"] == {"n": 2**60, "f": 0.3, "t": "2020-03-01 00:00:00Z", "b": 1}
    assert told["mean"] == {"n": (2**60 + 6) / 3, "f": math.fsum([0.1, 0.3]) / 2, "b": 0.75}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(allow_nan=True), min_size=2, max_size=30), st.integers(1, 29))
def test_column_stats_do_not_depend_on_batches(values, cut):
    batch = of(values, pa.float64())
    assert report(batch.slice(0, cut), batch.slice(cut)) == report(batch)


@pytest.mark.parametrize("different", [10, 1_000, 50_000])
def test_distinct_is_within_four_standard_errors(different):
    registers = sketch(row_hashes(pa.array(np.arange(different))), precision=12)
    assert abs(estimate(registers) - different) <= max(1, 4 * 1.04 / math.sqrt(2**12) * different)


def test_forty_columns_of_extreme_numbers_fit_into_the_state():
    wild = pa.array([5e-324, 1.7e308, -3.3e-200])
    told = report(pa.record_batch({f"a_column_with_a_rather_long_name_{i:02}": wild for i in range(40)}))
    assert len(told["mean"]) == 40


def test_more_columns_than_fit_are_a_plan_error():
    wide = pa.schema({f"c{i}": pa.int8() for i in range(41)})
    with pytest.raises(PlanError, match="40 columns at most"):
        ColumnStats().reads(wide)
    assert ColumnStats(columns=("c1",)).reads(wide) == ("c1",)


def test_empty_dataset_has_no_rates():
    assert report(of([], pa.int64()))["null_rate"] == {"x": None}


# --- discovery


@pytest.mark.parametrize("distribution", ["fdf-core", "fdf-ops-text"])
def test_index_beside_the_package_is_up_to_date(distribution):
    for path, text in build_index(distribution).items():
        assert path.read_text("utf-8") == text, "run `fdf ops index` and commit what it writes"
