"""Cuts text into runs of word characters and runs of everything else but whitespace, as NLTK 3.8's WordPunct."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import SPACE, UPPER, WORD
from fdf_ops_text.folding import UNCAPITAL
from fdf_ops_text.kernels.characters import decode
from fdf_ops_text.kernels.compiling import inline, kernel
from fdf_ops_text.kernels.hashing import appended
from fdf_ops_text.kernels.words import flags_of, kinds, room_for_words

HAS_ASCII_LETTER = 32
"""A character of the word is one of ``[a-zA-Z]``; known of these words only."""
ALL_CAPS = 64
"""`str.isupper` of the word; known of these words only."""

_ASCII_LETTER = 0x20000
_UNCAPITAL = 0x40000


@inline
def _bits(code, classes, traits):
    """Return the bits of a character, with those that only these words have."""
    kind = np.int32(kinds(classes[code]))
    if 0x61 <= (code | 0x20) <= 0x7A:
        kind |= _ASCII_LETTER
    if traits[code] & UNCAPITAL:
        kind |= _UNCAPITAL
    return kind


@inline
def most_words(data, start, end):
    """Return a number of words that a text cannot exceed: two for each character that may be no word character."""
    breaks = 0
    for i in range(start, end):
        byte = data[i]
        low = byte | 0x20
        breaks += not (0x61 <= low <= 0x7A or 0x30 <= byte <= 0x39 or 0x80 <= byte < 0xC0)
    return min(2 * breaks + 1, end - start)


@kernel
def wordpunct_words(data, starts, ends, classes, traits):
    r"""Find what ``\w+|[^\w\s]+`` finds. Returns what `whitespace_words` returns, with two more flags."""
    rows = len(starts)
    most = 0
    for row in range(rows):
        most += most_words(data, starts[row], ends[row])
    first, last, at_byte, n_bytes, n_chars, flags, hashes = room_for_words(rows, most)
    bits = np.empty(0x80, np.int32)
    for code in range(0x80):
        bits[code] = _bits(code, classes, traits)
    word = 0
    for row in range(rows):
        first[row] = word
        at, end = starts[row], ends[row]
        while at < end:
            if data[at] < 0x80:
                kind, size = bits[data[at]], 1
            else:
                code, size = decode(data, at)
                kind = _bits(code, classes, traits)
            if kind & SPACE:
                at += size
                continue
            start, head = at, kind
            value = np.uint64(0)
            some, every, chars = 0, 0xFFFF, 0
            while True:
                for i in range(at, at + size):
                    value = appended(value, data[i])
                some |= kind
                every &= kind
                chars += 1
                at += size
                if at >= end:
                    break
                if data[at] < 0x80:
                    kind, size = bits[data[at]], 1
                else:
                    code, size = decode(data, at)
                    kind = _bits(code, classes, traits)
                if (kind ^ head) & (SPACE | WORD):
                    break
            flag = flags_of(head, some, every, chars)
            if some & _ASCII_LETTER:
                flag |= HAS_ASCII_LETTER
            if some & UPPER and not some & _UNCAPITAL:
                flag |= ALL_CAPS
            at_byte[word] = start
            n_bytes[word] = at - start
            n_chars[word] = chars
            flags[word] = flag
            hashes[word] = value
            word += 1
        last[row] = word
    return first, last, at_byte[:word], n_bytes[:word], n_chars[:word], flags[:word], hashes[:word]
