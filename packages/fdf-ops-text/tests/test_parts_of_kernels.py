"""What kernels are made of - hashes, tables, reads and writes of eight bytes - against plain Python."""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.odd_texts import CHUNKS, MARKS, OTHERS, WORDS

from fdf_ops_text.analysis.english import native_rules
from fdf_ops_text.kernels import blocks, characters, hashing
from fdf_ops_text.kernels.addresses import UNKNOWN
from fdf_ops_text.kernels.bytes import WIDTH, copied, eight_bytes, put_eight_bytes
from fdf_ops_text.kernels.english import JOINED, cut_new
from fdf_ops_text.kernels.hashing import BASE, INVERSE, hash_of, hashes_of, mixed_of
from fdf_ops_text.kernels.hashtable import counted_firsts, table_size

WHOLE = 2**64


@numba.njit
def _hashes(data):
    """Return the hash of bytes, of all but the last, that again by taking the last one away, and the first mixed."""
    value, before = np.uint64(0), np.uint64(0)
    for byte in data:
        before = value
        value = hashing.appended(value, byte)
    back = hashing.without_last(value, data[-1]) if len(data) else value
    return value, before, back, hashing.mixed(value)


@numba.njit
def _mixed(values):
    return np.array([hashing.mixed(value) for value in values])


@numba.njit
def _hash_between(data, start, end):
    return hashing.hash_between(data, start, end)


@numba.njit
def _copy(data, at, size, out, to):
    copied(data, at, size, out, to)


@numba.njit
def _copy_by_blocks(data, at, size, out, to):
    blocks.copied(data, at, size, out, to)


@numba.njit
def _found(data, at, byte, count):
    """Return what is found in a block, and how its bits are counted."""
    base, shift = blocks.placed(data, at)
    equal = blocks.equal_here(data, base, byte) >> shift
    within = blocks.within_here(data, base, byte, count) >> shift
    letters = blocks.letters_here(data, base) >> shift
    either = blocks.either_case_here(data, base, 0x6B) >> shift
    highest = blocks.last_bit(letters) if letters else -1
    return equal, within, letters, either, blocks.first_bit(letters), highest, blocks.count_bits(letters)


@numba.njit
def _has(data, start, end, byte):
    return blocks.has_byte(data, start, end, byte)


@numba.njit
def _eight(data, at, out, to):
    value = eight_bytes(data, np.uint64(at))
    put_eight_bytes(out, to, value)
    return value


@numba.njit
def _backwards(data):
    """Decode a text from its end: code points and widths."""
    codes = []
    at = len(data)
    while at > 0:
        end = at
        at = characters.previous(data, at)
        code, size = characters.decode(data, at)
        codes.append((code, size, end - at))
    return codes


def test_base_and_its_inverse_undo_each_other():
    assert int(BASE) * int(INVERSE) % WHOLE == 1


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_hash_in_kernels_is_that_of_plain_python(data):
    value, before, back, mixed = (int(number) for number in _hashes(np.frombuffer(data, np.uint8)))
    wanted = sum((byte + 1) * int(BASE) ** (len(data) - 1 - i) for i, byte in enumerate(data)) % WHOLE
    assert value == hash_of(data) == wanted
    assert mixed == mixed_of(wanted)
    assert before == back == hash_of(data[:-1])


@settings(deadline=None)
@given(st.binary(max_size=60), st.data())
def test_hash_of_a_part_is_that_of_its_bytes_wherever_it_stands(data, drawn):
    start = drawn.draw(st.integers(0, len(data)))
    end = drawn.draw(st.integers(start, len(data)))
    assert int(_hash_between(np.frombuffer(data, np.uint8), start, end)) == hash_of(data[start:end])


@settings(deadline=None)
@given(st.binary(max_size=30), st.binary(max_size=100))
def test_hash_of_a_whole_is_told_by_its_parts(head, tail):
    assert int(hashing.power(len(tail))) == pow(int(BASE), len(tail), WHOLE)
    assert hash_of(head + tail) == (hash_of(head) * int(hashing.power(len(tail))) + hash_of(tail)) % WHOLE


@settings(deadline=None)
@given(st.lists(st.integers(0, WHOLE - 1) | st.sampled_from([0, 1, WHOLE - 1, 1 << 32, 1 << 63]), min_size=1))
def test_mixed_hashes_are_those_of_plain_python_and_never_zero(values):
    told = _mixed(np.array(values, np.uint64))
    assert told.tolist() == [mixed_of(value) for value in values]
    assert 0 not in told
    # Every step can be undone, so different hashes stay different, save that 1 stands for two of them.
    assert len(set(told.tolist())) >= len(set(values)) - 1


def test_hashes_of_words_are_mixed_hashes_of_their_bytes():
    assert hashes_of(["a", "\u00e9"]).tolist() == [mixed_of(2**0 * (0x61 + 1)), mixed_of(hash_of(b"\xc3\xa9"))]


# Keys that agree in the upper half, in the lower bits, or in both but not in all.
_halves = st.sampled_from([0, 1, 2, 1 << 20, (1 << 32) - 1])
table_keys = st.tuples(_halves, _halves).map(lambda halves: halves[0] << 32 | halves[1])


@settings(deadline=None, max_examples=300)
@given(st.lists(table_keys, max_size=60), st.integers(0, 3))
def test_table_finds_the_first_of_each_key_and_counts_it(keys, used_before):
    count = len(keys)
    slots = np.full(table_size(count + 40), 0xDEADBEEF, np.uint64)
    counts, firsts = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    for _ in range(used_before + 1):
        counted_firsts(np.array(keys, np.uint64), count, slots, counts, firsts)
    assert firsts.tolist() == [keys.index(key) for key in keys]
    assert [counts[first] for first in firsts] == [keys.count(key) for key in keys]
    beyond = table_size(count)
    assert (slots[beyond:] == 0xDEADBEEF).all(), "only as much of the table is emptied as is needed"


@pytest.mark.parametrize("entries", [0, 1, 8, 9, 1000, 1 << 20])
def test_table_is_a_power_of_two_and_at_most_half_full(entries):
    size = table_size(entries)
    assert size >= 2 * entries
    assert size & (size - 1) == 0


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=50), st.data())
def test_bytes_are_copied_and_no_more_than_seven_behind_them_touched(data, drawn):
    at = drawn.draw(st.integers(0, len(data)))
    size = drawn.draw(st.integers(0, len(data) - at))
    to = drawn.draw(st.integers(0, 20))
    out = np.full(to + size + WIDTH + 4, 0xEE, np.uint8)
    _copy(np.frombuffer(data, np.uint8), at, size, out, to)
    assert out[to : to + size].tobytes() == data[at : at + size]
    assert (out[:to] == 0xEE).all()
    assert (out[to + size + WIDTH - 1 :] == 0xEE).all()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.data())
def test_bytes_are_copied_by_blocks_and_no_more_than_63_behind_them_touched(data, drawn):
    at = drawn.draw(st.integers(0, len(data)))
    size = drawn.draw(st.integers(0, len(data) - at))
    to = drawn.draw(st.integers(0, 20))
    out = np.full(to + size + blocks.BLOCK + 4, 0xEE, np.uint8)
    _copy_by_blocks(np.frombuffer(data, np.uint8), at, size, out, to)
    assert out[to : to + size].tobytes() == data[at : at + size]
    assert (out[:to] == 0xEE).all()
    assert (out[to + size + blocks.BLOCK - 1 :] == 0xEE).all()


_letters = st.sampled_from([*b"@AKkZ[`az{", 0x80, 0xAB, 0xFF, 0])


@settings(deadline=None, max_examples=300)
@given(st.lists(_letters | st.integers(0, 255), min_size=64, max_size=150).map(bytes), st.data())
def test_bits_of_a_block_tell_which_bytes_are_what(data, drawn):
    at = drawn.draw(st.integers(0, len(data) - 1))
    byte = drawn.draw(st.sampled_from([*data[at : at + 64], 0, 0x41]))
    count = drawn.draw(st.integers(1, 255))
    held = data[at : at + 64]
    letters = [chr(other).isascii() and chr(other).isalpha() for other in held]
    wanted = [
        [other == byte for other in held],
        [(other - byte) % 256 < count for other in held],
        letters,
        [other in b"kK" for other in held],
    ]
    told = [int(number) for number in _found(np.frombuffer(data, np.uint8), at, byte, count)]
    assert told[:4] == [sum(holds << place for place, holds in enumerate(each)) for each in wanted]
    places = [place for place, holds in enumerate(letters) if holds]
    assert told[4:] == [min(places, default=64), max(places, default=-1), len(places)]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([*b"ab["]), max_size=150).map(bytes), st.data())
def test_byte_is_found_only_between_two_places(data, drawn):
    start = drawn.draw(st.integers(0, len(data)))
    end = drawn.draw(st.integers(start, len(data)))
    assert _has(np.frombuffer(data, np.uint8), start, end, 0x5B) == (b"[" in data[start:end])


@given(st.binary(min_size=8, max_size=40), st.data())
@settings(deadline=None)
def test_eight_bytes_are_one_number_wherever_they_stand(data, drawn):
    at, to = drawn.draw(st.integers(0, len(data) - 8)), drawn.draw(st.integers(0, 11))
    out = np.zeros(to + 8, np.uint8)
    value = _eight(np.frombuffer(data, np.uint8), at, out, to)
    assert int(value).to_bytes(8, "little") == data[at : at + 8] == out[to:].tobytes()
    assert not out[:to].any()


def test_every_character_is_decoded_also_backwards():
    text = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    told = _backwards(np.frombuffer(text.encode(), np.uint8))
    sizes = [len(character.encode()) for character in text]
    assert told == [(ord(c), size, size) for c, size in zip(reversed(text), reversed(sizes), strict=True)]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([*CHUNKS, *MARKS, *OTHERS, *WORDS, *"0123abcXYZ.:/@"]), min_size=1, max_size=6).map(
        "".join
    )
)
def test_kernel_cuts_a_chunk_as_spacy_does_or_says_that_it_does_not_know(text):
    nlp, rules = _english()
    chunks = text.split()
    encoded = [chunk.encode() for chunk in chunks]
    sizes = np.array([len(chunk) for chunk in encoded], np.int32)
    pieces = np.zeros(int(sizes.sum()) + 1, np.int32)
    data = np.frombuffer(b"".join(encoded), np.uint8)
    counts, _, end = cut_new(
        data, np.cumsum(sizes, dtype=np.int32) - sizes, sizes, rules.classes, rules.arrays, pieces, 0
    )
    told, at = [], 0
    for count in counts:
        told.append(pieces[at : at + count].tolist() if count >= 0 else int(count))
        at += max(int(count), 0)
    assert at == end
    for chunk, cut in zip(chunks, told, strict=True):
        if cut not in (UNKNOWN, JOINED):
            assert cut == [len(token.text.encode()) for token in nlp.tokenizer(chunk)]


def test_kernel_decides_most_chunks_by_itself():
    _, rules = _english()
    encoded = [piece.encode() for piece in (*CHUNKS, *WORDS) if " " not in piece]
    sizes = np.array([len(chunk) for chunk in encoded], np.int32)
    pieces = np.zeros(int(sizes.sum()), np.int32)
    data = np.frombuffer(b"".join(encoded), np.uint8)
    counts, _, _ = cut_new(
        data, np.cumsum(sizes, dtype=np.int32) - sizes, sizes, rules.classes, rules.arrays, pieces, 0
    )
    assert (counts >= 0).mean() > 0.8


@cache
def _english():
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    return nlp, native_rules(nlp)
