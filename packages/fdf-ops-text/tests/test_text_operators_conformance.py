from __future__ import annotations

import pyarrow as pa

from fdf.testing.operators import OperatorConformance
from fdf_ops_text.c4_paragraph import C4ParagraphFilter
from fdf_ops_text.c4_quality import C4QualityFilter
from fdf_ops_text.fineweb_quality import FineWebQualityFilter
from fdf_ops_text.gopher_quality import GopherQualityFilter
from fdf_ops_text.gopher_repetition import GopherRepetitionFilter
from fdf_ops_text.normalize import NormalizeText
from fdf_ops_text.quality import TextQualityScorer
from fdf_ops_text.redpajama_signals import RedPajamaSignals
from fdf_ops_text.refinedweb_lines import RefinedWebLineFilter
from fdf_ops_text.remove_lines import RemoveLines
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


class TestGopherQualityFilter(OperatorConformance):
    operator = GopherQualityFilter(min_words=2, min_stop_words=1)
    batch = ROWS


class TestGopherQualityFilterOfWhitespaceWords(OperatorConformance):
    operator = GopherQualityFilter(tokenizer="whitespace", field="other", min_words=False)
    batch = pa.record_batch({"other": ROWS["other"].cast(pa.large_string())})


class TestGopherRepetitionFilter(OperatorConformance):
    operator = GopherRepetitionFilter()
    batch = ROWS


class TestGopherRepetitionFilterOfStringViews(OperatorConformance):
    operator = GopherRepetitionFilter(tokenizer="whitespace", top_2_gram=0.6)
    batch = pa.record_batch({"text": ROWS["text"].cast(pa.string_view())})


class TestC4QualityFilter(OperatorConformance):
    operator = C4QualityFilter(min_sentences=1, min_words_per_line=1)
    batch = ROWS


class TestC4QualityFilterOfT5(OperatorConformance):
    operator = C4QualityFilter(preset="t5", tokenizer="whitespace", terminal_punct=False)
    batch = pa.record_batch({"text": ROWS["text"].dictionary_encode()})


class TestFineWebQualityFilter(OperatorConformance):
    operator = FineWebQualityFilter()
    batch = ROWS


class TestFineWebQualityFilterOfThePaper(OperatorConformance):
    operator = FineWebQualityFilter(preset="paper", tokenizer="whitespace", line_punct_exclude_zero=True)
    batch = ROWS


class TestRemoveLines(OperatorConformance):
    operator = RemoveLines(min_words_per_line=1)
    batch = ROWS


class TestRemoveLinesOfLargeStrings(OperatorConformance):
    operator = RemoveLines(preset="t5", terminal_punct=False)
    batch = pa.record_batch({"text": ROWS["text"].cast(pa.large_string())})


class TestRedPajamaSignals(OperatorConformance):
    operator = RedPajamaSignals()
    batch = ROWS


class TestRedPajamaSignalsOfLargeStrings(OperatorConformance):
    operator = RedPajamaSignals(
        field="other",
        signals=("rps_lines_start_with_bulletpoint", "rps_doc_stop_word_fraction", "rps_doc_frac_chars_top_3gram"),
        stop_words=("eht",),
    )
    batch = pa.record_batch({"other": ROWS["other"].cast(pa.large_string())})


class TestGopherQualityFilterOfRedPajamaWords(OperatorConformance):
    operator = GopherQualityFilter(tokenizer="rpv2", min_words=2, min_stop_words=1)
    batch = ROWS


class TestGopherQualityFilterOfDolma(OperatorConformance):
    operator = GopherQualityFilter(preset="dolma", min_words=2, min_stop_words=1, max_word_length=8)
    batch = ROWS


class TestGopherQualityFilterOfDclm(OperatorConformance):
    operator = GopherQualityFilter(preset="dclm", min_words=2, min_stop_words=False)
    batch = pa.record_batch({"text": ROWS["text"].dictionary_encode()})


class TestGopherQualityFilterOfThePaper(OperatorConformance):
    operator = GopherQualityFilter(preset="paper", tokenizer="unicode", min_words=2, min_stop_words=1)
    batch = ROWS


class TestGopherRepetitionFilterOfDolma(OperatorConformance):
    operator = GopherRepetitionFilter(preset="dolma", top_2_gram=0.5)
    batch = ROWS


class TestGopherRepetitionFilterOfDclm(OperatorConformance):
    operator = GopherRepetitionFilter(preset="dclm")
    batch = pa.record_batch({"text": ROWS["text"].cast(pa.string_view())})


class TestC4QualityFilterOfDclm(OperatorConformance):
    operator = C4QualityFilter(preset="dclm", min_sentences=1, min_words_per_line=1, max_chars=50)
    batch = ROWS


class TestC4ParagraphFilter(OperatorConformance):
    operator = C4ParagraphFilter(min_paragraphs=2, min_paragraph_chars=5)
    batch = ROWS


class TestRefinedWebLineFilter(OperatorConformance):
    operator = RefinedWebLineFilter()
    batch = ROWS


class TestRefinedWebLineFilterOfUnicodeWords(OperatorConformance):
    operator = RefinedWebLineFilter(tokenizer="dclm", max_words_removed=0.5, counters=False)
    batch = pa.record_batch({"text": ROWS["text"].cast(pa.large_string())})


class TestRemoveLinesOfDclm(OperatorConformance):
    operator = RemoveLines(preset="dclm", min_words_per_line=1)
    batch = ROWS


class TestRemoveLinesByRefinedWeb(OperatorConformance):
    operator = RemoveLines(rules="refinedweb", max_uppercase=0.3)
    batch = pa.record_batch({"text": ROWS["text"].dictionary_encode()})
