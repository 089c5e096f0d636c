"""Finds words, on bytes: where each one is, how long, what characters it has, and a hash of it."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import ALNUM, LETTER, PUNCTUATION, SENTENCE_END, SPACE, SYMBOL
from fdf_ops_text.kernels.blocks import (
    BLOCK,
    NO_BITS,
    ONE_BIT,
    count_bits,
    equal_here,
    first_bit,
    letters_here,
    lowest_bits,
    placed,
    with_a_block,
    within_here,
)
from fdf_ops_text.kernels.characters import class_of, decode
from fdf_ops_text.kernels.compiling import inline, kernel, subroutine
from fdf_ops_text.kernels.hashing import appended, hash_between, mixed, without_last
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
def described(data, start, end, classes):
    """Return number of characters and flags of the word between these bytes; LETTERS and LETTERS_AND_MARK included."""
    some, every, chars, letters = 0, -1, 0, 0
    first = kinds(class_of(classes, decode(data, start)[0]))
    at = start
    while at < end:
        code, size = decode(data, at)
        kind = kinds(class_of(classes, code))
        some |= kind
        every &= kind
        letters += code < 0x80 and kind & LETTER != 0
        chars += 1
        at += size
    flags = flags_of(first, some, every, chars)
    if letters == end - start:
        flags |= LETTERS
    elif letters == end - start - 1 and letters > 0 and is_cut_off(data[np.uint64(end - 2)], data[np.uint64(end - 1)]):
        flags |= LETTERS_AND_MARK
    return chars, flags


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


@inline
def breaks_here(data, at, limit, low, nul, classes):
    """Return which of the bytes from `at` on are whitespace, and up to which byte that is known (`limit` or less).

    `low` is the first byte of those up to a blank that are whitespace, `nul` a further one or a blank.
    """
    base, shift = placed(data, at)
    found = within_here(data, base, 0x09, 5) | within_here(data, base, low, 0x21 - low) | equal_here(data, base, nul)
    found >>= shift
    # U+0085, U+00A0; U+1680; U+2000 to U+205F; U+3000: these begin so, and most that begin so are others.
    leads = equal_here(data, base, 0xC2) | within_here(data, base, 0xE1, 3)
    leads = (leads >> shift) & lowest_bits(limit)
    while leads != NO_BITS:
        place = first_bit(leads)
        leads &= leads - ONE_BIT
        code, size = decode(data, at + place)
        if class_of(classes, code) & SPACE:
            if place + size > limit:
                return found, place
            found |= lowest_bits(size) << np.uint64(place)
    return found, limit


@subroutine
def end_of_run(data, at, end, classes):
    """Return where the first whitespace behind this place stands."""
    while at < end:
        code, size = decode(data, at)
        if class_of(classes, code) & SPACE:
            return at
        at += size
    return end


@inline
def starts_of_words(data, start, end, low, nul):
    """Return a number that the whitespace-separated words of a text do not exceed."""
    count = 0
    before = ONE_BIT
    at = start
    while at < end:
        base, shift = placed(data, at)
        gaps = within_here(data, base, 0x09, 5) | within_here(data, base, low, 0x21 - low) | equal_here(data, base, nul)
        leads = equal_here(data, base, 0xC2) | within_here(data, base, 0xE1, 3)
        gaps, leads = gaps >> shift, leads >> shift
        # A character that may be whitespace ends a word, and behind it another one may begin.
        count += count_bits((~gaps & (gaps << ONE_BIT | before)) & lowest_bits(end - at))
        count += count_bits(leads & lowest_bits(end - at))
        before = gaps >> np.uint64(BLOCK - 1)
        at += BLOCK
    return count


@kernel
def whitespace_words(data, starts, ends, classes):
    """Find the maximal runs of characters that are not whitespace.

    Returns per row the first and the last + 1 of its words, and per word: first byte, bytes, characters, flags, hash.
    """
    data = with_a_block(data)
    rows = len(starts)
    low = 0x1C if classes[0x1C] & SPACE else 0x20
    nul = 0 if classes[0] & SPACE else 0x20
    most = 0
    for row in range(rows):
        most += starts_of_words(data, starts[row], ends[row], low, nul)
    first, last, at_byte, n_bytes, n_chars, flags, hashes = room_for_words(rows, most)
    word = 0
    for row in range(rows):
        first[row] = word
        at, end = starts[row], ends[row]
        while at < end:
            # The words of 64 bytes; one that goes on behind them waits for the next 64, which begin with it.
            gaps, known = breaks_here(data, at, min(BLOCK, end - at), low, nul, classes)
            held = ~gaps & lowest_bits(known)
            base, shift = placed(data, at)
            letters = letters_here(data, base) >> shift
            plain = letters | (within_here(data, base, 0x30, 10) >> shift)
            wide = within_here(data, base, 0x80, 0x80) >> shift
            following = at + known
            while held != NO_BITS:
                place = first_bit(held)
                size = first_bit(~(held >> np.uint64(place)))
                start = at + place
                if place + size >= known and following < end:
                    if place > 0:
                        following = start
                        break
                    size = end_of_run(data, start, end, classes) - start
                    following = start + size
                held &= held + (ONE_BIT << np.uint64(place))
                own = lowest_bits(size)
                its_letters = (letters >> np.uint64(place)) & own
                its_plain = (plain >> np.uint64(place)) & own
                put = np.uint64(word)
                chars = size
                if size <= BLOCK and its_letters == own:
                    flag = PLAIN
                elif size > BLOCK or its_plain == NO_BITS or (wide >> np.uint64(place)) & own != NO_BITS:
                    chars, flag = described(data, start, start + size, classes)
                else:
                    flag = HAS_NO_SYMBOL
                    if its_letters != NO_BITS:
                        flag |= HAS_LETTER
                    if its_plain & ONE_BIT:
                        flag |= STARTS_ALNUM
                    if its_letters == own >> ONE_BIT and is_cut_off(
                        data[np.uint64(start + size - 2)], data[np.uint64(start + size - 1)]
                    ):
                        flag |= LETTERS_AND_MARK
                at_byte[put] = start
                n_bytes[put] = size
                n_chars[put] = chars
                flags[put] = flag
                hashes[put] = hash_between(data, start, start + size)
                word += 1
            at = following
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
def marked_chunks(entries, marked):
    """Return the chunks whose entry is marked."""
    found = np.empty(len(entries), np.int64)
    count = 0
    for index in range(len(entries)):
        entry = entries[np.uint64(index)]
        if entry >= 0:
            found[np.uint64(count)] = index
            count += marked[np.uint64(entry)]
    return found[:count]


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
def describe_pieces(data, at_byte, counts, sizes, classes):
    """Return characters, flags and hashes of the words of some chunks, whose byte lengths follow each other."""
    data = with_a_block(data)
    n_chars = np.empty(len(sizes), np.int32)
    flags = np.empty(len(sizes), np.uint8)
    hashes = np.empty(len(sizes), np.uint64)
    piece = 0
    for i in range(len(counts)):
        start = np.int64(at_byte[i])
        for _ in range(counts[i]):
            end = start + sizes[piece]
            n_chars[piece], flags[piece] = described(data, start, end, classes)
            hashes[piece] = hash_between(data, start, end)
            piece += 1
            start = end
    return n_chars, flags, hashes


@kernel
def cut_chunks(data, first, last, at_byte, n_bytes, n_chars, flags, hashes, entries, cuts, pieces, classes):
    """Cut chunks into words.

    `cuts` are per entry the first of its words in `pieces` and how many they are; `pieces` are of all entries' words
    bytes, characters, flags and hashes. Takes and returns what `whitespace_words` returns.
    """
    piece_first, piece_count = cuts
    piece_bytes, piece_chars, piece_flags, piece_hashes = pieces
    total = 0
    for i in range(len(entries)):
        entry = entries[i]
        if entry >= 0:
            total += piece_count[entry]
        else:
            total += -entry
    to_first, to_last, to_byte, to_n_bytes, to_n_chars, to_flags, to_hashes = room_for_words(len(first), total)
    mark_flags = np.empty(0x80, np.uint8)
    for code in range(0x80):
        kind = kinds(classes[code])
        mark_flags[code] = flags_of(kind, kind, kind, 1)
    word = np.uint64(0)
    for row in range(len(first)):
        to_first[row] = word
        for index in range(first[row], last[row]):
            i = np.uint64(index)
            entry = entries[i]
            start = at_byte[i]
            if entry == SINGLE:
                to_byte[word] = start
                to_n_bytes[word] = n_bytes[i]
                to_n_chars[word] = n_chars[i]
                to_flags[word] = flags[i]
                to_hashes[word] = hashes[i]
                word += ONE_BIT
                continue
            if entry == LAST_OFF:
                size = n_bytes[i] - 1
                mark = data[np.uint64(start + size)]
                to_byte[word], to_byte[word + ONE_BIT] = start, start + size
                to_n_bytes[word], to_n_bytes[word + ONE_BIT] = size, 1
                to_n_chars[word], to_n_chars[word + ONE_BIT] = size, 1
                to_flags[word], to_flags[word + ONE_BIT] = PLAIN, mark_flags[np.uint64(mark)]
                to_hashes[word] = without_last(hashes[i], mark)
                to_hashes[word + ONE_BIT] = appended(np.uint64(0), mark)
                word += ONE_BIT + ONE_BIT
                continue
            piece = np.uint64(piece_first[np.uint64(entry)])
            for _ in range(piece_count[np.uint64(entry)]):
                to_byte[word] = start
                to_n_bytes[word] = piece_bytes[piece]
                to_n_chars[word] = piece_chars[piece]
                to_flags[word] = piece_flags[piece]
                to_hashes[word] = piece_hashes[piece]
                start += piece_bytes[piece]
                piece += ONE_BIT
                word += ONE_BIT
        to_last[row] = word
    return to_first, to_last, to_byte, to_n_bytes, to_n_chars, to_flags, to_hashes
