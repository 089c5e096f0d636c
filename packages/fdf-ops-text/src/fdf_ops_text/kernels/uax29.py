"""Finds words as Unicode does: UAX #29, section 4, default word boundaries."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import ALNUM, SPACE
from fdf_ops_text.kernels.characters import class_of, decode
from fdf_ops_text.kernels.compiling import inline, kernel, subroutine
from fdf_ops_text.kernels.hashing import appended
from fdf_ops_text.kernels.words import flags_of, kinds, room_for_words

# Values of the property Word_Break. The order is used: three that break lines, three that are passed over.
OTHER, CR, LF, NEWLINE, EXTEND, FORMAT, ZWJ = 0, 1, 2, 3, 4, 5, 6
ALETTER, HEBREW_LETTER, NUMERIC, KATAKANA, EXTEND_NUM_LET = 7, 8, 9, 10, 11
SINGLE_QUOTE, DOUBLE_QUOTE, MID_NUM_LET, MID_LETTER, MID_NUM = 12, 13, 14, 15, 16
REGIONAL_INDICATOR, WSEG_SPACE = 17, 18
PICTOGRAPHIC = 32
"""Added to the value of a character that has the property Extended_Pictographic."""
VALUE = 31


@inline
def _is_letter(value):
    """AHLetter of the rules."""
    return value == ALETTER or value == HEBREW_LETTER


@inline
def _is_passed_over(value):
    """Say whether rule WB4 joins it to what is before, so that the rules after it do not see it."""
    return EXTEND <= value <= ZWJ


@subroutine
def _value_after(data, at, end, breaks):
    """Return the value of the next character that is not passed over; OTHER at the end."""
    while at < end:
        code, size = decode(data, at)
        value = class_of(breaks, code) & VALUE
        if not _is_passed_over(value):
            return value
        at += size
    return OTHER


@subroutine
def _joined(before, prior, value, data, after, end, breaks):
    """Say whether the rules WB5 to WB13b forbid a break between `prior` and `value`.

    `before` is the value before `prior`; `after` is where the character behind `value` starts.
    """
    if _is_letter(prior):
        if _is_letter(value) or value == NUMERIC or value == EXTEND_NUM_LET:
            return True
        if value == SINGLE_QUOTE and prior == HEBREW_LETTER:
            return True
        if value == MID_LETTER or value == MID_NUM_LET or value == SINGLE_QUOTE:
            return _is_letter(_value_after(data, after, end, breaks))
        if value == DOUBLE_QUOTE and prior == HEBREW_LETTER:
            return _value_after(data, after, end, breaks) == HEBREW_LETTER
        return False
    if prior == NUMERIC:
        if value == NUMERIC or _is_letter(value) or value == EXTEND_NUM_LET:
            return True
        if value == MID_NUM or value == MID_NUM_LET or value == SINGLE_QUOTE:
            return _value_after(data, after, end, breaks) == NUMERIC
        return False
    if prior == KATAKANA:
        return value == KATAKANA or value == EXTEND_NUM_LET
    if prior == EXTEND_NUM_LET:
        return _is_letter(value) or value == NUMERIC or value == KATAKANA or value == EXTEND_NUM_LET
    if _is_letter(value):
        if prior == MID_LETTER or prior == MID_NUM_LET or prior == SINGLE_QUOTE:
            return _is_letter(before)
        return prior == DOUBLE_QUOTE and before == HEBREW_LETTER and value == HEBREW_LETTER
    if value == NUMERIC and (prior == MID_NUM or prior == MID_NUM_LET or prior == SINGLE_QUOTE):
        return before == NUMERIC
    return False


@kernel
def unicode_words(data, starts, ends, classes, breaks, alnum):
    """Find the segments between word boundaries that are not whitespace alone.

    `breaks` holds per code point its Word_Break and PICTOGRAPHIC; `alnum` asks for segments that start with a letter or
    a digit. Returns what `whitespace_words` returns.
    """
    rows = len(starts)
    most = 0
    for row in range(rows):
        most += ends[row] - starts[row]
    first, last, at_byte, n_bytes, n_chars, flags, hashes = room_for_words(rows, most)
    word = 0
    for row in range(rows):
        first[row] = word
        at, end = starts[row], ends[row]
        start = at
        value = np.uint64(0)
        some, every, chars, head = 0, -1, 0, 0
        # The last character as it is, and the last two that are not passed over.
        last_value, prior, before = OTHER, OTHER, OTHER
        flag_open = False
        while at <= end:
            # Letters of ASCII behind another letter (WB5) are most of most texts.
            if last_value == ALETTER:
                run = at
                while at < end and data[np.uint64(at)] < 0x80 and breaks[data[np.uint64(at)]] == ALETTER:
                    byte = data[np.uint64(at)]
                    value = appended(value, byte)
                    kind = kinds(classes[byte])
                    some |= kind
                    every &= kind
                    at += 1
                if at > run:
                    chars += at - run
                    before = ALETTER
            joins = False
            code, size, broken, kind = 0, 1, 0, 0
            if at < end:
                code, size = decode(data, at)
                held = class_of(breaks, code)
                broken = held & VALUE
                kind = kinds(class_of(classes, code))
                if at == start or (broken == ALETTER and last_value == ALETTER):
                    joins = True
                elif CR <= last_value <= NEWLINE:
                    joins = last_value == CR and broken == LF
                elif CR <= broken <= NEWLINE:
                    joins = False
                elif _is_passed_over(broken) or (last_value == ZWJ and held & PICTOGRAPHIC):
                    joins = True
                elif broken == WSEG_SPACE:
                    joins = last_value == WSEG_SPACE
                elif broken == REGIONAL_INDICATOR:
                    joins = prior == REGIONAL_INDICATOR and flag_open
                else:
                    joins = _joined(before, prior, broken, data, at + size, end, breaks)
            if not joins:
                if at > start and (head & ALNUM if alnum else not every & SPACE):
                    put = np.uint64(word)
                    at_byte[put] = start
                    n_bytes[put] = at - start
                    n_chars[put] = chars
                    flags[put] = flags_of(head, some, every, chars)
                    hashes[put] = value
                    word += 1
                if at == end:
                    break
                start = at
                value = np.uint64(0)
                some, every, chars = 0, -1, 0
            if chars == 0:
                head = kind
            for i in range(at, at + size):
                value = appended(value, data[np.uint64(i)])
            some |= kind
            every &= kind
            chars += 1
            at += size
            last_value = broken
            if not _is_passed_over(broken):
                flag_open = broken == REGIONAL_INDICATOR and not (prior == REGIONAL_INDICATOR and flag_open)
                before = prior
                prior = broken
        last[row] = word
    return first, last, at_byte[:word], n_bytes[:word], n_chars[:word], flags[:word], hashes[:word]
