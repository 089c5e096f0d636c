from __future__ import annotations

import gzip
import json
import os
import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uniseg.wordbreak import word_break, words

from fdf.errors import MissingDependency
from fdf.operator import Context
from fdf_ops_text.analysis import wordbreaks
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.gopher_quality import GopherQualityFilter

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("FDF_TEST_DATA", ROOT / "../shared/data"))

# Every value of Word_Break by some of its characters, so that random text meets every rule.
BY_VALUE = {}
for code in range(0x3200):
    BY_VALUE.setdefault(word_break(chr(code)), []).append(chr(code))
TELLING = (
    "".join(character for held in BY_VALUE.values() for character in held[:3]) + "\U0001f469\u2764\u2139\u24c2\u200d"
)
texts = st.text(st.sampled_from(TELLING), max_size=30) | st.text(st.characters(codec="utf-8"), max_size=20)


def segments(text, tokenizer):
    return words_of(pa.array([text]), tokenizer).of_row(0)


def test_table_covers_every_value_of_the_property():
    assert {value & 31 for value in wordbreaks.break_table().tolist()} == set(range(19))


@settings(deadline=None, max_examples=1500)
@given(texts)
@example("\u05d0\"\u05d0'")
@example("a\u0308\u200d'\u0308b 3.\u030814,0 \r\n\u0308\r\u0308a_b\u30a2_1")
@example("\U0001f1e6\u0308\U0001f1e7\U0001f1e8\u200d\U0001f1e9\U0001f1ea")
def test_segments_are_those_of_uniseg(text):
    assert segments(text, "unicode") == [word for word in words(text) if not word.isspace()]
    assert segments(text, "dclm") == [word for word in words(text) if word[0].isalnum()]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.none() | texts, max_size=5), st.integers(0, 5))
def test_rows_are_cut_apart_from_each_other(values, start):
    column = pa.array(values, pa.string()).slice(start)
    found = words_of(column, "unicode")
    for row, text in enumerate(values[start:]):
        assert found.of_row(row) == [word for word in words(text or "") if not word.isspace()]
        assert found.n_chars[found.first[row] : found.last[row]].tolist() == [len(w) for w in found.of_row(row)]


# Written from the rules of UAX #29, revision 45, section 4.1: what each one joins or cuts.
@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("WB3c", "\U0001f469\u200d\U0001f33e", ["\U0001f469\u200d\U0001f33e"]),
        ("WB3b", "a\nb", ["a", "b"]),
        ("WB4", "e\u0301a", ["e\u0301a"]),
        ("WB4 after a line break", "\n\u0301a", ["\u0301", "a"]),
        ("WB5", "word", ["word"]),
        ("WB6 and WB7", "can't o'clock", ["can't", "o'clock"]),
        ("WB6 without a letter behind", "dogs' x", ["dogs", "'", "x"]),
        ("WB7a", "\u05d0'", ["\u05d0'"]),
        ("WB7b and WB7c", '\u05d0"\u05d1', ['\u05d0"\u05d1']),
        ("WB8", "123", ["123"]),
        ("WB9 and WB10", "a1b", ["a1b"]),
        ("WB11 and WB12", "3,141.59", ["3,141.59"]),
        ("WB12 without a digit behind", "3.", ["3", "."]),
        ("WB13", "\u30ab\u30bf\u30ab\u30ca", ["\u30ab\u30bf\u30ab\u30ca"]),
        ("WB13a and WB13b", "snake_case_1_", ["snake_case_1_"]),
        ("WB15 and WB16", "\U0001f1e9\U0001f1ea\U0001f1eb", ["\U0001f1e9\U0001f1ea", "\U0001f1eb"]),
        ("WB999", "well-known (\u6f22\u5b57)", ["well", "-", "known", "(", "\u6f22", "\u5b57", ")"]),
    ],
)
def test_each_rule_of_the_standard(rule, text, expected):
    assert segments(text, "unicode") == expected, rule


@pytest.mark.skipif(not (DATA / "web_mdn").exists(), reason="needs the test data (FDF_TEST_DATA)")
def test_words_of_web_pages_in_31_languages_are_those_of_uniseg():
    with gzip.open(DATA / "web_mdn/mdn-00000-of-00016.jsonl.gz", "rt", encoding="utf-8") as lines:
        pages = [json.loads(line)["text"] for line in lines]
    pages = [page[:1500] for page in random.Random(4).sample(pages, 120)]
    found = words_of(pa.array(pages), "unicode")
    for row, page in enumerate(pages):
        assert found.of_row(row) == [word for word in words(page) if not word.isspace()]


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from(" \n\t\v\f\r\0\x1c\x85\u00a0\u3000ab1-\u00e9\u65e5") | st.characters(codec="utf-8")))
def test_fasttext_words_are_cut_at_ascii_whitespace(text):
    plain = text
    for space in "\n\t\v\f\r\0":
        plain = plain.replace(space, " ")
    assert segments(text, "fasttext") == [word for word in plain.split(" ") if word and word[0].isalnum()]


@settings(deadline=None, max_examples=100)
@given(texts)
def test_dolma_words_are_those_of_python_split(text):
    assert segments(text, "dolma") == text.split()


def test_missing_uniseg_is_told_with_the_line_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "uniseg", None)
    monkeypatch.setattr(wordbreaks, "version", _not_installed)
    wordbreaks.break_table.cache_clear()
    operator = GopherQualityFilter(tokenizer="unicode")
    with pytest.raises(MissingDependency, match="uniseg") as told:
        operator.setup(Context(operator_id="x", seed=0, cache_dir=tmp_path))
    assert 'pip install "fdf-ops-text[unicode]"' in str(told.value)


def _not_installed(name):
    raise ModuleNotFoundError(name=name)
