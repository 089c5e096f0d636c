"""Words, as kernels and the chunk table find them, against Python's and spaCy's own."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from references.datatrove import SENTENCE_ENDS, SYMBOLS, spacy_words
from references.odd_texts import CHUNKS, MARKS, OTHERS, SPACES, WORDS, column_of, columns, texts

from fdf_ops_text.analysis.chunks import ChunkTable
from fdf_ops_text.analysis.english import native_rules
from fdf_ops_text.analysis.words import words_of
from fdf_ops_text.characters import LINE_BREAK, table
from fdf_ops_text.kernels.gopher import word_marks
from fdf_ops_text.kernels.hashing import hash_of, hashes_of
from fdf_ops_text.kernels.words import (
    ALL_PUNCTUATION,
    ENDS_SENTENCE,
    HAS_LETTER,
    HAS_NO_SYMBOL,
    LETTERS,
    LETTERS_AND_MARK,
    STARTS_ALNUM,
)

spacy = pytest.importorskip("spacy")
BASE, INVERSE = 0x9E3779B97F4A7C15, pow(0x9E3779B97F4A7C15, -1, 2**64)


@pytest.fixture(scope="module")
def nlp():
    """Return a tokenizer that no table under test asks."""
    return spacy.blank("en")


@pytest.fixture(scope="module")
def taught():
    """Return a table that follows spaCy's rules in a kernel, and one that asks spaCy about every chunk."""
    english = spacy.blank("en")
    rules = native_rules(english)
    assert rules is not None
    return ChunkTable(english, rules), ChunkTable(spacy.blank("en"), None)


def flags_of(word):
    """Return the flags of a word by their definitions."""
    flags = {
        HAS_LETTER: any(c.isalpha() for c in word),
        HAS_NO_SYMBOL: any(c not in SYMBOLS for c in word),
        STARTS_ALNUM: word[0].isalnum(),
        ALL_PUNCTUATION: all(unicodedata.category(c)[0] == "P" for c in word),
        ENDS_SENTENCE: len(word) == 1 and word in SENTENCE_ENDS,
    }
    return sum(flag for flag, holds in flags.items() if holds)


def chunk_flags_of(word):
    """Return the flags by which plain chunks go without a look at the table."""
    if word.isascii() and word.isalpha():
        return LETTERS
    if word[:-1].isascii() and word[:-1].isalpha():
        mark = word[-1] in ",:;!?" or (word[-1] == "." and word[-2].islower())
        return LETTERS_AND_MARK if mark else 0
    return 0


def assert_described(words, rows, *, chunks):
    """Compare places, lengths, hashes and flags of all words with those that the words' own texts have."""
    known = HAS_LETTER | HAS_NO_SYMBOL | STARTS_ALNUM | ALL_PUNCTUATION | ENDS_SENTENCE
    for row, text in enumerate(rows):
        data, at = (text or "").encode(), 0
        first, last = int(words.first[row]), int(words.last[row])
        for index, word in zip(range(first, last), words.of_row(row), strict=True):
            start = int(words.at_byte[index] - words.texts.starts[row])
            encoded = word.encode()
            assert data[start : start + len(encoded)] == encoded
            assert not data[at:start].decode().strip(), "only whitespace lies between words"
            at = start + len(encoded)
            assert words.n_chars[index] == len(word)
            assert words.hashes[index] == hash_of(encoded)
            assert words.flags[index] & known == flags_of(word)
            if chunks:
                assert words.flags[index] & (LETTERS | LETTERS_AND_MARK) == chunk_flags_of(word)
        assert not data[at:].decode().strip()


# --- whitespace -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=250)
@given(columns, st.integers(0, 2))
def test_whitespace_words_are_those_of_split_and_described_by_their_definitions(rows, skipped):
    words = words_of(column_of(rows, skipped), "whitespace")
    assert [words.of_row(row) for row in range(len(rows))] == [(text or "").split() for text in rows]
    assert_described(words, rows, chunks=True)


def test_every_character_is_space_or_word_as_python_says():
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    held = ["x".join(characters[i : i + 1000]) for i in range(0, len(characters), 1000)]
    words = words_of(pa.array(held), "whitespace")
    assert [words.of_row(row) for row in range(len(held))] == [text.split() for text in held]
    singly = words_of(
        pa.array([" ".join(characters[i : i + 1000]) for i in range(0, len(characters), 1000)]), "whitespace"
    )
    alone = [c for c in characters if not c.isspace()]
    assert [word for row in range(len(held)) for word in singly.of_row(row)] == alone
    assert (singly.flags & ~np.uint8(LETTERS | LETTERS_AND_MARK)).tolist() == [flags_of(c) for c in alone]
    breaks = [c for c in characters if len(f"a{c}b".splitlines()) == 2]
    assert [c for c in characters if table()[ord(c)] & LINE_BREAK] == breaks


def test_marks_that_end_sentences_are_those_of_spacy():
    assert set(spacy.pipeline.Sentencizer.default_punct_chars) == SENTENCE_ENDS


# --- spaCy ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(columns)
@example([".:(( (x", ": ) and :) :( (", None, "it's Mr. a.m. ."])
@example(["can't, Can't. cannot; Mr, Mr. etc. etc, U.S! a. I'm: IV. x, Wed. wed?"])
def test_datatrove_words_are_the_tokens_of_the_whole_text(nlp, taught, rows):
    wanted = [spacy_words(nlp, text or "") for text in rows]
    chunks = words_of(column_of(rows), "whitespace")
    for cutter in (*taught, None):
        words = words_of(column_of(rows), "datatrove") if cutter is None else cutter.cut(chunks)
        assert [words.of_row(row) for row in range(len(rows))] == wanted
        assert_described(words, rows, chunks=False)


@pytest.mark.parametrize("piece", [*CHUNKS, *MARKS])
def test_piece_between_and_beside_others_is_cut_as_spacy_does(nlp, taught, piece):
    beside = [*MARKS[:20], *MARKS[33:60], *"aZ5é日", "'s", "n't", "...", "…", "km", "€", "U.S.", ":)"]
    rows = [f"{other}{piece} {piece}{other} {other}{piece}{other} {piece}" for other in beside]
    wanted = [spacy_words(nlp, text) for text in rows]
    words = taught[0].cut(words_of(pa.array(rows), "whitespace"))
    assert [words.of_row(row) for row in range(len(rows))] == wanted


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from("._-:;()[]'\"…+$€/\\<>=@#&%!?,*^~|oOxXDPdps3SnTt0158 aZ\u2019¯ಠ—°"), max_size=25).map(
        "".join
    )
)
def test_runs_of_marks_and_parts_of_emoticons_are_cut_as_spacy_does(nlp, taught, text):
    words = taught[0].cut(words_of(pa.array([text]), "whitespace"))
    assert words.of_row(0) == spacy_words(nlp, text)


def test_words_are_the_same_after_the_table_was_emptied(nlp, monkeypatch):
    english = spacy.blank("en")
    cutter = ChunkTable(english, native_rules(english))
    rows = [" ".join(f"{a}{b}" for a in WORDS + OTHERS for b in CHUNKS[i::9]) for i in range(9)]
    wanted = [spacy_words(nlp, text) for text in rows]
    chunks = words_of(pa.array(rows), "whitespace")
    known = []
    for most in (1 << 20, 1 << 20, 1):
        monkeypatch.setattr("fdf_ops_text.analysis.chunks.MOST_ENTRIES", most)
        words = cutter.cut(chunks)
        assert [words.of_row(row) for row in range(len(rows))] == wanted
        known.append(cutter.entries)
    # What was learned is known the second time; the third time all but the exceptions were forgotten, and learned anew.
    assert known[0] == known[1] == known[2]


def test_words_are_the_same_where_chunks_come_in_several_blocks_and_the_table_grows(nlp, monkeypatch):
    monkeypatch.setattr("fdf_ops_text.analysis.chunks.BLOCK", 7)
    monkeypatch.setattr("fdf_ops_text.analysis.chunks.SMALLEST", 2048)
    english = spacy.blank("en")
    cutter = ChunkTable(english, native_rules(english))
    rows = [" ".join(f"{i}.{piece}" for piece in CHUNKS + OTHERS) for i in range(20)]
    words = cutter.cut(words_of(pa.array(rows), "whitespace"))
    assert [words.of_row(row) for row in range(len(rows))] == [spacy_words(nlp, text) for text in rows]


def test_words_beside_every_kind_of_space_are_cut_as_spacy_does(nlp, taught):
    rows = [
        f".:(({space}(x :{space}) it's{space}'s a.{space}. {space}"
        for space in (*SPACES, "  ", " \n", "\u200b", "\x00")
    ]
    for cutter in taught:
        words = cutter.cut(words_of(pa.array(rows), "whitespace"))
        assert [words.of_row(row) for row in range(len(rows))] == [spacy_words(nlp, text) for text in rows]


# --- what Gopher counts of words --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    st.lists(texts, max_size=4), st.lists(st.sampled_from([*WORDS, "…", "é", "...", ":)"]), max_size=20, unique=True)
)
def test_gopher_counts_of_words_are_those_of_plain_python(rows, stop_words):
    for tokenizer in ("whitespace", "datatrove"):
        words = words_of(pa.array(rows, pa.string()), tokenizer)
        held = (words.first, words.last, words.n_chars, words.flags, words.hashes)
        counts = zip(*word_marks(*held, hashes_of(stop_words)), strict=True)
        for row, told in enumerate(counts):
            found = words.of_row(row)
            plain = [word for word in found if set(word) - SYMBOLS]
            letters = sum(any(c.isalpha() for c in word) for word in found)
            wanted = (len(plain), sum(map(len, plain)), letters, len(set(found) & set(stop_words)))
            assert tuple(map(int, told)) == wanted
