"""Repeated paragraphs, lines and n-grams, and Gopher's decisions, against plain Python."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from references import datatrove
from references.odd_texts import bounds, few_words, many_lines, prose, repeated, texts

from fdf_ops_text.analysis.marks import marks_of
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.characters import table
from fdf_ops_text.gopher_quality import GopherQualityFilter
from fdf_ops_text.gopher_repetition import GopherRepetitionFilter
from fdf_ops_text.kernels.repetition import repetition

NEVER = 1e300
"""A bound that no share is above: its rule is measured."""
# Joined without spaces, many runs of these are the same, also where one has more words than the other; five of them
# may have fewer bytes than, as many as, or more than what places are told apart by (MARK).
_alike = repeated(["a", "aa", "aaa", "a" * 8, "a" * 16, "a" * 15 + "b"])
_longer = repeated(["abc", "abcabc", "bca", "cab", "\u65e5\u672c", "\u65e5", "\u672c", "x" * 70])
_repeating = st.tuples(few_words | _longer, st.integers(1, 5), few_words).map(lambda t: t[0] * t[1] + t[2] + t[0])
word_lists = few_words | _alike | _longer | _repeating
_gaps = st.sampled_from([" ", " ", " ", "\n", "\n\n", "\n\n\n", "  ", " \n", "\r\n", "\u2028"])
repeating = st.tuples(word_lists, st.lists(_gaps, min_size=1, max_size=7)).map(
    lambda t: "".join(word + t[1][i % len(t[1])] for i, word in enumerate(t[0]))
)
_parts = st.sampled_from(["", "a", "a b", " a b", "a b ", "\r", " ", "\u00e9", "\x85", "\u2029a"])
broken = st.lists(st.tuples(_parts, st.sampled_from(["\n", "\n\n", "\n\n\n", "\n \n", "\r\n\r\n"])), max_size=14).map(
    lambda parts: "".join(part + gap for part, gap in parts)
)
repeating_texts = repeating | broken | texts


def measured(rows, tokenizer, limits):
    """Return what the kernel measures of each row, and the words of each."""
    column = pa.array(rows, pa.string())
    words, chars = words_of(column, tokenizer), marks_of(column).chars
    texts = words.texts
    place = (texts.data, texts.starts, texts.ends, chars, table(), words.first, words.last)
    values = repetition(*place, words.at_byte, words.n_bytes, words.n_chars, words.hashes, np.array(limits))
    return values, [words.of_row(row) for row in range(len(rows))]


def assert_shares(values, words, rows, on):
    for row, text in enumerate(rows):
        wanted = datatrove.repetition_shares(text, words[row]) if text else {}
        for rule, name in enumerate(datatrove.REPETITION):
            value = float(values[row, rule])
            if math.isnan(value):
                # What a text is too short for is not measured, and breaks no rule.
                assert not on[rule] or not wanted.get(name)
            else:
                assert on[rule] or name.startswith("dup_")
                assert value == wanted[name], (name, text)


@settings(deadline=None, max_examples=400)
@given(st.lists(repeating_texts, max_size=4))
@example(["ab c a bc x ab c a bc y a b c a b c ab ca bc ab ca bc", "", "\n", "\n\n"])
def test_shares_are_those_of_plain_python(rows):
    for tokenizer in ("whitespace", "datatrove"):
        assert_shares(*measured(rows, tokenizer, [NEVER] * 13), rows, [True] * 13)


@settings(deadline=None, max_examples=250)
@given(st.lists(repeating, max_size=3), st.lists(st.booleans(), min_size=13, max_size=13))
def test_share_is_the_same_whichever_other_rules_are_off(rows, on):
    values, words = measured(rows, "whitespace", [NEVER if held else np.inf for held in on])
    assert_shares(values, words, rows, on)


@settings(deadline=None, max_examples=150)
@given(repeating, st.integers(0, 12), st.integers(0, 10))
def test_nothing_is_measured_behind_the_first_rule_that_breaks(text, rule, steps):
    whole, _ = measured([text], "whitespace", [NEVER] * 13)
    bound = np.nextafter(whole[0, rule], -np.inf) if not np.isnan(whole[0, rule]) else 0.5
    limits = [NEVER] * 13
    limits[rule] = bound
    values, _ = measured([text], "whitespace", limits)
    stops = rule if not np.isnan(whole[0, rule]) else 12
    # The two shares of paragraphs are found together, and those of lines.
    seen = max(stops + 1, 2 if stops < 2 else 4 if stops < 4 else 0)
    assert np.array_equal(values[0, :seen], whole[0, :seen], equal_nan=True)
    assert np.isnan(values[0, seen:]).all()


shares = st.sampled_from([0, 0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.5, 1, NEVER]) | st.floats(0, 1)


def decisions(operator, rows):
    verdict = operator.verdict(pa.record_batch({"text": pa.array(rows, pa.string())}))
    return [verdict.reasons[code - 1] if code else "keep" for code in verdict.codes]


@pytest.mark.parametrize("tokenizer", ["whitespace", "datatrove"])
@settings(deadline=None, max_examples=100)
@given(st.lists(repeating_texts, max_size=4), bounds(datatrove.REPETITION, shares))
def test_gopher_repetition_decides_as_plain_python_at_any_threshold(tokenizer, rows, chosen):
    words = words_of(pa.array(rows, pa.string()), tokenizer)
    told = decisions(GopherRepetitionFilter(tokenizer=tokenizer, **chosen), rows)
    held = {name: None if bound is False else bound for name, bound in chosen.items()}
    assert told == [datatrove.gopher_repetition(t, words.of_row(row), **held) for row, t in enumerate(rows)]


_off = st.just(False)
quality_bounds = st.fixed_dictionaries(
    {
        "min_words": _off | _off | st.integers(0, 30),
        "max_words": _off | _off | st.integers(0, 60),
        "min_word_length": _off | _off | st.sampled_from([0, 1, 2, 2.5, 3, 4]),
        "max_word_length": _off | _off | st.sampled_from([1, 2, 3, 3.5, 10]),
        **dict.fromkeys(("max_symbols", "max_bullet_lines", "max_ellipsis_lines"), _off | shares),
        "min_letter_words": _off | shares,
        "min_stop_words": _off | st.integers(0, 6),
    }
)


@pytest.mark.parametrize("tokenizer", ["whitespace", "datatrove"])
@settings(deadline=None, max_examples=250)
@given(st.lists(many_lines | prose | texts, max_size=4), quality_bounds)
def test_gopher_quality_decides_as_plain_python_at_any_threshold(tokenizer, rows, chosen):
    words = words_of(pa.array(rows, pa.string()), tokenizer)
    told = decisions(GopherQualityFilter(tokenizer=tokenizer, **chosen), rows)
    held = {name: None if bound is False else bound for name, bound in chosen.items()}
    assert told == [datatrove.gopher_quality(t, words.of_row(row), **held) for row, t in enumerate(rows)]
