"""The decisions that other tools took on our edge cases, kept beside the texts' generator."""

import gzip
import hashlib
import importlib.util
import json
from pathlib import Path

import pytest

GOLD = Path(__file__).parent / "gold"
REASONS = {
    "gopher_quality": {
        "gopher_short_doc",
        "gopher_long_doc",
        "gopher_below_avg_threshold",
        "gopher_above_avg_threshold",
        "gopher_too_many_hashes",
        "gopher_too_many_ellipsis",
        "gopher_too_many_bullets",
        "gopher_too_many_end_ellipsis",
        "gopher_below_alpha_threshold",
        "gopher_enough_stop_words",
    },
    "gopher_repetition": {
        "empty",
        "dup_para_frac",
        "dup_para_char_frac",
        "dup_line_frac",
        "dup_line_char_frac",
        *(f"top_{n}_gram" for n in (2, 3, 4)),
        *(f"duplicated_{n}_n_grams" for n in (5, 6, 7, 8, 9, 10)),
    },
    "c4": {"lorem_ipsum", "curly_bracket", "too_few_sentences"},
    "c4_no_terminal": {"lorem_ipsum", "curly_bracket", "too_few_sentences"},
    "fineweb": {"empty", "line_punct_ratio", "short_line_ratio", "char_dup_ratio", "list_ratio"},
}


@pytest.fixture(scope="module")
def texts():
    spec = importlib.util.spec_from_file_location("edge_cases", GOLD / "edge_cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {hashlib.sha256(text.encode()).hexdigest(): text for _, text in module.cases()}


@pytest.fixture(scope="module")
def decisions():
    with gzip.open(GOLD / "datatrove-0.10.1.jsonl.gz", "rt", encoding="utf-8") as held:
        head, *rows = map(json.loads, held)
    assert head["datatrove"] == "0.10.1"
    return {row["sha256"]: row for row in rows}


def test_there_is_a_decision_for_every_text_and_none_beside(texts, decisions):
    assert decisions.keys() == texts.keys()
    assert len(texts) > 2400


@pytest.mark.parametrize("name", REASONS)
def test_every_reason_of_a_filter_decides_on_some_text(decisions, name):
    assert {row[name] for row in decisions.values()} == REASONS[name] | {"keep"}


def test_texts_that_c4_keeps_have_a_digest_and_those_it_drops_have_none(decisions):
    for name in ("c4", "c4_no_terminal"):
        assert all((row[name] == "keep") == (row[f"{name}_text"] is not None) for row in decisions.values())
