"""Finds lines, trims them, and counts what stands at their ends."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import LINE_BREAK, SPACE
from fdf_ops_text.kernels.blocks import (
    BLOCK,
    NO_BITS,
    count_bits,
    equal_here,
    first_bit,
    last_bit,
    lowest_bits,
    placed,
    with_a_block,
    within_here,
)
from fdf_ops_text.kernels.characters import class_of, decode, previous
from fdf_ops_text.kernels.compiling import inline, kernel, subroutine

LINE_FEED, CARRIAGE_RETURN, STOP, BLANK = 0x0A, 0x0D, 0x2E, 0x20
NO_MORE = -1
_ONE, _TWO = np.uint64(1), np.uint64(2)
_LAST, _LAST_TWO = np.uint64(BLOCK - 1), np.uint64(BLOCK - 2)

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
        if at + BLOCK <= len(data):
            found = equal_here(data, np.uint64(at), LINE_FEED)
            if universal:
                # The breaks of a byte, and what those of two and three bytes begin with.
                found |= within_here(data, np.uint64(at), 0x0B, 3) | within_here(data, np.uint64(at), 0x1C, 3)
                found |= equal_here(data, np.uint64(at), 0xC2) | equal_here(data, np.uint64(at), 0xE2)
            at += first_bit(found)
            if at >= end:
                break
            if found == NO_BITS:
                continue
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
def _first_mark(data, start, end, classes):
    while start < end:
        code, size = decode(data, start)
        if not class_of(classes, code) & SPACE:
            return start
        start += size
    return end


@subroutine
def _last_mark(data, start, end, classes):
    while end > start:
        at = previous(data, end)
        if not class_of(classes, decode(data, at)[0]) & SPACE:
            return end
        end = at
    return start


@inline
def left_trimmed(data, start, end, classes):
    """Return where the first character stands that is not whitespace; `end` where there is none."""
    if start < end and BLANK < data[np.uint64(start)] < 0x7F:
        return start
    return _first_mark(data, start, end, classes)


@inline
def right_trimmed(data, start, end, classes):
    """Return where the last character ends that is not whitespace; `start` where there is none."""
    if start < end and BLANK < data[np.uint64(end - 1)] < 0x7F:
        return end
    return _last_mark(data, start, end, classes)


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


@subroutine
def _opens_line(data, start, at, classes):
    """Say whether nothing but whitespace lies between this place and the start of its line."""
    while at > start:
        at = previous(data, at)
        kind = class_of(classes, decode(data, at)[0])
        if kind & LINE_BREAK:
            return True
        if not kind & SPACE:
            return False
    return True


@subroutine
def _closes_line(data, at, end, classes):
    """Say whether nothing but whitespace lies between this place and the end of its line."""
    while at < end:
        code, size = decode(data, at)
        kind = class_of(classes, code)
        if kind & LINE_BREAK:
            return True
        if not kind & SPACE:
            return False
        at += size
    return True


@subroutine
def _marks_of_lines(data, start, end, classes, bullets, leads, kinds):
    """Return what `line_marks` counts in one text, of trimmed lines as `str.splitlines` has them.

    Line by line would be slower: most lines neither open with what may be a bullet nor close with what may be an
    ellipsis, and 64 bytes at a time show which do.
    """
    n_lines, n_bullets, n_ellipses = 0, 0, 0
    plain_before = NO_BITS
    broken = start
    at = start
    while at < end:
        base, shift = placed(data, at)
        own = lowest_bits(end - at)
        feeds = (equal_here(data, base, LINE_FEED) >> shift) & own
        others = within_here(data, base, 0x0B, 3) | within_here(data, base, 0x1C, 3)
        others |= equal_here(data, base, 0xC2) | equal_here(data, base, 0xE2)
        others = (others >> shift) & own
        plain = (within_here(data, base, BLANK + 1, 0x7E - BLANK) >> shift) & own
        # What follows printing ASCII opens no line, and what it follows closes none.
        may_open = ~(plain << _ONE | plain_before) & own
        may_close = own & ~(plain >> _ONE)
        if feeds != NO_BITS:
            n_lines += count_bits(feeds)
            broken = max(broken, at + last_bit(feeds) + 1)
        while others != NO_BITS:
            i = at + first_bit(others)
            others &= others - _ONE
            code, size = decode(data, i)
            # A line feed behind a carriage return has been counted.
            counted = code == CARRIAGE_RETURN and i + 1 < end and data[np.uint64(i + 1)] == LINE_FEED
            if class_of(classes, code) & LINE_BREAK and not counted:
                n_lines += 1
                broken = max(broken, i + size)
        found = NO_BITS
        for lead in leads:  # Several bullets may begin with one byte.
            found |= equal_here(data, base, lead)
        found = (found >> shift) & may_open
        while found != NO_BITS:
            i = at + first_bit(found)
            found &= found - _ONE
            code, _ = decode(data, i)
            if class_of(classes, code) & SPACE:
                continue
            for bullet in bullets:
                if code == bullet and _opens_line(data, start, i, classes):
                    n_bullets += 1
                    break
        found = ((equal_here(data, base, STOP) | equal_here(data, base, 0xA6)) >> shift) & may_close
        while found != NO_BITS:
            i = at + first_bit(found)
            found &= found - _ONE
            # The line begins at this place or before the three bytes of an ellipsis: those hold no break.
            if ends_in_ellipsis(data, start, i + 1, kinds) and _closes_line(data, i + 1, end, classes):
                n_ellipses += 1
        plain_before = plain >> _LAST
        at += BLOCK
    # A break at the end begins no further line.
    return n_lines + (broken < end), n_bullets, n_ellipses


@kernel
def line_marks(data, starts, ends, classes, bullets, kinds, universal, trim, skip_blank):
    """Count per row: lines, lines that start with one of the code points `bullets`, lines that end in an ellipsis.

    `trim` looks at lines without the whitespace around them, `skip_blank` does not count those of nothing else.
    """
    data = with_a_block(data)
    rows = len(starts)
    n_lines = np.zeros(rows, np.int64)
    n_bullets = np.zeros(rows, np.int64)
    n_ellipses = np.zeros(rows, np.int64)
    if universal and trim and not skip_blank:
        leads = np.empty(len(bullets), np.int64)
        for i in range(len(bullets)):
            code = bullets[i]
            leads[i] = code if code < 0x80 else (0xC0 | code >> 6 if code < 0x800 else 0xE0 | code >> 12)
        for row in range(rows):
            n_lines[row], n_bullets[row], n_ellipses[row] = _marks_of_lines(
                data, starts[row], ends[row], classes, bullets, leads, kinds
            )
        return n_lines, n_bullets, n_ellipses
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


@inline
def plain_counts(data, start, end):
    """Count characters, line feeds, ``#``, places where three dots begin, ``…``, and sure starts of words."""
    chars, feeds, hashes, triples, ellipses, word_starts = 0, 0, 0, 0, 0, 0
    breaks_before, dots_before = NO_BITS, NO_BITS
    at = start
    while at < end:
        base, shift = placed(data, at)
        own = lowest_bits(end - at)
        feed = (equal_here(data, base, LINE_FEED) >> shift) & own
        breaks = (equal_here(data, base, BLANK) >> shift) & own | feed
        dots = (equal_here(data, base, STOP) >> shift) & own
        chars += count_bits(~(within_here(data, base, 0x80, 0x40) >> shift) & own)
        feeds += count_bits(feed)
        hashes += count_bits((equal_here(data, base, 0x23) >> shift) & own)
        triples += count_bits(dots & (dots << _ONE | dots_before >> _ONE) & (dots << _TWO | dots_before))
        marks = (within_here(data, base, BLANK + 1, 0x7E - BLANK) >> shift) & own
        word_starts += count_bits(marks & (breaks << _ONE | breaks_before))
        # The last two bytes that were looked at, as bits 0 and 1.
        breaks_before, dots_before = breaks >> _LAST, dots >> _LAST_TWO
        wide = (equal_here(data, base, 0xE2) >> shift) & own
        while wide != NO_BITS:
            i = np.uint64(at + first_bit(wide))
            wide &= wide - _ONE
            ellipses += (data[i + _ONE] == 0x80) & (data[i + _TWO] == 0xA6)
        at += BLOCK
    return chars, feeds, hashes, triples, ellipses, word_starts


@subroutine
def runs_of_dots(data, start, end):
    """Count three dots wherever they stand, from the left and not overlapping."""
    dots = 0
    at = start
    while at < end:
        base, shift = placed(data, at)
        at += first_bit(equal_here(data, base, STOP) >> shift)
        run = at
        while at < end and data[np.uint64(at)] == STOP:
            at += 1
        # In a block without a dot `at` stands behind it now, and perhaps behind the text.
        dots += (at - run) // 3
    return dots


@kernel
def text_marks(data, starts, ends):
    """Count per row: characters, line feeds, ``#``, ``...`` (found from the left, not overlapping), ``…``, and printing
    ASCII that follows a blank or a line feed: there is at least a word for each.
    """
    data = with_a_block(data)
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
