"""How much of a text repeats, as datatrove 0.10.1 measures Gopher's rules (Rae et al. 2021, table A1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.blocks import (
    BLOCK,
    NO_BITS,
    count_bits,
    count_characters,
    equal_here,
    lowest_bits,
    next_byte,
    placed,
    with_a_block,
)
from fdf_ops_text.kernels.bytes import WIDTH, copied, eight_bytes
from fdf_ops_text.kernels.compiling import kernel, subroutine
from fdf_ops_text.kernels.hashing import BASE, ONE, hash_between, mixed, power
from fdf_ops_text.kernels.hashtable import emptied, first_with, table_size
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
    before = NO_BITS
    at = start
    while at < end:
        base, shift = placed(data, at)
        feeds = (equal_here(data, base, LINE_FEED) >> shift) & lowest_bits(end - at)
        # Of each run of line feeds the first one, or the second.
        cuts += count_bits(feeds & (~(feeds << ONE | before) if fewest == 1 else feeds << ONE | before))
        before = feeds >> np.uint64(BLOCK - 1)
        at += BLOCK
    if cuts == 1:
        return 1, 0, 0
    mask = emptied(slots, cuts)
    parts, repeated, repeated_chars = 0, 0, 0
    at = start
    while True:
        stop, following = at, -1
        while stop < end:
            stop = next_byte(data, stop, end, LINE_FEED)
            run = stop
            while run < end and data[np.uint64(run)] == LINE_FEED:
                run += 1
            if run - stop >= fewest:
                following = run
                break
            stop = run
        hashes[parts] = mixed(hash_between(data, at, stop))
        if first_with(slots, mask, hashes, np.uint64(parts)) != np.uint64(parts):
            repeated += 1
            repeated_chars += count_characters(data, at, stop)
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
def maybe_twice(keys, count, seen, places):
    """Write the places whose key may occur more than once, in order; return how many these are.

    Of keys a few bits are looked at, so that a place too many may be among them, but none is missing.
    """
    size = table_size(MARK * count)
    mask = np.uint64(size - 1)
    seen[:size] = 0
    for k in range(count):
        slot = keys[np.uint64(k)] & mask
        seen[slot] = min(seen[slot] + 1, 2)
    found = 0
    for k in range(count):
        i = np.uint64(k)
        places[np.uint64(found)] = k
        found += seen[keys[i] & mask] > 1
    return found


@subroutine
def top_gram(grams, places, count, chars_before, n, slots, counts, firsts):
    """Return occurrences times characters of the most frequent n-gram, joined by spaces; of several, the first seen.

    `places` are in order where n-grams begin that may occur more than once. All others occur once, the very first one
    may be among them. Afterwards `counts[firsts[i]]` is how often the n-gram at place i occurs.
    """
    mask = emptied(slots, count)
    most, at = np.int64(1), np.uint64(0)
    for k in range(count):
        i = np.uint64(places[np.uint64(k)])
        first = first_with(slots, mask, grams, i)
        firsts[i] = first
        if first == i:
            counts[i] = 1
            continue
        held = np.int64(counts[first]) + 1
        counts[first] = held
        if held > most or (held == most and first < at):
            most, at = held, first
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
def suspects(joined, starts, words, marks, seen, places):
    """Write where runs of five or more words may begin that stood before, compared without what lies between words.

    Two such runs begin with the same MARK bytes, if they are that long. So a place is no suspect if its run of five
    words is that long and no other place goes on with the same bytes. Returns how many there are.
    """
    for k in range(words - 4):
        i = np.uint64(k)
        at = np.uint64(starts[i])
        marks[i] = mixed(eight_bytes(joined, at) * _STEP + eight_bytes(joined, at + np.uint64(WIDTH)))
    size = table_size(MARK * words)
    mask = np.uint64(size - 1)
    seen[:size] = 0
    for k in range(words - 4):
        slot = marks[np.uint64(k)] & mask
        seen[slot] = min(seen[slot] + 1, 2)
    count = 0
    for k in range(words - 4):
        i = np.uint64(k)
        places[np.uint64(count)] = k
        count += (starts[i + np.uint64(5)] - starts[i] < MARK) | (seen[marks[i] & mask] > 1)
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
    data = with_a_block(data)
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
    seen = np.empty(table_size(MARK * most), np.uint8)
    chars_before = np.empty(most + 1, np.int64)
    joined = np.empty(longest + MARK + WIDTH, np.uint8)
    word_starts = np.empty(most + 1, np.int64)
    short_powers = np.empty(SHORT, np.uint64)
    short_powers[0] = ONE
    for i in range(1, SHORT):
        short_powers[i] = short_powers[i - 1] * BASE
    longest_top, longest_duplicate = 0, 0
    for n in range(2, 5):
        if bounds[TOP + n - 2] < np.inf:
            longest_top = n
    for n in range(5, 11):
        if bounds[DUPLICATE + n - 5] < np.inf:
            longest_duplicate = n
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
        if longest_top + longest_duplicate == 0:
            continue
        begin = first[row]
        words = last[row] - begin
        chars_before[0] = 0
        for k in range(words):
            i = np.uint64(k)
            chars_before[i + ONE] = chars_before[i] + n_chars[np.uint64(begin) + i]
        above = False
        count = 0
        for n in range(2, min(longest_top, words) + 1):
            if n == 2:
                for k in range(words - 1):
                    i = np.uint64(k)
                    place = np.uint64(begin + k)
                    grams[i] = mixed(hashes[place] * _STEP + hashes[place + ONE])
                count = maybe_twice(grams, words - 1, seen, places)
            else:
                # A run of three words occurs twice only where its first two do, and so on.
                count = narrowed(places, count, counts, firsts)
                count = spaced_grams(grams, places, count, words, n, begin, hashes)
            rule = TOP + n - 2
            top = top_gram(grams, places, count, chars_before, n, slots, counts, firsts)
            if bounds[rule] < np.inf:
                values[row, rule] = top / chars
                if values[row, rule] > bounds[rule]:
                    above = True
                    break
        if above or words < 5 or longest_duplicate == 0:
            continue
        joined_words(data, at_byte, n_bytes, begin, words, joined, word_starts)
        count = suspects(joined, word_starts, words, keys, seen, places)
        grams[:count] = np.uint64(0)
        for n in range(1, longest_duplicate + 1):
            longer_grams(grams, places, count, words, n, begin, hashes, n_bytes, short_powers)
            rule = DUPLICATE + n - 5
            if n < 5 or bounds[rule] == np.inf:
                continue
            values[row, rule] = duplicate_grams(grams, keys, chars_before, places, count, words, n, slots) / chars
            if values[row, rule] > bounds[rule]:
                break
    return values
