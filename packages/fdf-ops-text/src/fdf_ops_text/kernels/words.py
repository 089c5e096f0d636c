"""Finds words, on bytes: where each one is, how long, what characters it has, and a hash of it."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import ALNUM, LETTER, PUNCTUATION, SENTENCE_END, SPACE, SYMBOL
from fdf_ops_text.kernels.characters import decode
from fdf_ops_text.kernels.compiling import inline, kernel
from fdf_ops_text.kernels.hashing import appended, mixed

HAS_LETTER = 1
"""A character of the word is a letter."""
HAS_NO_SYMBOL = 2
"""A character of the word is outside datatrove's set of punctuation."""
STARTS_ALNUM = 4
"""Its first character is a letter or a digit."""
ALL_PUNCTUATION = 8
"""All its characters are of category P."""
ENDS_SENTENCE = 16
"""It is one character that ends a sentence to spaCy."""

SINGLE = -1
"""A chunk that is one word."""
LAST_OFF = -2
"""A chunk of two words, the second of which is its last byte."""


@inline
def describe(data, start, end, classes):
    """Return hash, number of characters and flags of the word between these bytes."""
    value = np.uint64(0)
    some, every, chars = 0, 0xFFFF, 0
    first = 0
    at = start
    while at < end:
        code, size = decode(data, at)
        for i in range(at, at + size):
            value = appended(value, data[i])
        kind = int(classes[code])
        if at == start:
            first = kind
        some |= kind | (0x10000 if not kind & SYMBOL else 0)
        every &= kind
        chars += 1
        at += size
    flags = 0
    if some & LETTER:
        flags |= HAS_LETTER
    if some & 0x10000:
        flags |= HAS_NO_SYMBOL
    if first & ALNUM:
        flags |= STARTS_ALNUM
    if every & PUNCTUATION:
        flags |= ALL_PUNCTUATION
    if chars == 1 and first & SENTENCE_END:
        flags |= ENDS_SENTENCE
    return value, chars, flags


@kernel
def whitespace_words(data, starts, ends, classes):
    """Find the maximal runs of characters that are not whitespace.

    Returns per row the first and the last + 1 of its words, and per word: first byte, bytes, characters, flags, hash.
    """
    rows = len(starts)
    most = 0
    for row in range(rows):
        most += (ends[row] - starts[row]) // 2 + 1
    at_byte = np.empty(most, np.int32)
    n_bytes = np.empty(most, np.int32)
    n_chars = np.empty(most, np.int32)
    flags = np.empty(most, np.uint8)
    hashes = np.empty(most, np.uint64)
    first = np.empty(rows, np.int64)
    last = np.empty(rows, np.int64)
    word = 0
    for row in range(rows):
        first[row] = word
        at, end = starts[row], ends[row]
        while at < end:
            code, size = decode(data, at)
            if classes[code] & SPACE:
                at += size
                continue
            start = at
            value = np.uint64(0)
            some, every, chars, head = 0, 0xFFFF, 0, int(classes[code])
            while True:
                kind = int(classes[code])
                if kind & SPACE:
                    break
                for i in range(at, at + size):
                    value = appended(value, data[i])
                some |= kind | (0x10000 if not kind & SYMBOL else 0)
                every &= kind
                chars += 1
                at += size
                if at >= end:
                    break
                code, size = decode(data, at)
            flag = 0
            if some & LETTER:
                flag |= HAS_LETTER
            if some & 0x10000:
                flag |= HAS_NO_SYMBOL
            if head & ALNUM:
                flag |= STARTS_ALNUM
            if every & PUNCTUATION:
                flag |= ALL_PUNCTUATION
            if chars == 1 and head & SENTENCE_END:
                flag |= ENDS_SENTENCE
            at_byte[word] = start
            n_bytes[word] = at - start
            n_chars[word] = chars
            flags[word] = flag
            hashes[word] = value
            word += 1
        last[row] = word
    return first, last, at_byte[:word], n_bytes[:word], n_chars[:word], flags[:word], hashes[:word]


@inline
def plain_shape(data, start, size):
    """Say how a chunk of ASCII letters, or of these and one mark after them, is cut; 0: only the tokenizer knows.

    English rules of spaCy 3.8 (lang/punctuation.py): a comma, colon, semicolon, exclamation or question mark at the
    end is always a word of its own, a full stop after a lower-case letter too.
    """
    end = start + size - 1
    for i in range(start, end):
        lower = data[i] | 0x20
        if lower < 0x61 or lower > 0x7A:
            return 0
    final = data[end]
    lower = final | 0x20
    if 0x61 <= lower <= 0x7A:
        return SINGLE
    if size > 1 and (final == 0x2C or final == 0x3A or final == 0x3B or final == 0x21 or final == 0x3F):
        return LAST_OFF
    if size > 1 and final == 0x2E and 0x61 <= data[end - 1] <= 0x7A:
        return LAST_OFF
    return 0


@inline
def slot_of(keys, key):
    """Return where a key stands in an open table, or the empty slot where it would be put."""
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while keys[slot] != np.uint64(0) and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@kernel
def look_up_chunks(data, at_byte, n_bytes, hashes, keys, values, known, shapes):
    """Find how chunks are cut: entries of the table, shapes that need none (negative; if `shapes`), or new entries.

    `known` entries are in the table. A chunk that is not gets the next number and is put there; returns the entry per
    chunk, and the chunks that are the first of a new entry. The table must have room for all.
    """
    entries = np.empty(len(hashes), np.int32)
    new = np.empty(len(hashes), np.int64)
    count = 0
    for i in range(len(hashes)):
        key = mixed(hashes[i])
        slot = slot_of(keys, key)
        if keys[slot] == key:
            entries[i] = values[slot]
            continue
        shape = plain_shape(data, at_byte[i], n_bytes[i]) if shapes else 0
        if shape < 0:
            if shape == LAST_OFF:
                # What is left may be an exception ("can't," is "ca", "n't", ","): then the table must say.
                rest = np.uint64(0)
                for j in range(at_byte[i], at_byte[i] + n_bytes[i] - 1):
                    rest = appended(rest, data[j])
                rest = mixed(rest)
                if keys[slot_of(keys, rest)] == rest:
                    shape = 0
            if shape < 0:
                entries[i] = shape
                continue
        keys[slot] = key
        values[slot] = known + count
        entries[i] = known + count
        new[count] = i
        count += 1
    return entries, new[:count]


@kernel
def refill(keys, values, size):
    """Return a table of another size with the same entries."""
    new_keys = np.zeros(size, np.uint64)
    new_values = np.empty(size, np.int32)
    for i in range(len(keys)):
        if keys[i] != np.uint64(0):
            slot = slot_of(new_keys, keys[i])
            new_keys[slot] = keys[i]
            new_values[slot] = values[i]
    return new_keys, new_values


@kernel
def cut_chunks(
    data, first, last, at_byte, n_bytes, n_chars, flags, hashes, entries, piece_first, piece_count, pieces, classes
):
    """Cut chunks into words: entry e has `piece_count[e]` byte lengths in `pieces`, from `piece_first[e]` on.

    Takes and returns what `whitespace_words` returns.
    """
    total = 0
    for i in range(len(entries)):
        entry = entries[i]
        if entry >= 0:
            total += piece_count[entry]
        else:
            total += -entry
    to_byte = np.empty(total, np.int32)
    to_n_bytes = np.empty(total, np.int32)
    to_n_chars = np.empty(total, np.int32)
    to_flags = np.empty(total, np.uint8)
    to_hashes = np.empty(total, np.uint64)
    to_first = np.empty(len(first), np.int64)
    to_last = np.empty(len(first), np.int64)
    word = 0
    for row in range(len(first)):
        to_first[row] = word
        for i in range(first[row], last[row]):
            entry = entries[i]
            if entry == SINGLE or (entry >= 0 and piece_count[entry] == 1):
                to_byte[word] = at_byte[i]
                to_n_bytes[word] = n_bytes[i]
                to_n_chars[word] = n_chars[i]
                to_flags[word] = flags[i]
                to_hashes[word] = hashes[i]
                word += 1
                continue
            start = at_byte[i]
            count = 2 if entry == LAST_OFF else piece_count[entry]
            for piece in range(count):
                if entry == LAST_OFF:
                    size = n_bytes[i] - 1 if piece == 0 else 1
                else:
                    size = pieces[piece_first[entry] + piece]
                value, chars, flag = describe(data, start, start + size, classes)
                to_byte[word] = start
                to_n_bytes[word] = size
                to_n_chars[word] = chars
                to_flags[word] = flag
                to_hashes[word] = value
                word += 1
                start += size
        to_last[row] = word
    return to_first, to_last, to_byte, to_n_bytes, to_n_chars, to_flags, to_hashes
