from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pytest
from gold import edge_cases
from hypothesis import example, given, settings
from hypothesis import strategies as st
from references import line_rules
from references.texts import ANY, BUSY, EDGES, PROSE

from fdf.sharing import sharing
from fdf_ops_text.analysis import refinedweb as analysis
from fdf_ops_text.c4_paragraph import C4ParagraphFilter
from fdf_ops_text.c4_quality import C4QualityFilter
from fdf_ops_text.refinedweb_lines import RefinedWebLineFilter
from fdf_ops_text.remove_lines import RemoveLines

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("FDF_TEST_DATA", ROOT / "../shared/data"))

PIECES = st.sampled_from(
    [
        "12",
        "1,2.3",
        "3k",
        "4K",
        "5\u212a",
        "6٣",
        "²³",
        "2024",
        "likes",
        "LIKES",
        "li\u212aes",
        "l\u0130kes",
        "views",
        "followers",
        "comments…",
        ">> ",
        "items in cart",
        "ITEMS \u0131n Cart",
        "item\u017f in cart",
        "Read more...",
        "read more ",
        "read more…..",
        "Read more...x",
        "Sign-in",
        "s\u0130gn-\u0131n",
        "\u017fign-in",
        "sign-in",
        "LOUD",
        "Quiet",
        "words of a line",
        "a b c d e f g h",
        "one two three.",
        "end!",
        "[1]",
        "[edit]",
        "[citation needed]",
        "wait...",
        "so…",
        "lorem ipsum",
        "Lorem \u0131psum",
        "java\u017fcript",
        "JavaScript",
        "{",
        "}",
        "Terms of Use",
        "u\u017fe coo\u212aies",
        "cook\u0131e policy",
        "we are at the end of it.",
        '"and more of the words said"',
        "😀",
        "é",
        "ß",
        "_",
        "-",
        "#",
    ]
)
GLUE = st.sampled_from([" "] * 5 + ["\n"] * 4 + ["", "\n\n\n", "\n \n", "\u00a0", "\t", "\r\n", "\x1c", "\u2028"])
LINES = st.lists(st.tuples(PIECES, GLUE), max_size=30).map(lambda parts: "".join(p + g for p, g in parts))
TEXTS = st.lists(LINES | BUSY | ANY, max_size=5)


def rewritten(operator, texts):
    return operator.refine(pa.record_batch({"text": pa.array(texts, pa.string())}))["text"].to_pylist()


def reasons(operator, texts):
    judged = operator.verdict(pa.record_batch({"text": pa.array(texts, pa.string())}))
    return [judged.reasons[code - 1] if code else "keep" for code in judged.codes]


def pages():
    with gzip.open(DATA / "web_mdn/mdn-00000-of-00016.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [json.loads(line)["text"] for line in lines]
    return random.Random(5).sample(found, 200)


@settings(deadline=None, max_examples=600)
@given(texts=TEXTS)
@example(texts=EDGES)
@example(texts=["  123\nfoo bar\n  5 likes ", " \n\nItems in cart\nRead more...\nSign-in\n", "a b\n\n\n\n\nc d"])
def test_lines_go_as_refinedweb_says(texts):
    assert rewritten(RemoveLines(rules="refinedweb"), texts) == [line_rules.refinedweb(text) for text in texts]
    assert reasons(RefinedWebLineFilter(), texts) == [line_rules.refinedweb_reason(text) for text in texts]


@settings(deadline=None, max_examples=600)
@given(texts=TEXTS)
@example(texts=EDGES)
@example(texts=["", "\n\n", "[1]\n\n[edit]\nHere are some five words.  \n x", "a b c d e { f.\nlorem ipsum a b c d."])
def test_lines_go_as_dclm_says_of_c4(texts):
    expected = [line_rules.dclm_c4(text) for text in texts]
    assert rewritten(RemoveLines(preset="dclm"), texts) == [left for _, left in expected]
    operator = C4QualityFilter(preset="dclm", tokenizer="whitespace", min_sentences=False)
    assert reasons(operator, texts) == [reason for reason, _ in expected]


def test_lines_of_peers_edge_cases_go_as_the_rules_say():
    texts = [text for _, text in edge_cases.cases() if len(text) < 20_000]
    assert rewritten(RemoveLines(rules="refinedweb"), texts) == [line_rules.refinedweb(text) for text in texts]
    assert reasons(RefinedWebLineFilter(), texts) == [line_rules.refinedweb_reason(text) for text in texts]
    expected = [line_rules.dclm_c4(text) for text in texts]
    assert rewritten(RemoveLines(preset="dclm"), texts) == [left for _, left in expected]
    operator = C4QualityFilter(preset="dclm", tokenizer="whitespace", min_sentences=False)
    assert reasons(operator, texts) == [reason for reason, _ in expected]


@pytest.mark.skipif(not (DATA / "web_mdn").exists(), reason="needs the test data (FDF_TEST_DATA)")
def test_lines_of_web_pages_go_as_the_rules_say():
    texts = pages()
    assert rewritten(RemoveLines(rules="refinedweb"), texts) == [line_rules.refinedweb(text) for text in texts]
    assert rewritten(RemoveLines(preset="dclm"), texts) == [line_rules.dclm_c4(text)[1] for text in texts]
    found = reasons(RefinedWebLineFilter(), texts)
    assert found == [line_rules.refinedweb_reason(text) for text in texts]
    assert {"keep", "too_many_words_removed"} <= set(found)


def test_sentences_of_dclms_lines_do_not_depend_on_the_whitespace_around_them():
    three = "Here is a sentence of words. And here is another one. So there are three of them."
    for text in (three, f"  {three}  ", f"\n\n \t{three} \t\n\n"):
        assert reasons(C4QualityFilter(preset="dclm"), [text]) == ["keep"]
    assert reasons(C4QualityFilter(preset="dclm"), [" Here is a sentence of words. And another. \n"]) != ["keep"]


def test_text_above_dclms_number_of_characters_is_dropped():
    line = "Seven words stand in this line here. "
    found = reasons(C4QualityFilter(preset="dclm", max_chars=len(line) * 9), [line * 9, line * 10])
    assert found == ["keep", "too_many_chars"]
    assert C4QualityFilter(preset="dclm").bound("max_chars") == 190_000
    assert C4QualityFilter().bound("max_chars") is None


@settings(deadline=None, max_examples=200)
@given(lengths=st.lists(st.integers(0, 12), max_size=8), mark=st.sampled_from("a\u00e9\u65e5\U0001f600"))
def test_paragraphs_are_lines_of_enough_characters(lengths, mark):
    text = "\n".join(mark * length for length in lengths)
    for fewest in (1, 3):
        kept = sum(len(line) >= 6 for line in text.split("\n")) >= fewest
        found = reasons(C4ParagraphFilter(min_paragraphs=fewest, min_paragraph_chars=6), [text])
        assert found == ["keep" if kept else "too_few_paragraphs"]


@pytest.mark.parametrize("lengths", [(200, 200, 200), (200, 200, 199), (400, 400), (0, 200, 0, 300, 201), (1000,), ()])
def test_three_longest_lines_of_mc4_have_200_characters(lengths):
    text = "\n".join("\u00e9" * length for length in lengths)
    expected = "keep" if line_rules.has_paragraphs(text) else "too_few_paragraphs"
    assert reasons(C4ParagraphFilter(), [text]) == [expected]


RULES = {
    "max_line_feeds": ("a b\n\n\nc d", "a b\n\nc d"),
    "max_uppercase": ("AB cde\nABc", "AB cde"),
    "max_numeric": ("12 3\n123\nx 12", "12 3\nx 12"),
    "counters": ("a b\n+1.2k likes!\n12 likes more", "a b\n12 likes more"),
    "min_words_per_line": ("one two\n\none", "one two\n"),
    "phrases": ("a b\n3 items in cart now\nSign-in here\ngo on Read more...", "a b\n3 now\nhere\ngo on"),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_correction_works_alone_and_can_be_switched_off(rule):
    text, expected = RULES[rule]
    off = {name: False for name in RULES if name != rule}
    assert rewritten(RemoveLines(rules="refinedweb", **off), [text]) == [expected]
    assert rewritten(RemoveLines(rules="refinedweb", **off, **{rule: False}), [text]) == [text]


def test_phrases_are_cut_out_of_short_lines_only():
    ten = "Sign-in " + " ".join("abcdefghi")
    eleven = ten + " j"
    kept = rewritten(RemoveLines(rules="refinedweb"), [ten, eleven])
    assert kept == [" ".join("abcdefghi"), eleven]
    assert rewritten(RemoveLines(rules="refinedweb", max_phrase_words=False), [eleven]) == [eleven[8:]]


def test_share_of_removed_words_at_the_bound_is_kept():
    words = " ".join(["word"] * 19)
    assert reasons(RefinedWebLineFilter(), [f"{words}\nHOME", f"{words}\nHOME HOME"]) == [
        "keep",
        "too_many_words_removed",
    ]
    assert reasons(RefinedWebLineFilter(max_words_removed=False), ["some words\nHOME", "HOME"]) == ["keep", "empty"]


def test_filter_and_refiner_share_the_work(monkeypatch):
    calls = []
    kernel = analysis.corrected_lines
    monkeypatch.setattr(analysis, "corrected_lines", lambda *arrays: calls.append(1) or kernel(*arrays))
    batch = pa.record_batch({"text": [PROSE, "HOME"]})
    with sharing():
        RefinedWebLineFilter().verdict(batch)
        RemoveLines(rules="refinedweb").refine(batch)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"max_uppercase": 0.4}, "`rules: c4` has no `max_uppercase`: set `rules: refinedweb`"),
        ({"rules": "refinedweb", "preset": "t5", "policy": False}, "has no `preset`, `policy`: set `rules: c4`"),
        ({"rules": "refinedweb", "max_line_feeds": 0}, "max_line_feeds is 0"),
    ],
)
def test_parameters_of_other_rules_are_refused(parameters, told):
    with pytest.raises(ValueError, match=told):
        RemoveLines(**parameters)


def test_numbers_that_drop_nothing_are_refused():
    with pytest.raises(ValueError, match="leave the filter out"):
        C4ParagraphFilter(min_paragraphs=0)
    with pytest.raises(ValueError, match="max_line_feeds is 0"):
        RefinedWebLineFilter(max_line_feeds=0)


def test_null_texts_are_kept():
    assert rewritten(RemoveLines(rules="refinedweb"), [None, "a b"]) == [None, "a b"]
    assert rewritten(RemoveLines(preset="dclm"), [None, ""]) == [None, ""]
    assert reasons(RefinedWebLineFilter(), [None, ""]) == ["keep", "empty"]
    assert reasons(C4ParagraphFilter(), [None, ""]) == ["keep", "too_few_paragraphs"]
