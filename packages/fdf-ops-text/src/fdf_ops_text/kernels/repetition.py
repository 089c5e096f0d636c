"""How much of a text repeats, as datatrove 0.10.1 measures Gopher's rules (Rae et al. 2021, table A1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.bytes import WIDTH, copied, eight_bytes
from fdf_ops_text.kernels.compiling import kernel, subroutine
from fdf_ops_text.kernels.hashing import BASE, ONE, appended, mixed, power
from fdf_ops_text.kernels.hashtable import counted, counted_firsts, emptied, first_with, table_size
from fdf_ops_text.kernels.lines import LINE_FEED, left_trimmed, right_trimmed

PARAGRAPHS, PARAGRAPH_CHARS, LINES, LINE_CHARS, TOP, DUPLICATE, VALUES = 0, 1, 2, 3, 4, 7, 13
"""The columns of `repetition`: four shares of lines, top 2- to 4-grams from TOP, 5- to 10-grams from DUPLICATE on."""
_STEP = np.uint64(0xFF51AFD7ED558CCD)
SHORT = 64
MARK = 16
"""Bytes by which places in a text are told apart before runs of words are looked at."""


@subroutine
def repeated_parts(data, start, end, fewest, slots, hashes):
    """Cut at runs of at least `fewest` line feeds; return parts, repeated parts, and the characters of the latter.

    A part is repeated where the same part stands before it. At least one part: text without a cut is one.
    """
    cuts = 1
    for i in range(start, end):
        if data[np.uint64(i)] == LINE_FEED and (i == start or data[np.uint64(i - 1)] != LINE_FEED):
            cuts += 1
    mask = emptied(slots, cuts)
    parts, repeated, repeated_chars = 0, 0, 0
    at = start
    while True:
        value = np.uint64(0)
        chars = 0
        following = -1
        while at < end:
            if data[np.uint64(at)] == LINE_FEED:
                run = at
                while run < end and data[np.uint64(run)] == LINE_FEED:
                    run += 1
                if run - at >= fewest:
                    following = run
                    break
                for _ in range(run - at):
                    value = appended(value, LINE_FEED)
                    chars += 1
                at = run
                continue
            value = appended(value, data[np.uint64(at)])
            if data[np.uint64(at)] & 0xC0 != 0x80:
                chars += 1
            at += 1
        hashes[parts] = mixed(value)
        if first_with(slots, mask, hashes, np.uint64(parts)) != np.uint64(parts):
            repeated += 1
            repeated_chars += chars
        parts += 1
        if following < 0:
            return parts, repeated, repeated_chars
        at = following


@subroutine
def narrowed(places, count, counts, firsts):
    """Keep the places whose key, as `counted`, occurs more than once; return how many these are."""
    repeated = 0
    for k in range(count):
        i = np.uint64(places[k])
        places[repeated] = i
        repeated += counts[np.uint64(firsts[i])] > 1
    return repeated


@subroutine
def top_gram(places, count, counts, firsts, chars_before, n):
    """Return occurrences times characters of the most frequent n-gram, joined by spaces; of several, the first seen.

    `places` are in order where n-grams begin that may occur more than once. All others occur once, the very first one
    may be among them.
    """
    most, at = np.int64(1), np.uint64(0)
    for k in range(count):
        i = np.uint64(places[k])
        if np.uint64(firsts[i]) == i and counts[i] > most:
            most, at = np.int64(counts[i]), i
    return most * (chars_before[at + np.uint64(n)] - chars_before[at] + n - 1)


@subroutine
def joined_words(data, at_byte, n_bytes, begin, words, joined, starts):
    """Write words one after the other, and where each one starts; behind them, MARK zeros."""
    size = 0
    for k in range(words):
        i = np.uint64(k)
        starts[i] = size
        copied(data, np.int64(at_byte[begin + k]), np.int64(n_bytes[begin + k]), joined, size)
        size += n_bytes[begin + k]
    for i in range(MARK):
        joined[size + i] = 0
    starts[words] = size


@subroutine
def suspects(joined, starts, words, marks, slots, counts, firsts, places):
    """Write where runs of five or more words may begin that stood before, compared without what lies between words.

    Two such runs begin with the same MARK bytes, if they are that long. So a place is no suspect if its run of five
    words is that long and no other place goes on with the same bytes. Returns how many there are.
    """
    for k in range(words - 4):
        i = np.uint64(k)
        at = np.uint64(starts[i])
        marks[i] = mixed(eight_bytes(joined, at) * _STEP + eight_bytes(joined, at + np.uint64(WIDTH)))
    counted_firsts(marks, words - 4, slots, counts, firsts)
    count = 0
    for k in range(words - 4):
        i = np.uint64(k)
        places[count] = k
        count += (starts[i + np.uint64(5)] - starts[i] < MARK) | (counts[np.uint64(firsts[i])] > 1)
    return count


@subroutine
def longer_grams(grams, places, count, words, n, begin, hashes, n_bytes, short_powers):
    """Make hashes of the n words from each place on of those of n - 1 words."""
    for k in range(count):
        i = np.int64(places[k])
        if i + n > words:
            break
        word = np.uint64(begin + i + n - 1)
        size = np.uint64(n_bytes[word])
        factor = short_powers[size] if size < np.uint64(SHORT) else power(np.int64(size))
        grams[k] = grams[k] * factor + hashes[word]


@subroutine
def duplicate_grams(grams, keys, chars_before, places, count, words, n, slots):
    """Return the characters of n-grams that stood before, going on behind each one that is found.

    `places` are where such n-grams may begin, `grams` the hashes of those that begin there. Grams are compared as their
    words without anything between them.
    """
    mask = emptied(slots, count)
    repeated, free = np.int64(0), np.int64(0)
    for k in range(count):
        i = np.int64(places[k])
        if i < free:
            continue
        if i + n > words:
            break
        keys[k] = mixed(grams[k])
        if first_with(slots, mask, keys, np.uint64(k)) != np.uint64(k):
            repeated += chars_before[np.uint64(i + n)] - chars_before[np.uint64(i)]
            free = i + n
    return repeated


@subroutine
def spaced_grams(grams, places, count, words, n, begin, hashes):
    """Make hashes of the n words from each place on, with what lies between them, of those of n - 1 words.

    Returns how many places have n words.
    """
    for k in range(count):
        i = np.int64(places[k])
        if i + n > words:
            return k
        at = np.uint64(i)
        grams[at] = mixed(grams[at] * _STEP + hashes[np.uint64(begin + i + n - 1)])
    return count


@subroutine
def most_parts(data, starts, ends, first, last):
    """Return a number that neither the words nor the lines nor the paragraphs of any row exceed."""
    most = 2
    for row in range(len(starts)):
        cuts = 2
        for i in range(starts[row], ends[row]):
            cuts += data[np.uint64(i)] == LINE_FEED
        most = max(most, cuts, last[row] - first[row])
    return most


@kernel
def repetition(data, starts, ends, text_chars, classes, first, last, at_byte, n_bytes, n_chars, hashes, bounds):
    """Measure per row the shares of VALUES rules, until one is above its bound; NaN where it was not measured."""
    rows = len(starts)
    values = np.full((rows, VALUES), np.nan)
    most, longest = most_parts(data, starts, ends, first, last), 0
    for row in range(rows):
        longest = max(longest, ends[row] - starts[row])
    slots = np.zeros(table_size(most), np.uint64)
    grams = np.empty(most, np.uint64)
    keys = np.empty(most, np.uint64)
    counts = np.empty(most, np.int32)
    firsts = np.empty(most, np.int32)
    places = np.empty(most, np.int32)
    chars_before = np.empty(most + 1, np.int64)
    joined = np.empty(longest + MARK + WIDTH, np.uint8)
    word_starts = np.empty(most + 1, np.int64)
    short_powers = np.empty(SHORT, np.uint64)
    short_powers[0] = ONE
    for i in range(1, SHORT):
        short_powers[i] = short_powers[i - 1] * BASE
    words_needed = False
    for rule in range(TOP, VALUES):
        words_needed |= bounds[rule] < np.inf
    for row in range(rows):
        chars = text_chars[row]
        if chars == 0:
            continue
        start, end = starts[row], ends[row]
        if bounds[PARAGRAPHS] < np.inf or bounds[PARAGRAPH_CHARS] < np.inf:
            left = left_trimmed(data, start, end, classes)
            right = right_trimmed(data, left, end, classes)
            parts, repeated, repeated_chars = repeated_parts(data, left, right, 2, slots, keys)
            values[row, PARAGRAPHS] = repeated / parts
            values[row, PARAGRAPH_CHARS] = repeated_chars / chars
            if values[row, PARAGRAPHS] > bounds[PARAGRAPHS] or values[row, PARAGRAPH_CHARS] > bounds[PARAGRAPH_CHARS]:
                continue
        if bounds[LINES] < np.inf or bounds[LINE_CHARS] < np.inf:
            parts, repeated, repeated_chars = repeated_parts(data, start, end, 1, slots, keys)
            values[row, LINES] = repeated / parts
            values[row, LINE_CHARS] = repeated_chars / chars
            if values[row, LINES] > bounds[LINES] or values[row, LINE_CHARS] > bounds[LINE_CHARS]:
                continue
        if not words_needed:
            continue
        begin = first[row]
        words = last[row] - begin
        chars_before[0] = 0
        for i in range(words):
            chars_before[i + 1] = chars_before[i] + n_chars[begin + i]
            grams[i] = hashes[begin + i]
            places[i] = i
        above = False
        # A run of three words occurs twice only where its first two do, and so on.
        count = words
        for n in range(2, 5):
            count = spaced_grams(grams, places, count, words, n, begin, hashes)
            if words < n:
                break
            counted(grams, places, count, slots, counts, firsts)
            rule = TOP + n - 2
            if bounds[rule] < np.inf:
                values[row, rule] = top_gram(places, count, counts, firsts, chars_before, n) / chars
                if values[row, rule] > bounds[rule]:
                    above = True
                    break
            count = narrowed(places, count, counts, firsts)
        if above or words < 5:
            continue
        joined_words(data, at_byte, n_bytes, begin, words, joined, word_starts)
        count = suspects(joined, word_starts, words, keys, slots, counts, firsts, places)
        grams[:count] = np.uint64(0)
        for n in range(1, 11):
            longer_grams(grams, places, count, words, n, begin, hashes, n_bytes, short_powers)
            rule = DUPLICATE + n - 5
            if n < 5 or bounds[rule] == np.inf:
                continue
            values[row, rule] = duplicate_grams(grams, keys, chars_before, places, count, words, n, slots) / chars
            if values[row, rule] > bounds[rule]:
                break
    return values
