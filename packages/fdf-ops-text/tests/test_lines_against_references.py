"""What kernels count in texts and their lines, and FineWeb's decisions, against plain Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import datatrove
from references.odd_texts import MARKS, bounds, column_of, columns, many_lines, texts

from fdf_ops_text.analysis.lines import line_marks_of
from fdf_ops_text.analysis.marks import marks_of
from fdf_ops_text.analysis.texts import Texts
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.characters import TERMINAL, table
from fdf_ops_text.fineweb_quality import FineWebQualityFilter
from fdf_ops_text.kernels.fineweb import line_shares
from fdf_ops_text.kernels.lines import ONE_CHARACTER, SPACED_DOTS, THREE_DOTS, line_marks

rows_of_lines = st.lists(st.none() | many_lines | texts, max_size=5)


def plain_marks(text, bullets, kinds, *, universal, trim, skip_blank):
    """Return lines, those that start with a bullet, and those that end in an ellipsis."""
    endings = {THREE_DOTS: "...", ONE_CHARACTER: "\u2026", SPACED_DOTS: ". . ."}
    endings = tuple(ending for kind, ending in endings.items() if kinds & kind)
    lines = text.splitlines() if universal else text.split("\n")
    lines = [line for line in lines if line.strip() or not skip_blank]
    looked_at = [line.strip() if trim else line for line in lines]
    bulleted = sum(line.startswith(tuple(bullets)) for line in looked_at)
    return len(lines), bulleted, sum(line.endswith(endings) for line in looked_at)


@settings(deadline=None, max_examples=250)
@given(
    rows_of_lines,
    st.integers(0, 1),
    st.sampled_from(["\u2022-", "*", "\u25cf\u2022*-", "\u3000"]),
    st.integers(0, 7),
    st.data(),
)
def test_line_marks_are_those_of_plain_python(rows, skipped, bullets, kinds, data):
    switches = {name: data.draw(st.booleans(), name) for name in ("universal", "trim", "skip_blank")}
    held = Texts.of(column_of(rows, skipped))
    codes = np.array([ord(bullet) for bullet in bullets], np.int64)
    told = line_marks(held.data, held.starts, held.ends, table(), codes, kinds, *switches.values())
    wanted = [plain_marks(text or "", bullets, kinds, **switches) for text in rows]
    assert [tuple(map(int, counts)) for counts in zip(*told, strict=True)] == wanted


def test_bullets_that_begin_with_one_byte_are_counted_once():
    rows = ["\u2022 one\n\u25cf two\nthree \u2022", "\u25cf" * 70, " \u2022\r\n- x"]
    held = Texts.of(column_of(rows, 0))
    bullets = "\u25cf\u2022*-"
    codes = np.array([ord(bullet) for bullet in bullets], np.int64)
    _, bulleted, _ = line_marks(held.data, held.starts, held.ends, table(), codes, 0, True, True, False)
    assert bulleted.tolist() == [2, 1, 2]


@settings(deadline=None, max_examples=100)
@given(rows_of_lines)
def test_datatrove_lines_are_those_of_splitlines_stripped(rows):
    marks = line_marks_of(column_of(rows), "datatrove")
    told = zip(marks.count.tolist(), marks.bullets.tolist(), marks.ellipses.tolist(), strict=True)
    kinds = THREE_DOTS | ONE_CHARACTER
    switches = {"universal": True, "trim": True, "skip_blank": False}
    assert list(told) == [plain_marks(text or "", "\u2022-", kinds, **switches) for text in rows]


@settings(deadline=None, max_examples=250)
@given(columns | rows_of_lines, st.integers(0, 1))
def test_text_marks_are_those_of_plain_python(rows, skipped):
    marks = marks_of(column_of(rows, skipped))
    told = zip(marks.chars, marks.line_feeds, marks.hashes, marks.dots, marks.ellipses, strict=True)
    wanted = [(len(t), *map(t.count, ("\n", "#", "...", "\u2026"))) for t in (text or "" for text in rows)]
    assert [tuple(map(int, row)) for row in told] == wanted


@settings(deadline=None, max_examples=250)
@given(rows_of_lines, st.integers(0, 40))
def test_line_shares_are_those_of_plain_python(rows, short):
    held = Texts.of(column_of(rows))
    told = line_shares(held.data, held.starts, held.ends, table(), TERMINAL, short)
    for row, text in enumerate(rows):
        lines = [line for line in (text or "").split("\n") if line.strip()]
        assert [int(counts[row]) for counts in told] == [len(lines), *datatrove.line_counts(lines, short)]


thresholds = st.sampled_from([0, 0.12, 0.25, 0.3, 1 / 3, 0.5, 0.67, 1]) | st.floats(0, 1)


@pytest.mark.parametrize("tokenizer", ["whitespace", "datatrove"])
@settings(deadline=None, max_examples=100)
@given(st.lists(many_lines | texts, max_size=5), bounds(datatrove.FINEWEB, thresholds), st.data())
def test_fineweb_decides_as_plain_python_at_any_threshold(tokenizer, rows, chosen, data):
    exclude_zero, short = data.draw(st.booleans()), data.draw(st.sampled_from([0, 5, 30]))
    column = pa.array(rows, pa.string())
    words = words_of(column, tokenizer)
    operator = FineWebQualityFilter(
        tokenizer=tokenizer, line_punct_exclude_zero=exclude_zero, short_line_length=short, **chosen
    )
    verdict = operator.verdict(pa.record_batch({"text": column}))
    told = [verdict.reasons[code - 1] if code else "keep" for code in verdict.codes]
    held = {name: None if bound is False else bound for name, bound in chosen.items()}
    held |= {"exclude_zero": exclude_zero, "short_length": short}
    assert told == [datatrove.fineweb(t, words.of_row(row), **held) for row, t in enumerate(rows)]


@pytest.mark.parametrize("mark", MARKS)
def test_line_ends_with_a_terminal_mark_as_its_list_says(mark):
    held = Texts.of(pa.array([mark, f"x{mark}", f"{mark}\n{mark}x"]))
    _, ended, _, _ = line_shares(held.data, held.starts, held.ends, table(), TERMINAL, 30)
    last = mark.endswith(datatrove.TERMINAL)
    assert ended.tolist() == [last, last, last]
