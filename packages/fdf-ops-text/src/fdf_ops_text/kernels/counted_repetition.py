"""How much of a text repeats, by dolma's and DCLM's readings of Gopher's rules (Rae et al. 2021, table A1).

Unlike datatrove's, both count every occurrence of what occurs more than once, the first one too.
"""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.compiling import kernel, subroutine
from fdf_ops_text.kernels.hashing import appended, mixed
from fdf_ops_text.kernels.hashtable import emptied, first_with, table_size
from fdf_ops_text.kernels.lines import LINE_FEED, left_trimmed, right_trimmed
from fdf_ops_text.kernels.repetition import (
    DUPLICATE,
    LINE_CHARS,
    LINES,
    PARAGRAPH_CHARS,
    PARAGRAPHS,
    TOP,
    VALUES,
    most_parts,
)

_STEP = np.uint64(0xFF51AFD7ED558CCD)
LONGEST_TOP, LONGEST = 4, 10


@subroutine
def _parts(data, start, end, feeds, strip, classes, slots, hashes, lengths, counts, held):
    """Cut at every `feeds` line feeds in a row, from the left; count each part by its hash.

    `strip` takes the whitespace off parts and leaves out those of nothing else. Returns parts, those that occur more
    than once, the characters of these, and the characters of all parts.
    """
    parts = 0
    at = start
    more = True
    while more:
        stop = at
        more = False
        while stop < end:
            if data[stop] == LINE_FEED and (feeds == 1 or (stop + 1 < end and data[stop + 1] == LINE_FEED)):
                more = True
                break
            stop += 1
        first, last = at, stop
        at = stop + feeds
        if strip:
            first = left_trimmed(data, first, last, classes)
            last = right_trimmed(data, first, last, classes)
            if first == last:
                continue
        value = np.uint64(0)
        chars = 0
        for i in range(first, last):
            value = appended(value, data[i])
            if data[i] & 0xC0 != 0x80:
                chars += 1
        hashes[parts], lengths[parts] = mixed(value), chars
        parts += 1
    mask = emptied(slots, parts)
    for k in range(parts):
        place = np.uint64(k)
        held[place] = first_with(slots, mask, hashes, place)
        if held[place] == place:
            counts[place] = 0
        counts[held[place]] += 1
    repeated, repeated_chars, chars = 0, 0, 0
    for k in range(parts):
        chars += lengths[k]
        if counts[held[k]] > 1:
            repeated += 1
            repeated_chars += lengths[k]
    return parts, repeated, repeated_chars, chars


@kernel
def counted_repetition(data, starts, ends, classes, first, last, n_chars, hashes, bounds, dclm):
    """Measure per row the shares of VALUES rules, until one is above its bound; NaN where it was not measured.

    `dclm` says whose definitions hold. A row without a line to DCLM has the share infinity of repeated lines.
    """
    rows = len(starts)
    values = np.full((rows, VALUES), np.nan)
    most = most_parts(data, starts, ends, first, last)
    slots = np.zeros(table_size(most), np.uint64)
    grams = np.empty(most, np.uint64)
    lengths = np.empty(most, np.int64)
    counts = np.empty(most, np.int64)
    held = np.empty(most, np.uint64)
    repeats = np.empty(most, np.bool_)
    chars_before = np.empty(most + 1, np.int64)
    rule_needed = False
    for rule in range(TOP, VALUES):
        rule_needed |= bounds[rule] < np.inf
    for row in range(rows):
        start, end = starts[row], ends[row]
        begin = first[row]
        words = last[row] - begin
        chars_before[0] = 0
        for i in range(words):
            chars_before[i + 1] = chars_before[i] + n_chars[begin + i]
        total = chars_before[words]
        parts, repeated, repeated_chars, chars = _parts(
            data, start, end, 1, dclm, classes, slots, grams, lengths, counts, held
        )
        if dclm:
            if parts == 0:
                values[row, LINES] = np.inf
                continue
            # A single line repeats nothing.
            values[row, LINES] = repeated / parts
            values[row, LINE_CHARS] = repeated_chars / chars
            if values[row, LINES] > bounds[LINES]:
                continue
            parts, repeated, repeated_chars, chars = _parts(
                data, start, end, 2, dclm, classes, slots, grams, lengths, counts, held
            )
            values[row, PARAGRAPHS] = repeated / parts
            values[row, PARAGRAPH_CHARS] = repeated_chars / chars
            if (
                values[row, PARAGRAPHS] > bounds[PARAGRAPHS]
                or values[row, LINE_CHARS] > bounds[LINE_CHARS]
                or values[row, PARAGRAPH_CHARS] > bounds[PARAGRAPH_CHARS]
            ):
                continue
        else:
            values[row, LINES] = repeated / parts
            values[row, LINE_CHARS] = repeated_chars / max(total, 1)
            if values[row, LINES] > bounds[LINES] or values[row, LINE_CHARS] > bounds[LINE_CHARS]:
                continue
        if not rule_needed:
            continue
        for i in range(words):
            grams[i] = hashes[begin + i]
            repeats[i] = True
        any_repeats = True
        for n in range(2, LONGEST + 1):
            count = words - n + 1
            if count <= 0:
                break
            rule = TOP + n - 2 if n <= LONGEST_TOP else DUPLICATE + n - 5
            if any_repeats:
                candidates = 0
                for i in range(count):
                    grams[i] = mixed(grams[i] * _STEP + hashes[begin + i + n - 1])
                    # What repeats has parts that repeat: only such grams are looked up.
                    repeats[i] = repeats[i] and repeats[i + 1]
                    candidates += repeats[i]
                mask = emptied(slots, candidates)
                for k in range(count):
                    place = np.uint64(k)
                    if repeats[place]:
                        held[place] = first_with(slots, mask, grams, place)
                        if held[place] == place:
                            counts[place] = 0
                        counts[held[place]] += 1
                any_repeats = False
                for j in range(count):
                    repeats[j] = repeats[j] and counts[held[j]] > 1
                    any_repeats |= repeats[j]
            if not any_repeats:
                if dclm:
                    break
                # Every gram occurs once: the first of them is dolma's most frequent one, and none is a duplicate.
                share = 0.0
                if n <= LONGEST_TOP:
                    share = chars_before[n] / max(total, 1)
            elif n <= LONGEST_TOP:
                highest, length = 0, 0
                for i in range(count):
                    if repeats[i] and held[i] == np.uint64(i):
                        chars = chars_before[i + n] - chars_before[i]
                        if counts[i] > highest or (dclm and counts[i] == highest and chars > length):
                            highest, length = counts[i], chars
                share = highest * length / max(total, 1)
            elif dclm:
                covered, reached = 0, 0
                for i in range(count):
                    if repeats[i]:
                        covered += chars_before[i + n] - chars_before[max(i, reached)]
                        reached = i + n
                share = covered / total
            else:
                repeated_chars, chars = 0, 0
                for i in range(count):
                    length = chars_before[i + n] - chars_before[i]
                    chars += length
                    if repeats[i]:
                        repeated_chars += length
                share = repeated_chars / max(chars, 1)
            values[row, rule] = share
            if share > bounds[rule]:
                break
    return values
