"""What dolma's, DCLM's and the paper's readings of Gopher's rules count in words (Rae et al. 2021, appendix A.1.1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.case import LOWER
from fdf_ops_text.kernels.characters import decode
from fdf_ops_text.kernels.compiling import kernel, subroutine
from fdf_ops_text.kernels.hashing import appended, mixed
from fdf_ops_text.kernels.lines import BLANK, STOP
from fdf_ops_text.kernels.words import HAS_LETTER

LENGTHS = 256
HASH = 0x23


@subroutine
def _appended_code(value, code):
    """Return the hash of a string with the UTF-8 of one code point more."""
    if code < 0x80:
        return appended(value, code)
    if code < 0x800:
        value = appended(value, 0xC0 | (code >> 6))
    else:
        if code < 0x10000:
            value = appended(value, 0xE0 | (code >> 12))
        else:
            value = appended(value, 0xF0 | (code >> 18))
            value = appended(value, 0x80 | ((code >> 12) & 0x3F))
        value = appended(value, 0x80 | ((code >> 6) & 0x3F))
    return appended(value, 0x80 | (code & 0x3F))


@subroutine
def _lower_hash(data, at, end, case):
    value = np.uint64(0)
    while at < end:
        code, size = decode(data, at)
        value = _appended_code(value, case[code] & LOWER)
        at += size
    return value


@kernel
def listed_words(data, first, last, at_byte, n_bytes, n_chars, hashes, listed, longest, case, lower):
    """Count per row the words that are `listed` (their mixed hashes), each as often as it occurs.

    `lower` brings words into lower case first, character by character. Words of more than `longest` characters are
    none of those listed.
    """
    rows = len(first)
    found = np.zeros(rows, np.int64)
    for row in range(rows):
        for i in range(first[row], last[row]):
            if n_chars[i] > longest:
                continue
            value = hashes[i]
            if lower:
                value = _lower_hash(data, at_byte[i], at_byte[i] + n_bytes[i], case)
            key = mixed(value)
            for word in listed:
                if word == key:
                    found[row] += 1
                    break
    return found


@kernel
def word_totals(first, last, n_chars, flags):
    """Count per row: the characters of its words, and its words with a letter."""
    rows = len(first)
    chars = np.zeros(rows, np.int64)
    letters = np.zeros(rows, np.int64)
    for row in range(rows):
        for i in range(first[row], last[row]):
            chars[row] += n_chars[i]
            if flags[i] & HAS_LETTER:
                letters[row] += 1
    return chars, letters


@kernel
def median_lengths(first, last, n_chars):
    """Return per row the median of its words' characters, 0 where it has none."""
    rows = len(first)
    medians = np.zeros(rows)
    counts = np.zeros(LENGTHS + 1, np.int64)
    for row in range(rows):
        words = last[row] - first[row]
        if words == 0:
            continue
        counts[:] = 0
        for i in range(first[row], last[row]):
            counts[min(n_chars[i], LENGTHS)] += 1
        # The middle word, or the two of them, counted from the shortest.
        low, high = (words - 1) // 2, words // 2
        a, b, passed = -1, -1, 0
        for length in range(LENGTHS + 1):
            passed += counts[length]
            if a < 0 and passed > low:
                a = length
            if passed > high:
                b = length
                break
        if b == LENGTHS:
            ordered = np.sort(n_chars[first[row] : last[row]])
            a, b = ordered[low], ordered[high]
        medians[row] = (a + b) / 2
    return medians


@kernel
def words_with_symbols(data, first, last, at_byte, n_bytes, symbols):
    """Count per row the words that hold ``#`` or ``…``; rows where `symbols` is 0 hold none."""
    rows = len(first)
    found = np.zeros(rows, np.int64)
    for row in range(rows):
        if symbols[row] == 0:
            continue
        for word in range(first[row], last[row]):
            end = at_byte[word] + n_bytes[word]
            for i in range(at_byte[word], end):
                if data[i] == HASH or (data[i] == 0xE2 and data[i + 1] == 0x80 and data[i + 2] == 0xA6):
                    found[row] += 1
                    break
    return found


@kernel
def spaced_ellipses(data, starts, ends):
    """Count per row ``. . .``, from the left and not overlapping."""
    rows = len(starts)
    found = np.zeros(rows, np.int64)
    for row in range(rows):
        at, end = starts[row], ends[row]
        while at + 4 < end:
            if (
                data[at] == STOP
                and data[at + 1] == BLANK
                and data[at + 2] == STOP
                and data[at + 3] == BLANK
                and data[at + 4] == STOP
            ):
                found[row] += 1
                at += 5
            else:
                at += 1
    return found
