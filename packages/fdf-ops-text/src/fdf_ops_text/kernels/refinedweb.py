r"""Takes lines out of texts that are no text, as RefinedWeb does (Penedo et al. 2023, appendix G; DCLM's reading).

Rules are applied to the whole text one after the other. Each but the one for short lines ends by taking the whitespace
off both ends of the text, and the next one sees the first and the last line without it.
"""

from __future__ import annotations

import numpy as np

from fdf_ops_text.case import DIGIT, LOWER
from fdf_ops_text.characters import DECIMAL, SPACE, UPPER, WORD
from fdf_ops_text.kernels.c4 import spelled_here
from fdf_ops_text.kernels.characters import decode, previous
from fdf_ops_text.kernels.compiling import kernel, subroutine
from fdf_ops_text.kernels.lines import LINE_FEED, chars_between, left_trimmed, right_trimmed

COMMA, STOP, LETTER_I = 0x2C, 0x2E, 0x69
THOUSAND, MILLION, BILLION = 0x6B, 0x6D, 0x62
ANY_CHARACTERS = 3
"""What the three dots of "Read more..." stand for: DCLM's pattern does not escape them."""


@subroutine
def _stripped(data, line_start, line_end, low, high, classes):
    """Take the whitespace off both ends of a text of lines `low` to `high` (exclusive); return what lines are left."""
    while low < high:
        line_start[low] = left_trimmed(data, line_start[low], line_end[low], classes)
        if line_start[low] < line_end[low]:
            break
        low += 1
    while low < high:
        line_end[high - 1] = right_trimmed(data, line_start[high - 1], line_end[high - 1], classes)
        if line_start[high - 1] < line_end[high - 1]:
            break
        high -= 1
    return low, high


@subroutine
def _n_words(data, at, end, classes, enough):
    """Count the words of a line, and stop at `enough`."""
    words, inside = 0, False
    while at < end:
        code, size = decode(data, at)
        blank = classes[code] & SPACE != 0
        if not blank and not inside:
            words += 1
            if words >= enough:
                break
        inside = not blank
        at += size
    return words


@subroutine
def _is_counter(data, at, end, classes, case, nouns, noun_ends):
    """Say whether a line is a number and what it counts ("1.2k likes"), with no letter or digit around them."""
    code, size = 0, 0
    while at < end:
        code, size = decode(data, at)
        code = case[code] & LOWER
        if classes[code] & WORD:
            break
        at += size
    if at >= end or not classes[code] & DECIMAL:
        return False
    while at < end:
        code, size = decode(data, at)
        code = case[code] & LOWER
        if code != COMMA and code != STOP and not classes[code] & DECIMAL:
            break
        at += size
    if at < end and (code == THOUSAND or code == MILLION or code == BILLION):
        at += size
    blank = at
    at = left_trimmed(data, at, end, classes)
    if at == blank:
        return False
    first = 0
    for last in noun_ends:
        after = at
        spelled = True
        for i in range(first, last):
            if after >= end:
                spelled = False
                break
            code, size = decode(data, after)
            if case[code] & LOWER != nouns[i]:
                spelled = False
                break
            after += size
        if spelled:
            while after < end:
                code, size = decode(data, after)
                if classes[case[code] & LOWER] & WORD:
                    return False
                after += size
            return True
        first = last
    return False


@subroutine
def _without(data, at, end, out, to, phrase, classes):
    """Write a line without a phrase, and without one character of whitespace before it; return where it ends."""
    start = at
    while at < end:
        byte = data[at]
        # It starts with an i, which may be one of two beyond ASCII.
        if byte | 0x20 == LETTER_I or byte == 0xC4:
            spelled = spelled_here(data, at, end, phrase, True)
            if spelled > 0:
                if at > start:
                    before = previous(data, at)
                    if classes[decode(data, before)[0]] & SPACE:
                        to -= at - before
                at += spelled
                continue
        out[to] = byte
        to += 1
        at += 1
    return to


@subroutine
def _before_suffix(data, start, end, phrase, classes):
    """Return where a line ends without a phrase, the characters after it, and whitespace before it."""
    at = end
    for _ in range(ANY_CHARACTERS):
        if at <= start:
            return end
        at = previous(data, at)
    # Its letters are spelled in ASCII alone: no other character is one of them in another case.
    at -= len(phrase)
    if at < start or spelled_here(data, at, end, phrase, True) != len(phrase):
        return end
    if at > start:
        before = previous(data, at)
        if classes[decode(data, before)[0]] & SPACE:
            return before
    return at


@subroutine
def _behind_prefix(data, start, end, phrase, classes):
    """Return where a line starts without a phrase and one character of whitespace behind it."""
    at = start + spelled_here(data, start, end, phrase, True)
    if at > start and at < end:
        code, size = decode(data, at)
        if classes[code] & SPACE:
            return at + size
    return at


@kernel
def corrected_lines(
    data,
    starts,
    ends,
    classes,
    case,
    nouns,
    noun_ends,
    phrases,
    phrase_ends,
    most_feeds,
    most_upper,
    most_numeric,
    counters,
    fewest_words,
    cuts,
    most_cut_words,
):
    """Write texts without the lines that break a rule; return the new bytes and each row's borders in them.

    `nouns` are what counters count; `phrases` what is cut out of lines of at most `most_cut_words` words (if `cuts`):
    anywhere, at the end and at the start. A rule is off where its bound is infinite, or `fewest_words` is 0.
    """
    rows = len(starts)
    size, most = 0, 1
    longest = 0
    for row in range(rows):
        size += ends[row] - starts[row]
        longest = max(longest, ends[row] - starts[row])
        lines = 1
        for i in range(starts[row], ends[row]):
            lines += data[i] == LINE_FEED
        most = max(most, lines)
    out = np.empty(size, np.uint8)
    out_starts = np.zeros(rows, np.int64)
    out_ends = np.zeros(rows, np.int64)
    scratch = np.empty(longest + 1, np.uint8)
    line_start = np.empty(most, np.int64)
    line_end = np.empty(most, np.int64)
    n_digits = np.empty(most, np.int64)
    everywhere = phrases[: phrase_ends[0]]
    suffix = phrases[phrase_ends[0] : phrase_ends[1]]
    prefix = phrases[phrase_ends[1] : phrase_ends[2]]
    written = 0
    for row in range(rows):
        out_starts[row] = written
        end = ends[row]
        lines, feeds = 0, 0
        begin = starts[row]
        for i in range(starts[row], end):
            if data[i] != LINE_FEED:
                continue
            if i == begin and feeds >= most_feeds:
                begin = i + 1
                continue
            feeds = feeds + 1 if i == begin else 1
            line_start[lines], line_end[lines] = begin, i
            lines += 1
            begin = i + 1
        line_start[lines], line_end[lines] = begin, end
        low, high = 0, lines + 1

        kept = 0
        for line in range(low, high):
            at, stop = line_start[line], line_end[line]
            chars, upper, digits = 0, 0, 0
            while at < stop:
                chars += 1
                byte = data[at]
                if byte < 0x80:
                    upper += 0x41 <= byte <= 0x5A
                    digits += 0x30 <= byte <= 0x39
                    at += 1
                    continue
                code, width = decode(data, at)
                upper += classes[code] & UPPER != 0
                digits += case[code] & DIGIT != 0
                at += width
            if chars > 0 and upper / chars > most_upper:
                continue
            line_start[kept], line_end[kept], n_digits[kept] = line_start[line], line_end[line], digits
            kept += 1
        high = kept
        if most_upper < np.inf:
            low, high = _stripped(data, line_start, line_end, low, high, classes)

        if most_numeric < np.inf:
            kept = 0
            for line in range(low, high):
                if n_digits[line] > 0:
                    chars = chars_between(data, line_start[line], line_end[line])
                    if n_digits[line] / chars > most_numeric:
                        continue
                line_start[kept], line_end[kept] = line_start[line], line_end[line]
                kept += 1
            low, high = _stripped(data, line_start, line_end, 0, kept, classes)

        if counters:
            kept = 0
            for line in range(low, high):
                if _is_counter(data, line_start[line], line_end[line], classes, case, nouns, noun_ends):
                    continue
                line_start[kept], line_end[kept] = line_start[line], line_end[line]
                kept += 1
            low, high = _stripped(data, line_start, line_end, 0, kept, classes)

        kept, to = 0, 0
        for line in range(low, high):
            at, stop = line_start[line], line_end[line]
            if at < stop and _n_words(data, at, stop, classes, fewest_words) < fewest_words:
                continue
            line_start[kept] = to
            if cuts and at < stop and _n_words(data, at, stop, classes, most_cut_words + 1) <= most_cut_words:
                to = _without(data, at, stop, scratch, to, everywhere, classes)
                if left_trimmed(scratch, line_start[kept], to, classes) == to:
                    to = line_start[kept]
                    continue
            else:
                for i in range(at, stop):
                    scratch[to] = data[i]
                    to += 1
            line_end[kept] = to
            kept += 1
        low, high = 0, kept
        if cuts:
            low, high = _stripped(scratch, line_start, line_end, low, high, classes)
            for at_end in (True, False):
                kept = 0
                for line in range(low, high):
                    at, stop = line_start[line], line_end[line]
                    if at < stop and _n_words(scratch, at, stop, classes, most_cut_words + 1) <= most_cut_words:
                        if at_end:
                            stop = _before_suffix(scratch, at, stop, suffix, classes)
                        else:
                            at = _behind_prefix(scratch, at, stop, prefix, classes)
                        if left_trimmed(scratch, at, stop, classes) == stop:
                            continue
                    line_start[kept], line_end[kept] = at, stop
                    kept += 1
                low, high = _stripped(scratch, line_start, line_end, 0, kept, classes)

        for line in range(low, high):
            if line > low:
                out[written] = LINE_FEED
                written += 1
            for i in range(line_start[line], line_end[line]):
                out[written] = scratch[i]
                written += 1
        out_ends[row] = written
    return out[:written], out_starts, out_ends
