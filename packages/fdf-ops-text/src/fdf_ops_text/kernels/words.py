"""Finds words, on bytes: where each one is, how long, what characters it has, and a hash of it."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import ALNUM, LETTER, PUNCTUATION, SENTENCE_END, SPACE, SYMBOL
from fdf_ops_text.kernels.characters import class_of, decode
from fdf_ops_text.kernels.compiling import inline, kernel, subroutine
from fdf_ops_text.kernels.hashing import appended, mixed, without_last
from fdf_ops_text.kernels.hashtable import slot_of

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
LETTERS = 32
"""It is nothing but ASCII letters."""
LETTERS_AND_MARK = 64
"""It is ASCII letters and one mark after them that spaCy cuts off: ``, : ; ! ?``, or a stop after a small letter."""

PLAIN = HAS_LETTER | HAS_NO_SYMBOL | STARTS_ALNUM | LETTERS
"""The flags of a word of ASCII letters."""
SINGLE = -1
"""A chunk that is one word."""
LAST_OFF = -2
"""A chunk of two words, the second of which is its last byte."""
NONE = -1
NO_SYMBOL = 1 << 16


@inline
def flags_of(first, some, every, chars):
    """Return the flags of a word: its first character's class, and what some and all characters are."""
    flags = 0
    if some & LETTER:
        flags |= HAS_LETTER
    if some & NO_SYMBOL:
        flags |= HAS_NO_SYMBOL
    if first & ALNUM:
        flags |= STARTS_ALNUM
    if every & PUNCTUATION:
        flags |= ALL_PUNCTUATION
    if chars == 1 and first & SENTENCE_END:
        flags |= ENDS_SENTENCE
    return flags


@inline
def kinds(character):
    """Return a character's class, with a bit for those that are no symbol."""
    return int(character) | (0 if character & SYMBOL else NO_SYMBOL)


@inline
def is_cut_off(before, mark):
    """Say whether spaCy makes a word of this mark after an ASCII letter (lang/punctuation.py, TOKENIZER_SUFFIXES)."""
    if mark == 0x2E:
        return 0x61 <= before <= 0x7A
    return mark == 0x2C or mark == 0x3A or mark == 0x3B or mark == 0x21 or mark == 0x3F


@subroutine
def describe(data, start, end, classes):
    """Return hash, number of characters and flags of the word between these bytes."""
    value = np.uint64(0)
    some, every, chars = 0, -1, 0
    first = int(classes[decode(data, start)[0]])
    at = start
    while at < end:
        code, size = decode(data, at)
        for i in range(at, at + size):
            value = appended(value, data[i])
        kind = kinds(classes[code])
        some |= kind
        every &= kind
        chars += 1
        at += size
    return value, chars, flags_of(first, some, every, chars)


@inline
def room_for_words(rows, most):
    """Return the arrays that kernels which find words fill: two per row, then five with room for so many words."""
    return (
        np.empty(rows, np.int64),
        np.empty(rows, np.int64),
        np.empty(most, np.int32),
        np.empty(most, np.int32),
        np.empty(most, np.int32),
        np.empty(most, np.uint8),
        np.empty(most, np.uint64),
    )


@kernel
def whitespace_words(data, starts, ends, classes):
    """Find the maximal runs of characters that are not whitespace.

    Returns per row the first and the last + 1 of its words, and per word: first byte, bytes, characters, flags, hash.
    """
    rows = len(starts)
    most = 0
    for row in range(rows):
        most += (ends[row] - starts[row]) // 2 + 1
    first, last, at_byte, n_bytes, n_chars, flags, hashes = room_for_words(rows, most)
    word = 0
    for row in range(rows):
        first[row] = word
        at, end = starts[row], ends[row]
        while at < end:
            start = at
            value = np.uint64(0)
            some, every, chars, letters = 0, -1, 0, 0
            head = 0
            while at < end:
                byte = data[np.uint64(at)]
                if byte < 0x80:
                    kind = kinds(classes[byte])
                    if kind & SPACE:
                        break
                    value = appended(value, byte)
                    letters += (kind & LETTER) >> 1
                    at += 1
                else:
                    code, size = decode(data, at)
                    kind = kinds(class_of(classes, code))
                    if kind & SPACE:
                        break
                    for i in range(at, at + size):
                        value = appended(value, data[np.uint64(i)])
                    at += size
                if chars == 0:
                    head = kind
                some |= kind
                every &= kind
                chars += 1
            if chars == 0:
                # Whitespace: go on behind it.
                at += 1 if data[np.uint64(at)] < 0x80 else decode(data, at)[1]
                continue
            size = at - start
            flag = flags_of(head, some, every, chars)
            if letters == size:
                flag |= LETTERS
            elif letters == size - 1 and letters > 0 and is_cut_off(data[np.uint64(at - 2)], data[np.uint64(at - 1)]):
                flag |= LETTERS_AND_MARK
            put = np.uint64(word)
            at_byte[put] = start
            n_bytes[put] = size
            n_chars[put] = chars
            flags[put] = flag
            hashes[put] = value
            word += 1
        last[row] = word
    return first, last, at_byte[:word], n_bytes[:word], n_chars[:word], flags[:word], hashes[:word]


@inline
def exception_of(exception_keys, exception_values, key):
    """Return the entry of an exception of the tokenizer, or NONE."""
    slot = slot_of(exception_keys, key)
    return exception_values[slot] >> 1 if exception_keys[slot] == key else NONE


@kernel
def look_up_chunks(data, at_byte, n_bytes, flags, hashes, exception_keys, exception_values, keys, values, known):
    """Find how chunks are cut: entries of the table, SINGLE or LAST_OFF, or new entries.

    `known` entries are in the table, the first of them the exceptions, which have a small table of their own, too. A
    chunk that is not in it gets the next number and is put there; returns the entry per chunk, and the chunks that are
    the first of a new entry. The table must have room for all.
    """
    entries = np.empty(len(hashes), np.int32)
    new = np.empty(len(hashes), np.int64)
    count = 0
    for index in range(len(hashes)):
        i = np.uint64(index)
        key = mixed(hashes[i])
        if flags[i] & LETTERS:
            found = exception_of(exception_keys, exception_values, key)
            entries[i] = SINGLE if found == NONE else found
            continue
        if flags[i] & LETTERS_AND_MARK:
            # What is left may be an exception, too ("can't," is "ca", "n't", ","): then the table must say.
            rest = mixed(without_last(hashes[i], data[np.uint64(at_byte[i] + n_bytes[i] - 1)]))
            if (
                exception_of(exception_keys, exception_values, rest) == NONE
                and exception_of(exception_keys, exception_values, key) == NONE
            ):
                entries[i] = LAST_OFF
                continue
        slot = slot_of(keys, key)
        if keys[slot] == key:
            entries[i] = values[slot]
            continue
        keys[slot] = key
        values[slot] = known + count
        entries[i] = known + count
        new[count] = index
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
    to_first, to_last, to_byte, to_n_bytes, to_n_chars, to_flags, to_hashes = room_for_words(len(first), total)
    word = 0
    for row in range(len(first)):
        to_first[row] = word
        for index in range(first[row], last[row]):
            i = np.uint64(index)
            entry = entries[i]
            if entry == SINGLE or (entry >= 0 and piece_count[np.uint64(entry)] == 1):
                to_byte[np.uint64(word)] = at_byte[i]
                to_n_bytes[np.uint64(word)] = n_bytes[i]
                to_n_chars[np.uint64(word)] = n_chars[i]
                to_flags[np.uint64(word)] = flags[i]
                to_hashes[np.uint64(word)] = hashes[i]
                word += 1
                continue
            start = at_byte[i]
            if entry == LAST_OFF:
                mark = start + n_bytes[i] - 1
                to_byte[np.uint64(word)], to_byte[np.uint64(word + 1)] = start, mark
                to_n_bytes[np.uint64(word)], to_n_bytes[np.uint64(word + 1)] = n_bytes[i] - 1, 1
                to_n_chars[np.uint64(word)], to_n_chars[np.uint64(word + 1)] = n_chars[i] - 1, 1
                kind = kinds(classes[data[np.uint64(mark)]])
                to_flags[np.uint64(word)], to_flags[np.uint64(word + 1)] = PLAIN, flags_of(kind, kind, kind, 1)
                to_hashes[np.uint64(word)] = without_last(hashes[i], data[np.uint64(mark)])
                to_hashes[np.uint64(word + 1)] = appended(np.uint64(0), data[np.uint64(mark)])
                word += 2
                continue
            for piece in range(piece_count[np.uint64(entry)]):
                size = pieces[piece_first[np.uint64(entry)] + piece]
                value, chars, flag = describe(data, start, start + size, classes)
                to_byte[np.uint64(word)] = start
                to_n_bytes[np.uint64(word)] = size
                to_n_chars[np.uint64(word)] = chars
                to_flags[np.uint64(word)] = flag
                to_hashes[np.uint64(word)] = value
                word += 1
                start += size
        to_last[row] = word
    return to_first, to_last, to_byte, to_n_bytes, to_n_chars, to_flags, to_hashes
