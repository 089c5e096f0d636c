"""How much of a text repeats, as datatrove 0.10.1 measures Gopher's rules (Rae et al. 2021, table A1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.compiling import inline, kernel
from fdf_ops_text.kernels.hashing import BASE, ONE, appended, mixed, power
from fdf_ops_text.kernels.hashtable import first_with, table_size
from fdf_ops_text.kernels.lines import LINE_FEED, left_trimmed, right_trimmed

PARAGRAPHS, PARAGRAPH_CHARS, LINES, LINE_CHARS, TOP, DUPLICATE, VALUES = 0, 1, 2, 3, 4, 7, 13
"""The columns of `repetition`: four shares of lines, top 2- to 4-grams from TOP, 5- to 10-grams from DUPLICATE on."""
_STEP = np.uint64(0xFF51AFD7ED558CCD)
SHORT = 64


@inline
def repeated_parts(data, start, end, fewest, slots, hashes):
    """Cut at runs of at least `fewest` line feeds; return parts, repeated parts, and the characters of the latter.

    A part is repeated where the same part stands before it. At least one part: text without a cut is one.
    """
    cuts = 1
    for i in range(start, end):
        if data[i] == LINE_FEED and (i == start or data[i - 1] != LINE_FEED):
            cuts += 1
    size = table_size(cuts)
    slots[:size] = 0
    parts, repeated, repeated_chars = 0, 0, 0
    at = start
    while True:
        value = np.uint64(0)
        chars = 0
        following = -1
        while at < end:
            if data[at] == LINE_FEED:
                run = at
                while run < end and data[run] == LINE_FEED:
                    run += 1
                if run - at >= fewest:
                    following = run
                    break
                for _ in range(run - at):
                    value = appended(value, LINE_FEED)
                    chars += 1
                at = run
                continue
            value = appended(value, data[at])
            if data[at] & 0xC0 != 0x80:
                chars += 1
            at += 1
        hashes[parts] = mixed(value)
        if first_with(slots, size, hashes, parts) != parts:
            repeated += 1
            repeated_chars += chars
        parts += 1
        if following < 0:
            return parts, repeated, repeated_chars
        at = following


@inline
def top_gram(grams, chars_before, count, n, slots, counts):
    """Return occurrences times characters of the most frequent n-gram, joined by spaces; of several, the first seen."""
    size = table_size(count)
    slots[:size] = 0
    most, at = 0, 0
    for i in range(count):
        held = first_with(slots, size, grams, i)
        if held == i:
            counts[i] = 0
        counts[held] += 1
        if counts[held] > most or (counts[held] == most and held < at):
            most, at = counts[held], held
    return most * (chars_before[at + n] - chars_before[at] + n - 1)


@inline
def duplicate_grams(grams, keys, chars_before, count, n, slots):
    """Return the characters of n-grams that stood before, going on behind each one that is found.

    Grams are compared as their words without anything between them.
    """
    size = table_size(count)
    slots[:size] = 0
    repeated, i = 0, 0
    while i < count:
        keys[i] = mixed(grams[i])
        if first_with(slots, size, keys, i) == i:
            i += 1
            continue
        repeated += chars_before[i + n] - chars_before[i]
        i += n
    return repeated


@kernel
def repetition(data, starts, ends, text_chars, classes, first, last, n_bytes, n_chars, hashes, bounds):
    """Measure per row the shares of VALUES rules, until one is above its bound; NaN where it was not measured."""
    rows = len(starts)
    values = np.full((rows, VALUES), np.nan)
    most = 2
    for row in range(rows):
        most = max(most, last[row] - first[row])
        cuts = 2
        for i in range(starts[row], ends[row]):
            cuts += data[i] == LINE_FEED
        most = max(most, cuts)
    slots = np.zeros(table_size(most), np.int32)
    grams = np.empty(most, np.uint64)
    keys = np.empty(most, np.uint64)
    powers = np.empty(most, np.uint64)
    counts = np.empty(most, np.int32)
    chars_before = np.empty(most + 1, np.int64)
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
            size = n_bytes[begin + i]
            powers[i] = short_powers[size] if size < SHORT else power(size)
            grams[i] = hashes[begin + i]
        above = False
        for n in range(2, 5):
            count = words - n + 1
            for i in range(count):
                grams[i] = mixed(grams[i] * _STEP + hashes[begin + i + n - 1])
            rule = TOP + n - 2
            if count <= 0 or bounds[rule] == np.inf:
                continue
            values[row, rule] = top_gram(grams, chars_before, count, n, slots, counts) / chars
            if values[row, rule] > bounds[rule]:
                above = True
                break
        if above:
            continue
        for i in range(words):
            grams[i] = hashes[begin + i]
        for n in range(2, 11):
            count = words - n + 1
            for i in range(count):
                grams[i] = grams[i] * powers[i + n - 1] + hashes[begin + i + n - 1]
            rule = DUPLICATE + n - 5
            if n < 5 or bounds[rule] == np.inf:
                continue
            values[row, rule] = duplicate_grams(grams, keys, chars_before, count, n, slots) / chars
            if values[row, rule] > bounds[rule]:
                break
    return values
