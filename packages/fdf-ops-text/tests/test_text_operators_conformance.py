from __future__ import annotations

import pyarrow as pa

from fdf.testing.operators import OperatorConformance
from fdf_ops_text.normalize import NormalizeText
from fdf_ops_text.quality import TextQualityScorer
from fdf_ops_text.statistics import TextStatistics
from fdf_ops_text.word_count import WordCountFilter

TEXTS = [
    "To be, or not to be: that is the question.\n- a bullet\n• another\nand it trails off...",
    None,
    "",
    " \u3000\u2003\x85\n\t ",
    "# heading\n\nCafe\u0301 with milk\u2026\nein Satz ohne Ende",
    "日本語のテキスト。二つの文。",
    "end",
    "...\n…\n.... # # #",
    "\U0001d4d0 \U0001f600 \u0301",
    "word\x00word\x07 tab\tend \r\n\r\n\r\n\r\n \u00a0x",
]
ROWS = pa.record_batch({"text": TEXTS, "other": [t and t[::-1] for t in TEXTS]})


class TestTextStatistics(OperatorConformance):
    operator = TextStatistics()
    batch = ROWS


class TestTextStatisticsOfLargeStrings(OperatorConformance):
    operator = TextStatistics(field="other", prefix="other_")
    batch = pa.record_batch({"other": ROWS["other"].cast(pa.large_string())})


class TestTextStatisticsOfStringViews(OperatorConformance):
    operator = TextStatistics()
    batch = pa.record_batch({"text": ROWS["text"].cast(pa.string_view())})


class TestTextQualityScorer(OperatorConformance):
    operator = TextQualityScorer()
    batch = ROWS


class TestTextQualityScorerOfDictionaries(OperatorConformance):
    operator = TextQualityScorer(stop_words=False)
    batch = pa.record_batch({"text": ROWS["text"].dictionary_encode()})


class TestWordCountFilter(OperatorConformance):
    operator = WordCountFilter(min_words=2, max_words=10)
    batch = ROWS


class TestNormalizeText(OperatorConformance):
    operator = NormalizeText()
    batch = ROWS


class TestNormalizeTextCompatibly(OperatorConformance):
    operator = NormalizeText(unicode="NFKC", whitespace="keep", control="keep")
    batch = ROWS


class TestNormalizeTextOfDictionaries(OperatorConformance):
    operator = NormalizeText()
    batch = pa.record_batch({"text": ROWS["text"].dictionary_encode()})
