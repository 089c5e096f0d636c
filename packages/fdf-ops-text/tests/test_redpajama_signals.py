# ruff: noqa: RUF001 (characters that look alike are what is tested)
from __future__ import annotations

import gzip
import json
import os
import string
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import rpv2

from fdf.errors import PlanError
from fdf.sharing import follow, sharing
from fdf_ops_text.analysis.rpv2 import normalized_of
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.characters import sentence_ends, symbols
from fdf_ops_text.kernels.hashing import hash_of
from fdf_ops_text.kernels.rpv2 import rounded
from fdf_ops_text.kernels.words import ALL_PUNCTUATION, ENDS_SENTENCE, HAS_LETTER, HAS_NO_SYMBOL, STARTS_ALNUM
from fdf_ops_text.redpajama_signals import SIGNALS, RedPajamaSignals, english_stop_words

DATA = Path(os.environ.get("FDF_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))
WEB = DATA / "web_mdn" / "mdn-00000-of-00016.jsonl.gz"
SPACES = "".join(c for c in map(chr, range(0x110000)) if c.isspace())
# What the kernels treat apart: case around sigma, marks out of order, marks and words at whitespace and punctuation.
PIECES = [
    "Σ",
    "ΑΣ",
    "σ",
    "İ",
    "ẞ",
    "ǅ",
    "ª",
    "ʰ",
    "\u0345",
    "\u00ad",
    "\u0301",
    "\u0323",
    "\u05b0",
    "\u0344",
    "é",
    "각",
    "\u1100\u1161",
    "\ufb2c",
    "\U0001d160",
    "\u2126",
    "\u212a",
    "\u00bd",
    "\u4e09",
    "\uf96b",
    "\u037e",
    "\u1fef",
    "...",
    "…",
    ".",
    "!",
    "\u201d",
    "•",
    "–",
    "{",
    "}",
    "#",
    "'",
    "\n",
    "\r\n",
    "\x85",
    "\x00",
    " ",
    "\u2000",
    "\u00a0",
    "Lorem Ipsum",
    "lorem ıpſum",
    "lorem",
    "ipsum",
    "JavaScript",
    "the",
    "The",
    "a_b",
    "12",
    "x",
    "WORD",
]
EDGES = {
    "empty": "",
    "one_word": "word",
    "only_punctuation": "...!? -- \u2026 #",
    "only_ascii_punctuation": "., ;",
    "only_newlines": "\n\n\n",
    "only_spaces": " \u3000\u2003\x85\n\t ",
    "crlf": "One line.\r\nAnother one!\r\n\r\nno end",
    "nbsp": "a\u00a0b\u2009c\u3000d \u00a0.",
    "joiners": "\U0001f468\u200d\U0001f469\u200d\U0001f467 family \U0001f44d\U0001f3fd ok",
    "combining": "e\u0301\u0323 e\u0323\u0301 Z\u030d\u0327\u0301\u0316algo \u0301x",
    "cjk": "日本語のテキスト。二つの文。\n三百 ２０ 参",
    "arabic": "هٰذَا نَصٌّ عَرَبِيٌّ، ١٢٣؟\nثاني.",
    "thai": "นี่คือข้อความภาษาไทย ๑๒๓",
    "hebrew": "\u05e9\u05bc\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    "sigma": "ΟΔΥΣΣΕΥΣ Σ ΑΣ. ΑΣ'Α Α\u0301Σ\u0301 ΣΑΣ-ΣΑΣ \u00aaΣ Aʰ\u0345Σ.",
    "one_character": "a" * 10_000,
    "one_word_again_and_again": "spam " * 500,
    "nul": "word\x00word \x00 \x00\n\x00",
    "tie_of_rounding": "\n".join(["A" + "b" * 510] * 3),
    "ties_of_grams": "a b x a b y cc dd x cc dd y " * 3,
    "overlapping_grams": "one two three four five " * 4 + "one two three",
    "grams_and_words_that_join_alike": "ab c a bc " * 6,
    "lorem": "Lorem ipsum, xlorem ipsumx lorem\n ipsum; lorem ıpſum. LOREM ipsum",
    "lorem_in_another_script_only": "lorem ıpſum",
    "caps": "ALL CAPS ǅ ǄX ªA Ⅷ Ⓐ A1 1 _ _A \U0001d400 日A",
    "stop_words_without_words": "# # #",
}


def signals(texts, **parameters):
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    columns = {name: column.to_pylist() for name, column in RedPajamaSignals(**parameters).score(batch).items()}
    told = []
    for i in range(len(texts)):
        row = {name: values[i] for name, values in columns.items()}
        spans = {name: _tuples(value) if isinstance(value, list) else value for name, value in row.items()}
        told.append(spans)
    return told


def _tuples(spans):
    return [(span["start"], span["end"], span["value"]) for span in spans]


def plainly(texts):
    stop_words = frozenset(english_stop_words())
    nothing = dict.fromkeys(SIGNALS)
    return [nothing if text is None else rpv2.signals(text, stop_words) for text in texts]


def assert_same(texts):
    for text, told, wanted in zip(texts, signals(texts), plainly(texts), strict=True):
        differing = {name: (told[name], wanted[name]) for name in SIGNALS if told[name] != wanted[name]}
        assert not differing, text[:200]


@pytest.mark.parametrize("name", EDGES)
def test_edge_cases_have_the_signals_of_the_definitions(name):
    assert_same([EDGES[name]])


@pytest.mark.slow
def test_a_line_of_five_megabytes_has_the_signals_of_the_definitions():
    line = "Wörter und Zahlen 123 ... the END of {it}; \u0301\u0323 ΣΑΣ? " * 90_000
    assert len(line.encode()) > 5_000_000
    assert_same([line])


def test_five_megabytes_of_marks_out_of_order_are_ordered():
    # By class, 220 before 230 (Unicode 3.11, D109). Python's own way takes hours.
    column = pa.array(["x" + "\u0301\u0323" * 1_200_000])
    assert words_of(column, "rpv2_normalized").of_row(0) == ["x" + "\u0323" * 1_200_000 + "\u0301" * 1_200_000]


@pytest.mark.skipif(not WEB.exists(), reason="needs the test data (FDF_TEST_DATA)")
def test_web_pages_in_31_languages_have_the_signals_of_the_definitions():
    with gzip.open(WEB, "rt", encoding="utf-8") as file:
        pages = [json.loads(line)["text"] for _, line in zip(range(400), file, strict=False)]
    assert len(pages) == 400
    assert_same(pages)


pieces = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=("Cs",)), max_size=40).map("".join)


@settings(deadline=None, max_examples=300)
@given(st.lists(pieces, max_size=4))
def test_random_text_has_the_signals_of_the_definitions(texts):
    assert_same(texts)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from("abcd"), max_size=60).map(" ".join))
def test_repetition_of_few_words_is_that_of_the_definitions(text):
    assert_same([text])


@settings(deadline=None, max_examples=300)
@given(st.lists(st.none() | pieces, max_size=6), st.integers(0, 6))
def test_words_and_normal_forms_are_those_of_plain_python(texts, start):
    column = pa.array(texts, pa.string()).slice(start)
    raw, normal = words_of(column, "rpv2"), normalized_of(column).words
    for row, text in enumerate(texts[start:]):
        assert raw.of_row(row) == rpv2.raw_words(text or "")
        assert normal.of_row(row) == rpv2.normalized(text or "").split()
        begin, end = normal.texts.starts[row], normal.texts.ends[row]
        assert bytes(normal.texts.data[begin:end]).decode() == " ".join(normal.of_row(row))


def described(word):
    """Return what analyses tell of a word: characters, hash, flags."""
    flags = {
        HAS_LETTER: any(c.isalpha() for c in word),
        HAS_NO_SYMBOL: any(ord(c) not in symbols() for c in word),
        STARTS_ALNUM: word[0].isalnum(),
        ALL_PUNCTUATION: all(unicodedata.category(c)[0] == "P" for c in word),
        ENDS_SENTENCE: len(word) == 1 and ord(word) in sentence_ends(),
    }
    return len(word), hash_of(word.encode()), sum(flag for flag, holds in flags.items() if holds)


@settings(deadline=None, max_examples=200)
@given(pieces)
def test_words_are_described_as_other_segmentations_describe_theirs(text):
    known_of_all = HAS_LETTER | HAS_NO_SYMBOL | STARTS_ALNUM | ALL_PUNCTUATION | ENDS_SENTENCE
    for tokenizer in ("rpv2", "rpv2_normalized"):
        words = words_of(pa.array([text]), tokenizer)
        told = zip(words.n_chars, words.hashes, words.flags & known_of_all, strict=True)
        assert [tuple(map(int, word)) for word in told] == [described(word) for word in words.of_row(0)]


def test_every_character_is_folded_as_plain_python_does():
    # Beside letters, under a mark, and on each side of a capital sigma.
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    places = "x{0}y{0}\u0323 {0}Σ A{0}Σ AΣ{0} AΣ{0}A "
    texts = ["".join(map(places.format, characters[i : i + 500])) for i in range(0, len(characters), 500)]
    normal = normalized_of(pa.array(texts)).words.texts
    data = normal.data.tobytes()
    for text, begin, end in zip(texts, normal.starts, normal.ends, strict=True):
        assert data[begin:end].decode() == rpv2.normalized(text)


# Fractions whose ninth digit is a 5 and nothing follows, fractions close to one, and any others.
fractions = (
    st.tuples(st.integers(0, 2**12), st.sampled_from([2**n for n in range(1, 13)])).map(lambda f: f[0] / f[1])
    | st.integers(0, 10**9).map(lambda n: (n + 0.5) / 1e8)
    | st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)).map(lambda f: f[0] / f[1])
    | st.floats(0, 6.7e7)
)


@settings(max_examples=2000)
@given(fractions)
def test_numbers_are_rounded_as_python_rounds(value):
    near = np.array([np.nextafter(value, 0), value, np.nextafter(value, np.inf)])
    assert rounded(near).tolist() == [round(number, 8) for number in near.tolist()]


def test_null_text_has_null_signals_and_empty_text_one_span_of_bullets():
    null, empty = signals([None, ""])
    assert set(null.values()) == {None}
    assert empty["rps_lines_start_with_bulletpoint"] == [(0, 0, None)]
    assert empty["rps_lines_num_words"] == []


def test_null_and_empty_texts_do_not_shift_the_lines_of_others():
    texts = ["", None, "• a\nb", "", None, "– c", ""]
    assert [row["rps_lines_start_with_bulletpoint"] for row in signals(texts)] == [
        [(0, 0, None)],
        None,
        [(0, 4, 1.0), (4, 5, 0.0)],
        [(0, 0, None)],
        None,
        [(0, 3, 1.0)],
        [(0, 0, None)],
    ]


def test_every_signal_alone_is_what_it_is_among_all():
    texts = [*EDGES.values(), None]
    whole = signals(texts)
    for name in SIGNALS:
        assert [row[name] for row in signals(texts, signals=(name,))] == [row[name] for row in whole]


def test_rows_dropped_between_two_operators_leave_the_signals_of_the_others():
    texts = [*EDGES.values(), None, "last\none."]
    batch = pa.record_batch({"text": texts})
    keep = np.arange(len(texts)) % 3 != 1
    with sharing():
        RedPajamaSignals().score(batch)
        after = batch.filter(pa.array(keep))
        follow(batch, after, keep)
        narrowed = RedPajamaSignals().score(after)
    alone = RedPajamaSignals().score(after)
    assert {name: column.to_pylist() for name, column in narrowed.items()} == {
        name: column.to_pylist() for name, column in alone.items()
    }


def test_stop_words_are_those_that_are_given(tmp_path):
    text = "Der Regen und der Wind, und der Schnee."
    name = "rps_doc_stop_word_fraction"
    path = tmp_path / "de.txt"
    path.write_text("# German\nder\n\nund \n", encoding="utf-8")
    operator = RedPajamaSignals(signals=(name,), stop_words=str(path))
    assert operator.stop_words == ("der", "und")
    assert operator == RedPajamaSignals(signals=(name,), stop_words=("der", "und"))
    # 10 raw words; "Der" is not "der".
    assert signals([text], signals=(name,), stop_words=str(path))[0][name] == 0.4
    assert signals([text], signals=(name,))[0][name] == 0.0


def test_english_stop_words_are_the_570_of_the_published_list():
    words = english_stop_words()
    assert len(words) == len(set(words)) == 570
    assert {"a", "the", "won't", "uucp", "zero"} <= set(words)
    assert not any(set(word) - set(string.ascii_lowercase + "'") for word in words)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"signals": ()}, "`signals` is empty"),
        ({"signals": ("rps_doc_word_count",) * 2}, "names rps_doc_word_count more than once"),
        (
            {"signals": ("rps_doc_word_counts",)},
            "which is none .did you mean `rps_doc_word_count`",
        ),
        ({"stop_words": "no/such/file.txt"}, "cannot be read .No such file or directory."),
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters, says):
    with pytest.raises(ValueError, match=says):
        RedPajamaSignals(**parameters)


def test_column_that_is_no_text_is_a_plan_error():
    with pytest.raises(PlanError, match="RedPajamaSignals reads text, and the column `text` is int64"):
        RedPajamaSignals().writes(pa.schema({"text": pa.int64()}))
