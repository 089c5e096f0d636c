from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf_ops_text.normalize import NormalizeText

SPACES = "".join(c for c in map(chr, range(0x110000)) if c.isspace())
# Cs cannot be in UTF-8, and Cn may have become a character in a later Unicode than this Python's.
characters = st.characters(exclude_categories=("Cs", "Cn"))
texts = st.text(
    st.sampled_from(SPACES + "\x00\x07\x1f\x7f\u0080ae\u0301\u0308\u212b\ufb01\u2000") | characters, max_size=30
)


def normalize(text, **parameters):
    batch = pa.record_batch({"text": [text, None]})
    done, null = NormalizeText(**parameters).refine(batch)["text"].to_pylist()
    assert null is None
    return done


def plainly(text):
    """Do what the docstring says, with the standard library."""
    text = "".join(c for c in text if unicodedata.category(c) != "Cc" or c in "\t\n\r\x85")
    text = unicodedata.normalize("NFC", text)
    text = re.sub("\r\n|[\r\x85\u2028\u2029]", "\n", text)
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip(" \n")


@settings(deadline=None)
@given(texts)
def test_text_is_normalized_as_documented(text):
    assert normalize(text) == plainly(text)


@settings(deadline=None)
@given(texts)
def test_normalizing_twice_changes_nothing_more(text):
    once = normalize(text)
    assert normalize(once) == once


@settings(deadline=None)
@given(texts, st.sampled_from(["NFC", "NFKC", "NFD", "NFKD"]))
def test_unicode_form_is_that_of_the_standard_library(text, form):
    assert normalize(text, unicode=form, whitespace="keep", control="keep") == unicodedata.normalize(form, text)


@settings(deadline=None)
@given(texts)
def test_everything_switched_off_leaves_text_alone(text):
    assert normalize(text, unicode="none", whitespace="keep", control="keep") == text


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_type_of_the_column_stays(kind):
    batch = pa.record_batch({"text": pa.array(["a  b", None], kind)})
    done = NormalizeText().refine(batch)["text"]
    assert (done.type, done.to_pylist()) == (kind, ["a b", None])
