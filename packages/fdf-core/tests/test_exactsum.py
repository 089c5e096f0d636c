from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.exactsum import ExactSum

doubles = st.floats(allow_nan=False, allow_infinity=False)
int64 = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(st.lists(doubles, max_size=60))
def test_sum_equals_fsum_on_any_doubles(values):
    try:
        expected = math.fsum(values)
    except OverflowError:
        return
    assert ExactSum.of(np.array(values, dtype=np.float64)).value == expected


@settings(deadline=None)
@given(st.lists(doubles, max_size=60), st.randoms(use_true_random=False), st.integers(0, 60))
def test_sum_does_not_depend_on_order_or_cuts(values, shuffler: random.Random, cut):
    whole = ExactSum.of(np.array(values, dtype=np.float64))
    shuffler.shuffle(values)
    parts = ExactSum.of(np.array(values[:cut], dtype=np.float64)) + ExactSum.of(
        np.array(values[cut:], dtype=np.float64)
    )
    assert parts == whole


@settings(deadline=None)
@given(st.lists(int64, max_size=40))
def test_integers_add_up_beyond_64_bits(values):
    assert ExactSum.of(np.array(values, dtype=np.int64)) == ExactSum(sum(values) << 1126)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_unsigned_integers_add_up_beyond_64_bits(values):
    assert ExactSum.of(np.array(values, dtype=np.uint64)) == ExactSum(sum(values) << 1126)


@settings(deadline=None)
@given(st.lists(doubles, max_size=20))
def test_json_gives_the_same_sum_back(values):
    total = ExactSum.of(np.array(values, dtype=np.float64))
    assert ExactSum.from_json(total.to_json()) == total


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_is_a_hexadecimal_float_that_python_reads(value):
    assert float.fromhex(ExactSum.of(np.array([value])).to_json()) == value


def test_smallest_and_largest_doubles_are_exact():
    tiny, huge = 5e-324, 1.7976931348623157e308
    assert ExactSum.of(np.array([tiny])).value == tiny
    assert ExactSum.of(np.array([huge, tiny, -huge])).value == tiny
    assert ExactSum.of(np.array([huge, huge])).value == math.inf
    assert ExactSum.of(np.array([-huge, -huge])).value == -math.inf


def test_nan_is_refused():
    with pytest.raises(ValueError, match="no exact sum"):
        ExactSum.of(np.array([1.0, math.nan]))


def test_mean_rounds_once():
    # (2**53 + 1) + 1 is lost when added as doubles; the exact mean of the three is (2**53 + 2) / 3.
    values = np.array([2.0**53, 1.0, 1.0])
    assert ExactSum.of(values).mean(3) == (2**53 + 2) / 3
    assert ExactSum().mean(0) is None
