"""Finds lines, trims them, and counts what stands at their ends."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import LINE_BREAK, SPACE
from fdf_ops_text.kernels.bytes import WIDTH, eight_bytes
from fdf_ops_text.kernels.characters import class_of, decode, previous
from fdf_ops_text.kernels.compiling import kernel, subroutine

LINE_FEED, CARRIAGE_RETURN, STOP, BLANK = 0x0A, 0x0D, 0x2E, 0x20
NO_MORE = -1
_BLANKS = np.uint64(0x2020202020202020)
_TOP_BITS = np.uint64(0x8080808080808080)

THREE_DOTS = 1
"""``...``"""
ONE_CHARACTER = 2
"""``…``"""
SPACED_DOTS = 4
"""``. . .``"""


@subroutine
def next_line(data, at, end, classes, universal):
    r"""Return where the line that begins at `at` ends, and where the next one begins (NO_MORE: nowhere).

    `universal` breaks as `str.splitlines` does, where a break at the end begins no further line; otherwise only line
    feeds break, as in ``split("\n")``.
    """
    while at < end:
        # Eight bytes of printing ASCII at once: none is below a blank (a borrow) or above 0x7F (the top bit).
        while at + WIDTH <= end:
            eight = eight_bytes(data, np.uint64(at))
            if ((eight - _BLANKS) | eight) & _TOP_BITS:
                break
            at += WIDTH
        if at == end:
            break
        byte = data[np.uint64(at)]
        if byte == LINE_FEED:
            return at, (NO_MORE if universal and at + 1 == end else at + 1)
        if not universal or (0x1E < byte < 0xC2) or byte > 0xE2:
            at += 1
            continue
        code, size = decode(data, at)
        if class_of(classes, code) & LINE_BREAK:
            after = at + size
            if code == CARRIAGE_RETURN and after < end and data[after] == LINE_FEED:
                after += 1
            return at, (NO_MORE if after == end else after)
        at += size
    return end, NO_MORE


@subroutine
def left_trimmed(data, start, end, classes):
    """Return where the first character stands that is not whitespace; `end` where there is none."""
    while start < end:
        code, size = decode(data, start)
        if not class_of(classes, code) & SPACE:
            return start
        start += size
    return end


@subroutine
def right_trimmed(data, start, end, classes):
    """Return where the last character ends that is not whitespace; `start` where there is none."""
    while end > start:
        at = previous(data, end)
        if not class_of(classes, decode(data, at)[0]) & SPACE:
            return end
        end = at
    return start


@subroutine
def chars_between(data, start, end):
    """Return the number of characters between two bytes."""
    count = 0
    for i in range(start, end):
        if data[i] & 0xC0 != 0x80:
            count += 1
    return count


@subroutine
def ends_in_ellipsis(data, start, end, kinds):
    """Say whether a line ends in one of these kinds of ellipsis."""
    if end - start < 3:
        return False
    a, b, c = data[end - 3], data[end - 2], data[end - 1]
    if kinds & THREE_DOTS and a == STOP and b == STOP and c == STOP:
        return True
    if kinds & ONE_CHARACTER and a == 0xE2 and b == 0x80 and c == 0xA6:
        return True
    return (
        kinds & SPACED_DOTS != 0
        and end - start >= 5
        and a == STOP
        and b == BLANK
        and c == STOP
        and data[end - 4] == BLANK
        and data[end - 5] == STOP
    )


@kernel
def line_marks(data, starts, ends, classes, bullets, kinds, universal, trim, skip_blank):
    """Count per row: lines, lines that start with one of the code points `bullets`, lines that end in an ellipsis.

    `trim` looks at lines without the whitespace around them, `skip_blank` does not count those of nothing else.
    """
    rows = len(starts)
    n_lines = np.zeros(rows, np.int64)
    n_bullets = np.zeros(rows, np.int64)
    n_ellipses = np.zeros(rows, np.int64)
    for row in range(rows):
        at, end = starts[row], ends[row]
        if universal and at == end:
            continue
        while at != NO_MORE:
            stop, following = next_line(data, at, end, classes, universal)
            first, last = at, stop
            if trim or skip_blank:
                first = left_trimmed(data, at, stop, classes)
                if skip_blank and first == stop:
                    at = following
                    continue
                last = right_trimmed(data, first, stop, classes)
                if not trim:
                    first, last = at, stop
            n_lines[row] += 1
            if first < last:
                code, _ = decode(data, first)
                for bullet in bullets:
                    if code == bullet:
                        n_bullets[row] += 1
                        break
            if ends_in_ellipsis(data, first, last, kinds):
                n_ellipses[row] += 1
            at = following
    return n_lines, n_bullets, n_ellipses


@subroutine
def plain_counts(data, start, end):
    """Count characters, line feeds, ``#``, places where three dots begin, ``…``, and sure starts of words.

    Without a branch, so that many are counted at once.
    """
    chars, feeds, hashes, triples, ellipses, word_starts = 0, 0, 0, 0, 0, 0
    for i in range(start, end):
        byte = data[np.uint64(i)]
        chars += byte & 0xC0 != 0x80
        feeds += byte == LINE_FEED
        hashes += byte == 0x23
    for i in range(start, end - 2):
        first, second, third = data[np.uint64(i)], data[np.uint64(i + 1)], data[np.uint64(i + 2)]
        triples += (first == STOP) & (second == STOP) & (third == STOP)
        ellipses += (first == 0xE2) & (second == 0x80) & (third == 0xA6)
    for i in range(start, end - 1):
        first, second = data[np.uint64(i)], data[np.uint64(i + 1)]
        word_starts += ((first == BLANK) | (first == LINE_FEED)) & (second > BLANK) & (second < 0x7F)
    return chars, feeds, hashes, triples, ellipses, word_starts


@subroutine
def runs_of_dots(data, start, end):
    """Count three dots wherever they stand, from the left and not overlapping."""
    dots, run = 0, 0
    for i in range(start, end):
        if data[np.uint64(i)] == STOP:
            run += 1
        else:
            dots += run // 3
            run = 0
    return dots + run // 3


@kernel
def text_marks(data, starts, ends):
    """Count per row: characters, line feeds, ``#``, ``...`` (found from the left, not overlapping), ``…``, and printing
    ASCII that follows a blank or a line feed: there is at least a word for each.
    """
    rows = len(starts)
    n_chars = np.zeros(rows, np.int64)
    n_feeds = np.zeros(rows, np.int64)
    n_hashes = np.zeros(rows, np.int64)
    n_dots = np.zeros(rows, np.int64)
    n_ellipses = np.zeros(rows, np.int64)
    n_starts = np.zeros(rows, np.int64)
    for row in range(rows):
        counted = plain_counts(data, starts[row], ends[row])
        n_chars[row], n_feeds[row], n_hashes[row], triples, n_ellipses[row], n_starts[row] = counted
        if triples:
            n_dots[row] = runs_of_dots(data, starts[row], ends[row])
    return n_chars, n_feeds, n_hashes, n_dots, n_ellipses, n_starts
