from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf_ops_text.lines import BULLETS, CLOSING, SENTENCE_ENDS
from fdf_ops_text.quality import STOP_WORDS, TextQualityScorer

ROOT = Path(__file__).parents[3]
WEB = Path(os.environ.get("FDF_TEST_DATA", ROOT / "../shared/data")) / "web_mdn" / "mdn-00000-of-00016.jsonl.gz"

PROSE = (
    "It was to be the last day of that summer, and the children knew it. They had with them a basket of bread "
    "and a little cheese, which they meant to eat by the river when the sun stood high. Nobody spoke of school, "
    "of winter, or of the long road home.\nThe water was cold and clear. "
)


def scores(texts, **parameters):
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    return TextQualityScorer(**parameters).score(batch)["text_quality_score"].to_pylist()


def plainly(text):
    """Follow the docstring with strings and loops."""
    words = text.split()
    if not words:
        return 0.0
    lines = [line.split() for line in text.split("\n") if line.split()]
    n, m = len(words), len(lines)
    mean = sum(map(len, words)) / n
    symbols = max(text.count("#"), text.count("...") + text.count("…")) / n
    bulleted = sum(line[0][0] in BULLETS for line in lines) / m
    trailing = sum(line[-1].endswith(("...", "…")) for line in lines) / m
    lettered = sum(any(c.isalpha() for c in word) for word in words) / n
    known = {_cut(word, ".,;:!?)\"'").lower() for word in words}
    ending = sum(_cut(line[-1], CLOSING)[-1] in SENTENCE_ENDS for line in lines) / m
    score = 1.0
    for part in (
        min(n / 50, 100_000 / n),
        min(mean / 3, 2 - mean / 10),
        2 - symbols / 0.1,
        (1 - bulleted) / 0.1,
        2 - trailing / 0.3,
        lettered / 0.8,
        ending / 0.12,
        len(known & set(STOP_WORDS)) / 2,
    ):
        score *= max(0, min(1, part))
    return score


def _cut(word, marks):
    for _ in range(3):
        if len(word) > 1 and word[-1] in marks:
            word = word[:-1]
    return word


words = st.sampled_from(
    [
        "the",
        "The,",
        "of",
        "BE.",
        "word",
        "#",
        "##x",
        "...",
        "wait....",
        "…",
        "-",
        "•",
        "*x",
        "12",
        "3.5",
        "é",
        "日本。",
        "(end.)",
        'so!"',
    ]
)
texts = st.lists(st.tuples(words, st.sampled_from([" ", " ", " ", "\n", " \n\u3000", "\t"])), max_size=70).map(
    lambda parts: "".join(word + space for word, space in parts)
)


@settings(deadline=None, max_examples=200)
@given(st.lists(texts | st.text(max_size=40), max_size=6))
def test_score_is_the_documented_formula(values):
    assert scores(values) == pytest.approx([plainly(t) for t in values], abs=1e-12)


@pytest.mark.skipif(not WEB.exists(), reason="needs the test data (FDF_TEST_DATA)")
def test_score_is_the_documented_formula_on_web_pages_in_31_languages():
    with gzip.open(WEB, "rt", encoding="utf-8") as lines:
        pages = [json.loads(line)["text"] for _, line in zip(range(400), lines, strict=False)]
    assert np.allclose(scores(pages), [plainly(page) for page in pages], atol=1e-12, rtol=0)


def test_prose_that_keeps_every_rule_scores_one():
    assert scores([PROSE]) == [1.0]


def test_thirty_words_that_keep_the_other_rules_score_six_tenths():
    thirty = " ".join(PROSE.split()[:29]) + " end."
    assert scores([thirty]) == pytest.approx([30 / 50])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no words"),
        ("12 34 56 78 . ; " * 20, "no letters"),
        ("- item of the list that goes on to be long with more\n" * 20, "bullets only"),
        ("that is the way it goes...\n" * 20, "ellipses only"),
        ("# the # of # and # that # have #" * 20, "symbols"),
        ("menu home login search about contact\n" * 20, "no sentence and no stop word"),
    ],
)
def test_text_that_breaks_a_rule_altogether_scores_zero(text, why):
    assert scores([text]) == [0.0], why


def test_stop_words_can_be_left_out_for_other_languages():
    german = "Der Regen fiel leise auf die Felder und niemand sprach ein Wort. " * 10
    assert scores([german]) == [0.0]
    assert scores([german], stop_words=False) == [1.0]


def test_null_text_has_a_null_score():
    assert scores([None, PROSE]) == [None, 1.0]
