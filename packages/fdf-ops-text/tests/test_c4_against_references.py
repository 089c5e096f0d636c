"""C4's decisions, sentences and rewriting against plain Python."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from references import datatrove
from references.odd_texts import column_of, many_lines, texts

from fdf_ops_text.analysis.c4 import rewritten
from fdf_ops_text.analysis.texts import Texts
from fdf_ops_text.c4_quality import C4QualityFilter, line_rules
from fdf_ops_text.characters import CLOSING, SENTENCE_END, table
from fdf_ops_text.kernels.c4 import plain_sentences
from fdf_ops_text.remove_lines import RemoveLines

spacy = pytest.importorskip("spacy")
_SENTENCES = st.sampled_from(
    [
        "One is here.",
        "Two words!",
        "And three of them?",
        'He said "four."',
        "She didn't.'",
        "It trails off...",
        "No end\u2026",
        "Mr. Smith met Mrs. Jones at 5 p.m. in the U.S. today.",
        "One.Two three.",
        "One. two) three.",
        "A.  .",
        "a. b. c.",
        "Was it? Yes! (No.) Maybe etc. and so on.",
        "\u4e00\u4e8c\u3002\u4e09\u56db\u3002 \u4e94.",
        "\u0645\u0631\u062d\u0628\u0627\u061f \u0646\u0639\u0645.",
        ".:(( (x.",
        "user@example.com. http://a.bc/d. 3.5. 10.",
    ]
)
_PIECES = st.sampled_from(
    [
        "[1]",
        "[23]",
        "[]",
        "[\u0661\u0662]",
        "[edit]",
        "[Edit]",
        "[citation needed]",
        "[citation  needed]",
        "[1",
        "[[2]]",
        "[3 ]",
        "wo[4]rd.",
        "Mr[5].",
        ":[6])",
        ". [7]",
        "[8] .",
        "javascript",
        "JavaScript.",
        "javas\u017fcript",
        "lorem ipsum",
        "Lorem Ipsum.",
        "lorem\u00a0ipsum",
        "LOREM IPSUM",
        "{",
        "}",
        "Terms of use.",
        "terms of useful",
        "privacy policy",
        "COO\u212aIE POLICY",
        "uses coo\u212aies",
        "use of cookies.",
        "use cookies!",
        "use  cookies",
        "b" * 9,
        "\u00e9" * 8 + ".",
        "'",
        '"',
        ".",
        "...",
        "!",
        "\u3000",
        "\u00a0",
        "\t",
        "  ",
        "word",
        "the",
        "\x00",
        "e\u0301",
    ]
)
_between = st.sampled_from([" ", " ", " ", "", "  ", "\u00a0", "\n", "\n", "\r\n", "\u2028", "\x85", " \n "])
_joined = st.tuples(_SENTENCES | _SENTENCES | _PIECES, _between)
lines = (st.lists(_joined, max_size=8) | st.lists(_joined, min_size=8, max_size=25)).map(
    lambda parts: "".join(piece + gap for piece, gap in parts)
)
c4_texts = lines | lines | many_lines | texts
_SWITCHES = ("citations", "terminal_punct", "lorem_ipsum", "javascript", "curly_bracket", "policy")
line_settings = st.fixed_dictionaries(
    {"preset": st.sampled_from(["datatrove", "t5"])},
    optional={
        "min_words_per_line": st.just(False) | st.integers(0, 5),
        "max_word_length": st.just(False) | st.integers(5, 12),
        **dict.fromkeys(_SWITCHES, st.booleans()),
    },
)


@pytest.fixture(scope="module")
def nlp():
    """Return spaCy with its sentencizer."""
    english = spacy.blank("en")
    english.add_pipe("sentencizer")
    return english


def plainly(text, sentences, chosen, **more):
    held = {name: None if value is False and name not in _SWITCHES else value for name, value in chosen.items()}
    t5 = held.pop("preset") == "t5"
    return datatrove.c4(text, sentences, t5=t5, **held, **more)


@settings(deadline=None, max_examples=200)
@given(c4_texts)
def test_reference_counts_sentences_as_spacys_sentencizer_does(nlp, text):
    for line in (text, *text.splitlines()):
        assert datatrove.spacy_sentences(nlp, line) == max(1, len(list(nlp(line).sents)))


@settings(deadline=None, max_examples=400)
@given(st.lists(st.none() | c4_texts, max_size=4), st.integers(0, 1), line_settings)
@example(["One two [1]three.\nx [edit]\n\n[1]\nEnd of it. [2]\n[3] A b c."], 0, {"preset": "datatrove"})
def test_texts_are_rewritten_as_plain_python_does(rows, skipped, chosen):
    column = column_of(rows, skipped)
    operator = RemoveLines(**chosen)
    told = operator.refine(pa.record_batch({"text": column}))["text"].to_pylist()
    assert told == [None if text is None else plainly(text, lambda _: 1, chosen)[1] for text in rows]
    # The lines' places in the old and new bytes, by which sentences are counted.
    held = rewritten(column, line_rules(operator))
    for number, cut in enumerate(held.lines[1]):
        new = bytes(held.data[held.lines[2][number] : held.lines[3][number]])
        old = bytes(held.texts.data[held.old_start[number] : held.old_end[number]])
        assert (new == old) is (not cut)


@settings(deadline=None, max_examples=400)
@given(st.lists(c4_texts, max_size=4), line_settings, st.sampled_from([False, None, 0, 1, 2, 4, 9]))
def test_c4_decides_as_plain_python_with_any_parameters(nlp, rows, chosen, fewest):
    batch = pa.record_batch({"text": pa.array(rows, pa.string())})
    counts = {"datatrove": lambda line: datatrove.spacy_sentences(nlp, line), "whitespace": datatrove.plain_sentences}
    more = {} if fewest is None else {"min_sentences": None if fewest is False else fewest}
    for tokenizer, sentences in counts.items():
        verdict = C4QualityFilter(tokenizer=tokenizer, min_sentences=fewest, **chosen).verdict(batch)
        told = [verdict.reasons[code - 1] if code else "keep" for code in verdict.codes]
        assert told == [plainly(text, sentences, chosen, **more)[0] for text in rows]


@settings(deadline=None, max_examples=200)
@given(st.lists(c4_texts, max_size=4))
def test_sentences_of_kept_lines_are_counted_as_spacy_does(nlp, rows):
    # The count itself: a text is kept with as many sentences as it has, and dropped where one more is asked for.
    switched = dict.fromkeys(_SWITCHES, False)
    batch = pa.record_batch({"text": pa.array(rows, pa.string())})
    kept = [
        datatrove.c4_lines(text, {**datatrove.C4, "min_words_per_line": None, **switched}, t5=False)[0] for text in rows
    ]
    counts = [sum(datatrove.spacy_sentences(nlp, line) for line in lines) for lines in kept]
    for fewest in {*counts, *(count + 1 for count in counts)}:
        codes = C4QualityFilter(min_sentences=fewest, min_words_per_line=False, **switched).verdict(batch).codes
        assert [bool(code) for code in codes] == [count < fewest for count in counts]


@settings(deadline=None, max_examples=200)
@given(st.lists(c4_texts, max_size=4))
def test_sentences_of_whitespace_words_are_counted_as_documented(rows):
    held = Texts.of(pa.array(rows, pa.string()))
    told = plain_sentences(held.data, held.starts, held.ends, table(), CLOSING, SENTENCE_END)
    assert told.tolist() == [datatrove.plain_sentences(text) for text in rows]


@pytest.mark.parametrize("phrase", ["lorem ipsum", "javascript", *datatrove.POLICIES])
def test_every_character_in_place_of_a_letter_spells_a_phrase_only_where_lower_case_says_so(phrase):
    others = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    alike = [c for c in others if c.lower() in set(phrase) or c in "\u0130\u017f\u0131\u212a\ufb01\u00a0\u2003"]
    rows = [f"Here {phrase[:i]}{c}{phrase[i + 1 :]} is." for i in range(len(phrase)) for c in alike if c.isprintable()]
    operator = C4QualityFilter(min_sentences=1)
    verdict = operator.verdict(pa.record_batch({"text": rows}))
    told = [verdict.reasons[code - 1] if code else "keep" for code in verdict.codes]
    assert told == [datatrove.c4(text, lambda _: 1, min_sentences=1)[0] for text in rows]
    assert len(set(told)) == 2
