from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.errors import PlanError
from fdf_ops_text.statistics import TextStatistics
from fdf_ops_text.word_count import WordCountFilter
from fdf_ops_text.words import TextBytes, word_counts

SPACES = "".join(c for c in map(chr, range(0x110000)) if c.isspace())
# Text that is rich in all kinds of whitespace and in characters that share bytes with it.
texts = st.lists(
    st.none()
    | st.text(
        st.sampled_from(SPACES + "ab\u00a1\u0085\u2010\u200b\u3001\u1681\U0001f600") | st.characters(codec="utf-8")
    ),
    max_size=8,
)


def words_of(text):
    return None if text is None else len(text.split())


@settings(deadline=None)
@given(texts, st.integers(0, 8))
def test_words_are_those_of_python_split(values, start):
    column = pa.array(values, pa.string())
    assert word_counts(column).to_pylist() == [words_of(t) for t in values]
    assert word_counts(column.slice(start)).to_pylist() == [words_of(t) for t in values[start:]]


@settings(deadline=None)
@given(texts)
def test_word_borders_are_those_of_python_split(values):
    text = TextBytes.of(pa.array(values, pa.string()))
    data = text.data.tobytes()
    words = [data[a:b].decode() for a, b in zip(text.word_starts, text.word_ends, strict=True)]
    assert words == [word for t in values if t for word in t.split()]


@settings(deadline=None)
@given(texts)
def test_statistics_agree_with_python(values):
    told = TextStatistics().score(pa.record_batch({"text": pa.array(values, pa.string())}))

    def each(count):
        return [None if t is None else count(t) for t in values]

    assert told["n_chars"].to_pylist() == each(len)
    assert told["n_bytes"].to_pylist() == each(lambda t: len(t.encode()))
    assert told["n_words"].to_pylist() == each(lambda t: len(t.split()))
    assert told["n_lines"].to_pylist() == each(lambda t: t.count("\n") + (t != "" and not t.endswith("\n")))
    assert told["mean_word_length"].to_pylist() == each(
        lambda t: sum(map(len, t.split())) / len(t.split()) if t.split() else None
    )


def test_word_count_filter_tells_value_and_bound():
    batch = pa.record_batch({"text": ["one", "one two", None, "one two three four"]})
    verdict = WordCountFilter(min_words=2, max_words=3).verdict(batch)
    assert [verdict.reasons[c - 1] if c else "keep" for c in verdict.codes] == [
        "too_few_words",
        "keep",
        "keep",
        "too_many_words",
    ]
    assert verdict.evidence(verdict.codes.nonzero()[0]).to_pylist() == [
        '{"value": 1, "min": 2}',
        '{"value": 4, "max": 3}',
    ]


def test_bound_itself_is_kept():
    verdict = WordCountFilter(min_words=2, max_words=2).verdict(pa.record_batch({"text": ["one two"]}))
    assert verdict.codes.tolist() == [0]


def test_bounds_that_contradict_are_refused():
    with pytest.raises(ValueError, match="no document has both"):
        WordCountFilter(min_words=5, max_words=2)
    with pytest.raises(ValueError, match="switched off"):
        WordCountFilter(min_words=None, max_words=None)


@pytest.mark.parametrize("operator", [TextStatistics(), WordCountFilter()])
def test_column_that_is_no_text_is_a_plan_error(operator):
    with pytest.raises(PlanError, match="reads text, and the column `text` is int64"):
        operator.writes(pa.schema({"text": pa.int64()}))
