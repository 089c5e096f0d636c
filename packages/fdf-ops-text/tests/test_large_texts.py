"""Texts that quadratic algorithms would never be done with: one line of megabytes, one character again and again."""

from __future__ import annotations

import pyarrow as pa
import pytest
from references import datatrove

from fdf.sharing import sharing
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.c4_quality import C4QualityFilter
from fdf_ops_text.fineweb_quality import FineWebQualityFilter
from fdf_ops_text.gopher_quality import GopherQualityFilter
from fdf_ops_text.gopher_repetition import GopherRepetitionFilter
from fdf_ops_text.remove_lines import RemoveLines

_LINE = "Wörter and words of 1,234 kinds: it's the (first) of many… 日本語 x@y.zz! "


def judged(text, tokenizer):
    """Return each filter's decision and the rewritten text. A quadratic algorithm runs into the test's time limit."""
    operators = {
        "quality": GopherQualityFilter(tokenizer=tokenizer),
        "repetition": GopherRepetitionFilter(tokenizer=tokenizer),
        "fineweb": FineWebQualityFilter(tokenizer=tokenizer),
        "c4": C4QualityFilter(tokenizer=tokenizer),
    }
    batch = pa.record_batch({"text": [text]})
    told = {}
    with sharing():
        for name, operator in operators.items():
            verdict = operator.verdict(batch)
            told[name] = verdict.reasons[verdict.codes[0] - 1] if verdict.codes[0] else "keep"
        told["rewritten"] = RemoveLines().refine(batch)["text"].to_pylist()[0]
        words = words_of(batch["text"], tokenizer).of_row(0)
    return told, words


def plainly(text, words, sentences):
    c4, rewritten = datatrove.c4(text, sentences)
    return {
        "quality": datatrove.gopher_quality(text, words),
        "repetition": datatrove.gopher_repetition(text, words),
        "fineweb": datatrove.fineweb(text, words),
        "c4": c4,
        "rewritten": rewritten,
    }


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        (_LINE * 66_000, "whitespace"),
        (_LINE * 66_000, "datatrove"),
        ("a" * 5_000_000, "whitespace"),
        ("a" * 5_000_000, "datatrove"),
        ("日" * 1_700_000, "datatrove"),
        ("a " * 1_000_000, "datatrove"),
        ("." * 5_000_000, "whitespace"),
        ("." * 1_000_000, "datatrove"),
        # spaCy joins some of these pairs to exceptions, and itself takes hours for such a run.
        ("'" * 1_000_000, "datatrove"),
        ("\u2019" * 1_000_000, "datatrove"),
        ("):" * 500_000, "datatrove"),
        (" " * 5_000_000, "datatrove"),
        ("\n" * 2_000_000, "datatrove"),
        ("\x00" * 5_000_000, "whitespace"),
        ("[" * 5_000_000, "whitespace"),
        ("[1" * 2_500_000, "whitespace"),
    ],
    ids=lambda value: value if value in ("whitespace", "datatrove") else f"{value[:3]!r}x{len(value)}",
)
def test_large_text_is_judged_as_plain_python_does(text, tokenizer):
    told, words = judged(text, tokenizer)
    if tokenizer == "whitespace":
        assert words == text.split()
    else:
        assert "".join(words) == "".join(text.split()), "spaCy takes nothing away"
    # To spaCy, what ends a sentence in these texts is the exclamation mark before another word.
    sentences = datatrove.plain_sentences if tokenizer == "whitespace" else lambda line: 1 + line.count("! ")
    assert told == plainly(text, words, sentences)
