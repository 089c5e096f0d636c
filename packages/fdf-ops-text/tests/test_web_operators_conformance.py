from __future__ import annotations

import pyarrow as pa
import pytest

from fdf.operator import Filter, Refiner, Score
from fdf.testing.operators import OperatorConformance
from fdf_ops_text.bad_words import BadWordsFilter
from fdf_ops_text.fix_unicode import FixUnicode
from fdf_ops_text.language_filter import LanguageFilter
from fdf_ops_text.language_scorer import LanguageScorer
from fdf_ops_text.tokens import TokenCounter
from fdf_ops_text.url.filter import URLFilter

TEXTS = [
    "To be, or not to be: that is the question.\nl\u2019été",
    None,
    "",
    " \u3000\x85\n\t ",
    "The cafÃ© of “quotes” &amp; ﬁne things\r\n",
    "日本語のテキスト。バカ。",
    "damn that\x00 thing",
    "\U0001d4d0 \U0001f600 \u0301",
]
URLS = [
    "https://www.bbc.co.uk/news",
    None,
    "",
    "http://x.org/free/cam",
    "https://münchen.de/bad",
    "https://en.wikipedia.org/wiki/A",
    "http://10.0.0.1/sexy",
    "no url",
]
ROWS = pa.record_batch({"text": TEXTS, "url": URLS, "language": ["en", None, None, "ja", "en", "ja", "en", "xx"]})
BLOCK = URLFilter(domains=("bbc.co.uk",), hard_words=("bad",), soft_words=("free", "cam"), subwords=("sexy",))
SWEAR = BadWordsFilter(words={"en": ("damn",), "ja": ("バカ",)}, language_field="language", keep_fraction=0.1)


class TestURLFilter(OperatorConformance):
    operator = BLOCK
    batch = ROWS


class TestURLFilterAsDatatroveOfDictionaries(OperatorConformance):
    operator = URLFilter(preset="datatrove", domains=("bbc.co.uk",), urls=("no url",))
    batch = pa.record_batch({"url": ROWS["url"].dictionary_encode()})


class TestBadWordsFilter(OperatorConformance):
    operator = SWEAR
    batch = ROWS


class TestBadWordsFilterOfLargeStrings(OperatorConformance):
    operator = BadWordsFilter(words={"en": ("thing",)})
    batch = pa.record_batch({"text": ROWS["text"].cast(pa.large_string())})


class TestFixUnicode(OperatorConformance):
    operator = FixUnicode()
    batch = ROWS


class TestFixUnicodeOfStringViews(OperatorConformance):
    operator = FixUnicode(normalization="NFKC")
    batch = pa.record_batch({"text": ROWS["text"].cast(pa.string_view())})


class TestLanguageScorer(OperatorConformance):
    operator = LanguageScorer()
    batch = ROWS


class TestLanguageScorerOfDictionaries(OperatorConformance):
    operator = LanguageScorer(prefix="x_")
    batch = pa.record_batch({"text": ROWS["text"].dictionary_encode()})


class TestLanguageFilter(OperatorConformance):
    operator = LanguageFilter(languages=("en", "ja"), min_scores={"ja": 0.9})
    batch = pa.record_batch(
        {
            "language": ["en", "ja", "de", None, None, "en"],
            "language_score": [0.65, 0.8, 0.99, None, 0.0, float("nan")],
        }
    )


class TestLanguageFilterOfDictionaries(OperatorConformance):
    operator = LanguageFilter()
    batch = pa.record_batch(
        {
            "language": pa.array(["en", "de", "en", None]).dictionary_encode(),
            "language_score": pa.array([0.7, 0.1, None, None], pa.float32()),
        }
    )


class TestTokenCounter(OperatorConformance):
    operator = TokenCounter()
    batch = ROWS


class TestTokenCounterOfStringViews(OperatorConformance):
    operator = TokenCounter(column="n")
    batch = pa.record_batch({"text": ROWS["text"].cast(pa.string_view())})


def claimed_to_be_text(values: list[bytes | None], kind: pa.DataType) -> pa.Array:
    """Return bytes under a type of text, as an untrusted file hands them over."""
    binary = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}[kind]
    held = pa.array(values, binary)
    return pa.Array.from_buffers(kind, len(held), held.buffers())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), "dictionary"], ids=str)
@pytest.mark.parametrize(
    "operator",
    [BLOCK, BadWordsFilter(words={"en": ("x",)}), FixUnicode(), LanguageScorer(), TokenCounter()],
    ids=lambda operator: type(operator).__name__,
)
def test_bytes_that_are_no_utf8_raise_alone(operator, kind):
    column = claimed_to_be_text([b"fine", b"caf\xe9 \xff", None, b"x"], pa.string() if kind == "dictionary" else kind)
    if kind == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), column)
    batch = pa.record_batch({operator.field: column})
    verb = getattr(operator, {Filter: "verdict", Refiner: "refine", Score: "score"}[type(operator).__mro__[1]])
    with pytest.raises(ValueError, match="UTF8"):
        verb(batch)
    for row in (0, 2, 3):
        verb(batch.slice(row, 1))
    with pytest.raises(ValueError, match="UTF8"):
        verb(batch.slice(1, 1))
