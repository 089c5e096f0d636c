from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.fingerprint import canonical_json
from fdf.histogram import Histogram, observe

numbers = st.lists(st.none() | st.floats(), max_size=50)


def of(values) -> Histogram:
    return observe(pa.array(values, pa.float64()))


@settings(deadline=None)
@given(numbers, st.integers(0, 50))
def test_histogram_does_not_depend_on_cuts(values, cut):
    assert of(values[:cut]).merge(of(values[cut:])).to_json() == of(values).to_json()


@settings(deadline=None)
@given(numbers)
def test_histogram_does_not_depend_on_order(values):
    assert of(values[::-1]).to_json() == of(values).to_json()


@settings(deadline=None)
@given(numbers)
def test_every_row_is_counted_once(values):
    finite = [v for v in values if v is not None and math.isfinite(v)]
    h = of(values)
    assert (h.rows, h.count) == (len(values), len(finite))
    assert h.nulls == values.count(None)
    assert h.nans == sum(v is not None and math.isnan(v) for v in values)
    assert (h.positive_infinities, h.negative_infinities) == (values.count(math.inf), values.count(-math.inf))
    assert (h.minimum, h.maximum) == (min(finite, default=None), max(finite, default=None))


@settings(deadline=None)
@given(numbers)
def test_json_gives_the_same_histogram_back(values):
    h = of(values)
    assert Histogram.from_json(json.loads(canonical_json(h.to_json()))).to_json() == h.to_json()


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False).filter(bool))
def test_value_lies_in_its_bin_and_the_bin_is_narrow(value):
    ((low, high, count),) = of([value]).bins()
    assert count == 1
    assert low <= value <= high
    if abs(value) >= 2.0**-1000 and abs(value) < 2.0**1023:  # denormals are coarser than 32 steps
        assert high - low <= abs(value) / 32 * (1 + 1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(0, 1))
def test_quantile_bounds_hold_the_value_of_that_rank(values, q):
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    found = of(values).quantile(q)
    assert found is not None
    assert found.low <= exact <= found.high
    assert found.low <= found.value <= found.high
    assert abs(found.value - exact) <= abs(exact) / 32 + 1e-300


def test_bins_follow_the_documented_formula():
    # 1.5 = 2**0 * (1 + 16/32); 0.75 = 2**-1 * (1 + 16/32); 1.0 opens bin 0; 1.999 is in the last of its octave.
    assert of([1.5, 0.75, 1.0, 1.999]).positive == {16: 1, -16: 1, 0: 1, 31: 1}
    assert of([-1.5]).negative == {16: 1}


def test_minus_zero_is_zero():
    assert math.copysign(1, of([-0.0]).minimum) == 1
    assert of([-0.0, 0.0]).zeros == 2


def test_integers_and_booleans_are_numbers():
    assert observe(pa.array([True, False, None])).mean == 0.5
    wide = observe(pa.chunked_array([pa.array([2**62, 1]), pa.array([2**62])]))
    assert wide.total.units >> 1126 == 2**63 + 1


def test_text_is_refused():
    with pytest.raises(ValueError, match="of numbers, not of string"):
        observe(pa.array(["a"]))


def test_empty_column_has_no_quantile():
    assert of([]).quantile(0.5) is None
    assert of([]).mean is None
    with pytest.raises(ValueError, match="from 0 to 1"):
        of([1.0]).quantile(1.5)


def test_a_million_values_take_part_of_a_second_in_few_bins():
    h = observe(pa.array(np.random.default_rng(0).normal(size=200_000)))
    assert len(h.positive) + len(h.negative) < 1_500
