# ruff: noqa: RUF001 (characters that look like others are what these tests are about)
from __future__ import annotations

import gzip
import json
import os
import sys
import unicodedata
from pathlib import Path

import ftfy
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.errors import MissingDependency
from fdf_ops_text.fix_unicode import FixUnicode

DATA = Path(os.environ.get("FDF_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))
WEB = DATA / "web_mdn" / "mdn-00000-of-00016.jsonl.gz"

FINEWEB = {
    "fix_latin_ligatures": False,
    "fix_character_width": False,
    "uncurl_quotes": False,
    "fix_line_breaks": False,
    "normalization": None,
}
SWITCHES = [
    {},
    FINEWEB,
    {"normalization": "NFKC", "unescape_html": True},
    {"normalization": "NFD", "unescape_html": False, "fix_encoding": False, "fix_c1_controls": False},
    {"normalization": None, "remove_control_chars": False, "remove_terminal_escapes": False},
    {"restore_byte_a0": False, "replace_lossy_sequences": False, "decode_inconsistent_utf8": False},
    {"max_decode_length": 4},
]
FINEWEB_OPERATOR = FixUnicode(**FINEWEB, unescape_html=False, fix_c1_controls=False)
OPERATORS = [FixUnicode(**switches) for switches in SWITCHES]

# Ordinary text, the same text decoded wrongly in the ways that ftfy knows, and the characters of every other switch.
plain = [
    "l’été",
    "naïve — “quoted”",
    "日本語",
    "Привет, мир",
    "œuvre",
    "œ\n",
    "5 €",
    "à la",
    "Ã la",
    "ÃŸ",
    "ñ",
    "한국어",
    "‘",
]
ENCODINGS = ("latin-1", "windows-1252", "windows-1251", "macroman", "cp437", "windows-1250")
garbled = [text.encode().decode(encoding, "replace") for text in plain for encoding in ENCODINGS]
pieces = st.sampled_from(
    [
        *plain,
        *garbled,
        *(
            "&amp;",
            "&lt;",
            "&nbsp",
            "&#x2019;",
            "<",
            "\x1b[31m",
            "\x00",
            "\ufeff",
            "\x85",
            "\u2028",
            "\r\n",
            "\r",
            "\n",
        ),
        *(
            "ﬁ",
            "ＬＯＵＤ",
            "\u3000",
            "ﾀ",
            "e\u0301",
            "\u0300",
            "Å",
            "ĳ",
            "\x80",
            "\x9d",
            "\xa0",
            "\ufffd",
            " ",
            "word",
            "A",
        ),
        *("œ", "°", "Â", "Ã", "Ø", "Ù", "'", "“", "’", "\u02bc", "\u0344", "\u1100\u1161"),
    ]
)
texts = st.lists(pieces | st.text(max_size=3), max_size=10).map("".join)


def fixed(operator, values):
    batch = pa.record_batch({"text": pa.array(values, pa.string())})
    return operator.refine(batch).get("text", batch["text"]).to_pylist()


@pytest.mark.parametrize("operator", OPERATORS, ids=[str(number) for number in range(len(OPERATORS))])
@settings(deadline=None, max_examples=150)
@given(st.lists(st.none() | texts, max_size=6))
def test_result_is_that_of_ftfy(operator, values):
    switches = {name: value for name, value in operator.params().items() if name != "field"}
    config = ftfy.TextFixerConfig(**switches)
    assert fixed(operator, values) == [v if v is None else ftfy.fix_text(v, config) for v in values]


# Every character that ftfy's test for mojibake names, and what stands beside them in its patterns.
suspects = [*sorted({c for c in ftfy.badness.BADNESS_RE.pattern if ord(c) > 127}), *"aZ9_ .,?\n\x0b\u2003é日"]


@settings(deadline=None, max_examples=1000)
@given(st.text(st.sampled_from(suspects), min_size=1, max_size=6))
def test_whatever_ftfy_takes_for_mojibake_is_shown_to_it(text):
    seen = FINEWEB_OPERATOR._may_change(pa.array([text], pa.large_string())).tolist()
    assert seen == [True] or not ftfy.badness.is_bad(text)


def test_line_breaks_at_the_place_where_ftfy_cuts_a_long_line():
    operator = FixUnicode(max_decode_length=4)
    assert fixed(operator, ["abc\r\ndef", "ab\r\n"]) == ["abc\n\ndef", "ab\n"]
    assert ftfy.fix_text("abc\r\ndef", max_decode_length=4) == "abc\n\ndef"


def test_text_that_cannot_change_is_not_shown_to_ftfy():
    operator = FixUnicode()
    operator._load().fix = None  # calling it would raise
    values = [
        "plain",
        "R&D at a < b & c",
        "naïve café",
        "Привет, мир",
        "日本語。",
        "a\tb\n",
        None,
        "",
        "“quoted” l’été\r\n",
    ]
    assert fixed(operator, values) == [*values[:-1], '"quoted" l\'été\n']


@pytest.mark.skipif(not WEB.exists(), reason="needs the test data (FDF_TEST_DATA)")
@pytest.mark.parametrize("operator", OPERATORS[:2], ids=["ftfy", "fineweb"])
def test_web_pages_in_31_languages_come_out_as_from_ftfy(operator):
    with gzip.open(WEB, "rt", encoding="utf-8") as lines:
        pages = [json.loads(line)["text"][:4000] for _, line in zip(range(400), lines, strict=False)]
    pages += [page[:500].encode().decode("windows-1252", "replace") for page in pages[::8]]
    switches = {name: value for name, value in operator.params().items() if name != "field"}
    config = ftfy.TextFixerConfig(**switches)
    assert fixed(operator, pages) == [ftfy.fix_text(page, config) for page in pages]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_every_character_that_python_normalizes_is_seen(form):
    """Arrow and Python each carry a version of Unicode: here, where one could know less than the other."""
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    changes = [chr(c) for c in codes if unicodedata.normalize(form, chr(c)) != chr(c)]
    column = pa.array(changes, pa.large_string())
    assert not pc.any(pc.equal(pc.utf8_normalize(column, form=form), column)).as_py()


def test_pattern_of_a_later_ftfy_that_the_engine_refuses_lets_nothing_through(monkeypatch):
    import re

    monkeypatch.setattr(ftfy.badness, "BADNESS_RE", re.compile("(?<=a)é", re.VERBOSE))
    operator = FixUnicode(**FINEWEB)
    assert operator._may_change(pa.array(["é", "ascii"], pa.large_string())).tolist() == [True, False]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_type_of_the_column_stays(kind):
    batch = pa.record_batch({"text": pa.array(["Ã©", None, "Ã©", "x"]).cast(kind)})
    done = FixUnicode().refine(batch)["text"]
    assert (done.type, done.to_pylist()) == (kind, ["é", None, "é", "x"])


def test_missing_library_is_told_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(MissingDependency, match=r'FixUnicode.*ftfy[^$]*pip install "fdf-ops-text\[ftfy\]"'):
        FixUnicode().refine(pa.record_batch({"text": ["x"]}))
