from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pytest
from gold import edge_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from references import gopher
from references.texts import ANY, BUSY, EDGES, PROSE, REPETITIVE

from fdf_ops_text.gopher_quality import GopherQualityFilter
from fdf_ops_text.gopher_repetition import GopherRepetitionFilter

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("FDF_TEST_DATA", ROOT / "../shared/data"))
QUALITY = {"dolma": gopher.dolma_quality, "dclm": gopher.dclm_quality, "paper": gopher.paper_quality}
REPETITION = {"dolma": gopher.dolma_repetition, "dclm": gopher.dclm_repetition}

GOLD = Path(__file__).parent / "gold" / "dolma-1.2.1.jsonl.gz"
OF_DOLMA = {
    "keep": {"keep"},
    "word_count": {"gopher_short_doc", "gopher_long_doc"},
    "median_word_length": {"gopher_below_avg_threshold", "gopher_above_avg_threshold"},
    "symbol_to_word_ratio": {"gopher_too_many_symbols"},
    "fraction_of_words_with_alpha_character": {"gopher_below_alpha_threshold"},
    "required_word_count": {"gopher_enough_stop_words"},
    "fraction_of_lines_starting_with_bullet_point": {"gopher_too_many_bullets"},
    "fraction_of_lines_ending_with_ellipsis": {"gopher_too_many_end_ellipsis"},
    "fraction_of_duplicate_lines": {"dup_line_frac"},
    "fraction_of_characters_in_duplicate_lines": {"dup_line_char_frac"},
    **{f"fraction_of_characters_in_most_common_{n}grams": {f"top_{n}_gram"} for n in (2, 3, 4)},
    **{f"fraction_of_characters_in_duplicate_{n}grams": {f"duplicated_{n}_n_grams"} for n in range(5, 11)},
}

# Prose before busy text, so that more than the first rule has a say.
LONG = st.tuples(st.sampled_from(["", PROSE + "\n", PROSE + "\n" + PROSE + "\n"]), BUSY).map("".join)


def reasons(operator, texts):
    judged = operator.verdict(pa.record_batch({"text": pa.array(texts, pa.string())}))
    return [judged.reasons[code - 1] if code else "keep" for code in judged.codes]


def pages(count):
    with gzip.open(DATA / "web_mdn/mdn-00000-of-00016.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [json.loads(line)["text"] for line in lines]
    return random.Random(9).sample(found, count)


@pytest.mark.parametrize("preset", QUALITY)
def test_quality_of_edge_cases_is_decided_as_the_rules_say(preset):
    assert reasons(GopherQualityFilter(preset=preset), EDGES) == [QUALITY[preset](text) for text in EDGES]


@pytest.mark.parametrize("preset", REPETITION)
def test_repetition_of_edge_cases_is_decided_as_the_rules_say(preset):
    assert reasons(GopherRepetitionFilter(preset=preset), EDGES) == [REPETITION[preset](text) for text in EDGES]


@pytest.mark.parametrize("preset", QUALITY)
@settings(deadline=None, max_examples=150)
@given(texts=st.lists(LONG | ANY, max_size=6))
def test_quality_is_decided_as_the_rules_say(preset, texts):
    assert reasons(GopherQualityFilter(preset=preset), texts) == [QUALITY[preset](text) for text in texts]


@pytest.mark.parametrize("preset", REPETITION)
@settings(deadline=None, max_examples=150)
@given(texts=st.lists(REPETITIVE | BUSY | LONG | ANY, max_size=6))
def test_repetition_is_decided_as_the_rules_say(preset, texts):
    assert reasons(GopherRepetitionFilter(preset=preset), texts) == [REPETITION[preset](text) for text in texts]


@pytest.mark.parametrize("preset", QUALITY)
def test_peers_edge_cases_go_for_the_reasons_that_the_rules_name(preset):
    texts = [text for _, text in edge_cases.cases() if len(text) < 1000]
    assert reasons(GopherQualityFilter(preset=preset), texts) == [QUALITY[preset](text) for text in texts]
    if preset in REPETITION:
        assert reasons(GopherRepetitionFilter(preset=preset), texts) == [REPETITION[preset](text) for text in texts]


def test_edge_cases_go_for_the_reasons_of_dolmas_own_tagger():
    texts = {hashlib.sha256(text.encode()).hexdigest(): text for _, text in edge_cases.cases()}
    with gzip.open(GOLD, "rt", encoding="utf-8") as held:
        head, *rows = map(json.loads, held)
    assert head["dolma"] == "1.2.1"
    assert len(rows) > 5000
    held_texts = [texts[row["sha256"]] for row in rows]
    quality = reasons(GopherQualityFilter(preset="dolma"), held_texts)
    repetition = reasons(GopherRepetitionFilter(preset="dolma"), held_texts)
    differ = [
        (row, first, second)
        for row, first, second in zip(rows, quality, repetition, strict=True)
        if (second if first == "keep" else first) not in OF_DOLMA[row["gopher_v1"]]
    ]
    assert differ == []


@pytest.mark.skipif(not (DATA / "web_mdn").exists(), reason="needs the test data (FDF_TEST_DATA)")
@pytest.mark.parametrize("preset", QUALITY)
def test_web_pages_are_decided_as_the_rules_say(preset):
    texts = pages(150)
    expected = [QUALITY[preset](text) for text in texts]
    assert reasons(GopherQualityFilter(preset=preset), texts) == expected
    assert len(set(expected)) > 2, "pages on which no rule has a say show nothing"


@pytest.mark.skipif(not (DATA / "web_mdn").exists(), reason="needs the test data (FDF_TEST_DATA)")
@pytest.mark.parametrize("preset", REPETITION)
def test_repetition_of_web_pages_is_decided_as_the_rules_say(preset):
    texts = [text[:3000] for text in pages(150)]
    expected = [REPETITION[preset](text) for text in texts]
    assert reasons(GopherRepetitionFilter(preset=preset), texts) == expected
    assert len(set(expected)) > 2, "pages on which no rule has a say show nothing"


def alone(preset, rule, **bound):
    """Return the filter with one rule on: all others are switched off."""
    names = [name for name in GopherQualityFilter.PRESETS[preset] if name != "tokenizer"]
    return GopherQualityFilter(preset=preset, **dict.fromkeys(names, False) | {rule: None} | bound)


def words(n, word="word"):
    return " ".join([word] * n)


AT_BOUNDS = [
    # preset, rule, a text at the bound, and one beyond it
    ("dolma", "min_words", words(50), words(49)),
    ("dclm", "min_words", words(50) + " - - -", words(49) + " - - -"),
    ("paper", "min_words", words(50), words(49)),
    ("dolma", "max_words", words(100_000, "w"), words(100_001, "w")),
    ("dolma", "min_word_length", "aa aaa aaaaaaaaa", "aa aa aaa aaaaaaaaa"),
    ("dolma", "max_word_length", "a " + "b" * 10 + " " + "c" * 300, "a " + "b" * 11 + " " + "c" * 300),
    ("dclm", "min_word_length", "aa aaaa", "aa aaa"),
    ("paper", "max_word_length", "b" * 9 + " " + "b" * 11, "b" * 10 + " " + "b" * 11),
    ("dolma", "max_symbols", words(9) + " ##", words(8) + " ##"),
    ("dolma", "max_symbols", words(9) + " ...", words(8) + " a…"),
    ("dclm", "max_symbols", words(8) + " # a", words(7) + " # a"),
    ("dclm", "max_symbols", words(27) + " . . .", words(15) + " # . . ."),
    ("paper", "max_symbols", words(8) + " # …", words(9) + " ## …"),
    ("dolma", "max_bullet_lines", "- a\n" * 9 + "b", "- a\n" * 10 + "* b"),
    ("dolma", "max_bullet_lines", " - a\n" * 9 + "- b", "-\n" * 9 + "-"),
    ("dclm", "max_bullet_lines", " - a\n" * 9 + "b", " ● a\n\n" * 10 + "b\n" + "* a\n" * 10),
    ("dolma", "max_ellipsis_lines", "a…\n" * 3 + "b\n" * 6 + "b...", "a…\n" * 4 + "b\n" * 5 + "b"),
    ("dclm", "max_ellipsis_lines", "a…\n" * 3 + "b\n" * 7, "a . . .\n" * 4 + "b\n" * 6),
    ("dolma", "min_letter_words", "a b c d 1", "a b c d 1 2"),
    ("dclm", "min_letter_words", "a b c d 1", "a b c d 1 2"),
    ("dolma", "min_stop_words", "the the", "the The"),
    ("dclm", "min_stop_words", "the The", "the then"),
    ("paper", "min_stop_words", "the of", "the the"),
]


@pytest.mark.parametrize(("preset", "rule", "kept", "dropped"), AT_BOUNDS)
def test_a_text_at_a_bound_is_kept_and_one_beyond_it_is_dropped(preset, rule, kept, dropped):
    found = reasons(alone(preset, rule), [kept, dropped])
    assert found[0] == "keep"
    assert found[1] != "keep"


def test_stop_words_of_other_languages_are_found_in_lower_case_by_dclm():
    operator = alone("dclm", "min_stop_words", min_stop_words=1, stop_words=("\u00fcber", "\u0438"))
    assert reasons(operator, ["\u00dcBER", "\u0418", "uber"]) == ["keep", "keep", "gopher_enough_stop_words"]
    assert reasons(alone("dolma", "min_stop_words", min_stop_words=1, stop_words=("x",)), ["X"]) != ["keep"]


def test_parameters_take_the_place_of_the_presets_numbers():
    operator = GopherRepetitionFilter(preset="dolma", dup_line_frac=False, dup_line_char_frac=1.0, tokenizer="unicode")
    assert operator.bound("dup_line_frac") is None
    assert operator.bound("dup_line_char_frac") == 1.0
    assert operator.bound("dup_para_frac") is None
    assert GopherRepetitionFilter(preset="dclm").bound("dup_line_char_frac") == 0.2


def test_null_texts_are_kept():
    for preset in QUALITY:
        assert reasons(GopherQualityFilter(preset=preset), [None, "x"])[0] == "keep"
    for preset in REPETITION:
        assert reasons(GopherRepetitionFilter(preset=preset), [None, ""])[0] == "keep"


def test_every_reason_that_is_given_is_declared():
    for preset in QUALITY:
        operator = GopherQualityFilter(preset=preset)
        assert set(operator.rules(pa.array(["x"]))) <= set(operator.reasons)
    for preset in REPETITION:
        operator = GopherRepetitionFilter(preset=preset)
        assert set(operator.rules(pa.array(["x"]))) <= set(operator.reasons)
