"""Operators that share analyses within a batch answer as each does alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.odd_texts import many_lines, texts

from fdf.operator import Filter
from fdf.sharing import follow, sharing
from fdf_ops_text.analysis import words as words_module
from fdf_ops_text.c4_quality import C4QualityFilter
from fdf_ops_text.fineweb_quality import FineWebQualityFilter
from fdf_ops_text.gopher_quality import GopherQualityFilter
from fdf_ops_text.gopher_repetition import GopherRepetitionFilter
from fdf_ops_text.redpajama_signals import RedPajamaSignals
from fdf_ops_text.remove_lines import RemoveLines

LINES = {"min_words_per_line": 1, "terminal_punct": False}
tokenizers = ["whitespace", "datatrove", "rpv2"]


def chain(tokenizer):
    """Return filters, refiners and a score that ask for the same words, lines, marks and rewritten texts."""
    words = {"tokenizer": tokenizer}
    return [
        GopherQualityFilter(**words, min_words=1, max_words=30, min_stop_words=False),
        GopherRepetitionFilter(**words, top_2_gram=0.5, top_3_gram=0.5, top_4_gram=0.5, dup_line_frac=0.5),
        FineWebQualityFilter(**words, line_punct_ratio=0.2),
        C4QualityFilter(**words, min_sentences=2, **LINES),
        RemoveLines(**LINES),
        C4QualityFilter(**words, min_sentences=2, **LINES),
        RemoveLines(preset="t5", terminal_punct=False),
        GopherQualityFilter(**words, min_words=3, min_stop_words=1),
        RedPajamaSignals(signals=("rps_doc_word_count", "rps_doc_frac_chars_top_2gram", "rps_lines_num_words")),
        FineWebQualityFilter(**words),
    ]


def answer(operator, batch):
    """Return what an operator says of each row, and the rewritten column of a refiner."""
    if isinstance(operator, Filter):
        verdict = operator.verdict(batch)
        dropped = np.flatnonzero(verdict.codes)
        return (verdict.codes.tolist(), verdict.reasons, verdict.evidence(dropped).to_pylist()), None
    columns = operator.refine(batch) if isinstance(operator, RemoveLines) else operator.score(batch)
    return {name: column.to_pylist() for name, column in columns.items()}, columns.get("text")


def alone(operator, batch):
    """Return the same of a copy of the batch, outside of any sharing."""
    return answer(operator, pa.record_batch({"text": pa.array(batch["text"].to_pylist(), pa.string())}))[0]


@pytest.mark.parametrize("tokenizer", tokenizers)
@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | many_lines | texts, max_size=8), st.data())
def test_operators_of_a_chain_answer_as_alone_whichever_rows_go(tokenizer, rows, data):
    operators = chain(tokenizer)
    batch = pa.record_batch({"text": pa.array(rows, pa.string())})
    seen = []
    with sharing():
        for operator in operators:
            told, column = answer(operator, batch)
            seen.append((told, operator, batch))
            if column is not None:
                batch = pa.record_batch({"text": column})
            # Rows go after refiners and scores, too: any mask may follow any operator. Most rows stay.
            left = batch.num_rows
            going = data.draw(st.sets(st.integers(0, left - 1), max_size=2), type(operator).__name__) if left else ()
            keep = np.array([row not in going for row in range(left)], bool)
            after = batch.filter(pa.array(keep))
            follow(batch, after, keep)
            batch = after
    for told, operator, judged in seen:
        assert told == alone(operator, judged), type(operator).__name__


@settings(deadline=None, max_examples=60)
@given(st.lists(many_lines | texts, min_size=1, max_size=8), st.data())
def test_words_and_other_analyses_of_rows_that_stayed_are_those_of_the_rows_alone(rows, data):
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    batch = pa.record_batch({"text": pa.array(rows, pa.string())})
    with sharing():
        for tokenizer in tokenizers:
            words_module.words_of(batch["text"], tokenizer)
        after = batch.filter(pa.array(keep))
        follow(batch, after, keep)
        for tokenizer in tokenizers:
            narrowed = words_module.words_of(after["text"], tokenizer)
            found = [narrowed.of_row(row) for row in range(after.num_rows)]
            fresh = words_module.words_of(pa.array(after["text"].to_pylist(), pa.string()), tokenizer)
            assert found == [fresh.of_row(row) for row in range(after.num_rows)]


def test_words_are_found_once_for_all_operators_and_again_for_a_rewritten_column(monkeypatch):
    asked = []
    find = words_module._SEGMENTATIONS["whitespace"]
    monkeypatch.setitem(words_module._SEGMENTATIONS, "whitespace", lambda column: asked.append(column) or find(column))
    batch = pa.record_batch({"text": ["One line is here.\n[1] Another line.", "Two of them.", None, "three"]})
    keep = np.array([True, False, True, True])
    with sharing():
        for operator in chain("whitespace")[:4]:
            operator.verdict(batch)
        after = batch.filter(pa.array(keep))
        follow(batch, after, keep)
        refined = pa.record_batch(RemoveLines(**LINES).refine(after))
        assert len(asked) == 1
        chain("whitespace")[0].verdict(refined)
        assert len(asked) == 2
