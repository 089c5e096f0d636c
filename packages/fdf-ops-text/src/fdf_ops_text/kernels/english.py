"""Cuts a chunk (a run of non-whitespace) as spaCy's blank English tokenizer does.

The algorithm is that of spaCy 3.8: strip prefixes and suffixes until neither is left or an exception stands there
(tokenizer.pyx, `_split_affixes`), then keep URLs whole and split the rest at infixes (`_attach_tokens`). Which
characters do what is told by a table made from spaCy's own rules (`fdf_ops_text.analysis.english`).

Where spaCy would then merge words into an exception again, or the chunk may be an address of a kind that is not decided
here, the kernel says that it does not know, and spaCy itself is asked.
"""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.addresses import UNKNOWN, address, is_digit
from fdf_ops_text.kernels.characters import decode, previous
from fdf_ops_text.kernels.compiling import kernel, subroutine
from fdf_ops_text.kernels.hashing import appended, mixed
from fdf_ops_text.kernels.hashtable import slot_of

PREFIX = 1
"""One such character is a prefix."""
SUFFIX = 2
"""One such character is a suffix."""
INFIX = 4
"""One such character splits wherever it stands: an ellipsis or an icon."""
LETTER = 8
"""A letter of spaCy's scripts (ALPHA)."""
BEFORE_STOP = 16
"""A full stop after it is a suffix."""
UPPER = 32
"""An upper-case letter (ALPHA_UPPER)."""
BEFORE_INNER_STOP = 64
"""A full stop between this and the next splits."""
AFTER_INNER_STOP = 128
HYPHEN = 2048
"""A hyphen, a dash or a tilde."""

JOINED = -2
"""Only spaCy can tell how the chunk is cut, since it may join words to an exception."""
PAIR_JOINED = -10
"""Less by the number of words: some of them were joined here."""
NO_EXCEPTION = -1

STOP, PLUS, DOLLAR, COLON, SLASH, DASH = 0x2E, 0x2B, 0x24, 0x3A, 0x2F, 0x2D
STAR, CARET, LESS, MORE, EQUAL = 0x2A, 0x5E, 0x3C, 0x3E, 0x3D
ELLIPSIS, EM_DASH, DEGREE, RIGHT_QUOTE = 0x2026, 0x2014, 0xB0, 0x2019


@subroutine
def find(data, start, end, keys, values, longest):
    """Return the value of these bytes in a table of strings of at most `longest` bytes, or -1."""
    if end - start > longest or end <= start:
        return NO_EXCEPTION
    value = np.uint64(0)
    for i in range(start, end):
        value = appended(value, data[i])
    key = mixed(value)
    slot = slot_of(keys, key)
    return values[slot] if keys[slot] == key else NO_EXCEPTION


@subroutine
def prefix_length(data, start, end, classes):
    """Return how many bytes at the start are a prefix."""
    byte = data[start]
    if byte == STOP:
        at = start + 1
        while at < end and data[at] == STOP:
            at += 1
        return at - start if at - start > 1 else 0
    if byte == PLUS:
        return 0 if start + 1 < end and is_digit(data[start + 1]) else 1
    # US$, C$ and A$
    if (byte == 0x43 or byte == 0x41) and start + 1 < end and data[start + 1] == DOLLAR:
        return 2
    if byte == 0x55 and start + 2 < end and data[start + 1] == 0x53 and data[start + 2] == DOLLAR:
        return 3
    code, size = decode(data, start)
    return size if classes[code] & PREFIX else 0


@subroutine
def suffix_length(data, start, end, classes, unit_keys, unit_values, longest_unit):
    """Return how many bytes at the end are a suffix: the longest of all rules that hold."""
    if start >= end:
        return 0
    most = 0
    last = previous(data, end)
    code, size = decode(data, last)
    if classes[code] & SUFFIX:
        most = size
    if code == ELLIPSIS and last > start:
        before = previous(data, last)
        if before >= start and decode(data, before)[0] == ELLIPSIS:
            most = end - before
    elif code == STOP:
        at = last
        while at > start and data[at - 1] == STOP:
            at -= 1
        if end - at > 1:
            most = end - at
        elif last > start:
            before = previous(data, last)
            kind, _ = decode(data, before)
            if classes[kind] & BEFORE_STOP:
                most = 1
            elif before > start:
                second, _ = decode(data, previous(data, before))
                if (classes[kind] & UPPER and classes[second] & UPPER) or (
                    second == DEGREE
                    and (kind == 0x46 or kind == 0x66 or kind == 0x43 or kind == 0x63 or kind == 0x4B or kind == 0x6B)
                ):
                    most = 1
    elif code == PLUS:
        if last > start and is_digit(data[last - 1]):
            most = 1
    elif (code == 0x73 or code == 0x53) and last > start:
        before = previous(data, last)
        if before >= start:
            quote, _ = decode(data, before)
            if quote == 0x27 or quote == RIGHT_QUOTE:
                most = end - before
    # Units and currencies follow a digit and hold none, so only what stands after the last digit can be one.
    at = end
    while at > start and end - at <= longest_unit and not is_digit(data[at - 1]):
        at -= 1
    if (
        at > start
        and end - at > most
        and is_digit(data[at - 1])
        and find(data, at, end, unit_keys, unit_values, longest_unit) != NO_EXCEPTION
    ):
        most = end - at
    return most


@subroutine
def infix_length(data, start, at, end, classes):
    """Return how many bytes at this place of the string that begins at `start` are an infix."""
    code, size = decode(data, at)
    kind = classes[code]
    if kind & INFIX:
        return size
    after = at + size
    if code == STOP and after < end and data[after] == STOP:
        while after < end and data[after] == STOP:
            after += 1
        return after - at
    if at == start or after >= end:
        return 0
    before, _ = decode(data, previous(data, at))
    following, _ = decode(data, after)
    if (
        (code == PLUS or code == DASH or code == STAR or code == CARET)
        and is_digit(before)
        and (is_digit(following) or following == DASH)
    ):
        return 1
    if code == STOP:
        return 1 if classes[before] & BEFORE_INNER_STOP and classes[following] & AFTER_INNER_STOP else 0
    letter = classes[before] & LETTER != 0
    if code == 0x2C:
        return 1 if letter and classes[following] & LETTER else 0
    if not (letter or is_digit(before)):
        return 0
    if code == COLON or code == LESS or code == MORE or code == EQUAL or code == SLASH:
        return 1 if classes[following] & LETTER else 0
    if kind & HYPHEN:
        if classes[following] & LETTER:
            return size
        # Two or three dashes, or two em dashes.
        most = 3 if code == DASH else (2 if code == EM_DASH else 1)
        count, stop = 1, after
        while count < most and stop < end:
            next_code, next_size = decode(data, stop)
            if next_code != code:
                break
            stop += next_size
            count += 1
            if stop < end and classes[decode(data, stop)[0]] & LETTER:
                return stop - at
    return 0


@subroutine
def cut(data, start, end, classes, rules, pieces, to):
    """Write the byte lengths of a chunk's words to ``pieces[to:]``.

    Returns how many there are, UNKNOWN, JOINED, or PAIR_JOINED less that number.

    There must be room for as many as the chunk has bytes. An exception's value is twice its number, and one more where
    spaCy looks for it among words, too.
    """
    keys, values, longest, piece_first, piece_count, exception_pieces, unit_keys, unit_values, longest_unit = rules
    front, back = to, to + end - start
    room = back
    a, b, size = start, end, -1
    while a < b and b - a != size:
        if find(data, a, b, keys, values, longest) != NO_EXCEPTION:
            break
        size = b - a
        pre = prefix_length(data, a, b, classes)
        if pre > 0 and a + pre < b and find(data, a + pre, b, keys, values, longest) != NO_EXCEPTION:
            pieces[front] = pre
            front += 1
            a += pre
            break
        suf = suffix_length(data, a + pre, b, classes, unit_keys, unit_values, longest_unit)
        if suf > 0 and find(data, a, b - suf, keys, values, longest) != NO_EXCEPTION:
            back -= 1
            pieces[back] = suf
            b -= suf
            break
        if pre > 0:
            pieces[front] = pre
            front += 1
            a += pre
        if suf > 0:
            back -= 1
            pieces[back] = suf
            b -= suf
    if a < b:
        exception = find(data, a, b, keys, values, longest)
        if exception != NO_EXCEPTION:
            exception >>= 1
            for i in range(piece_first[exception], piece_first[exception] + piece_count[exception]):
                pieces[front] = exception_pieces[i]
                front += 1
        else:
            whole = address(data, a, b, classes)
            if whole == UNKNOWN:
                return UNKNOWN
            if whole == 1:
                pieces[front] = b - a
                front += 1
            else:
                front = split_at_infixes(data, a, b, classes, pieces, front)
    # The suffixes came from the outside in and were put down from the end, so they stand in order.
    for i in range(back, room):
        pieces[front] = pieces[i]
        front += 1
    count = front - to
    # spaCy looks for exceptions once more, among the words, and joins those that it finds. Of such that overlap the
    # longest one counts, then the first; one that was passed over still keeps others from its words (tokenizer.pyx,
    # `_filter_special_spans`). Pairs of characters are joined here: one is, unless another pair begins just before it.
    at, before, joined, pairs_from = start, -2, 0, -1
    for i in range(to, front):
        stop = at + pieces[i]
        for j in range(i + 1, front):
            stop += pieces[j]
            if stop - at > longest:
                break
            exception = find(data, at, stop, keys, values, longest)
            if exception == NO_EXCEPTION or not exception & 1:
                continue
            one_by_one = j == i + 1 and decode(data, at)[1] == pieces[i]
            one_by_one = one_by_one and decode(data, at + pieces[i])[1] == pieces[j]
            if not one_by_one or piece_count[exception >> 1] != 1:
                return JOINED
            if before != i - 1:
                joined += 1
                pairs_from = i
            before = i
        size = pieces[i]
        if before == i and pairs_from == i:
            # Negative: together with the next.
            pieces[i] = -size
        at += size
    if joined == 0:
        return count
    together(pieces, to, front)
    return PAIR_JOINED - (count - joined)


@subroutine
def together(pieces, to, front):
    """Join each word whose length is negative with the next one."""
    i, put = to, to
    while i < front:
        size = pieces[i]
        if size < 0:
            i += 1
            size = pieces[i] - size
        pieces[put] = size
        put += 1
        i += 1


@subroutine
def split_at_infixes(data, start, end, classes, pieces, front):
    """Write the lengths of the parts and infixes of a string; return where the next length goes."""
    begin, at = start, start
    while at < end:
        size = infix_length(data, start, at, end, classes)
        if size == 0:
            at += decode(data, at)[1]
            continue
        if at != start:
            if at != begin:
                pieces[front] = at - begin
                front += 1
            pieces[front] = size
            front += 1
            begin = at + size
        at += size
    if begin < end:
        pieces[front] = end - begin
        front += 1
    return front


@kernel
def cut_new(data, at_byte, n_bytes, classes, rules, pieces, to):
    """Cut chunks one after the other.

    Returns how many words each has (or UNKNOWN, JOINED), whether some of them were joined, and where to write on.
    """
    counts = np.empty(len(at_byte), np.int32)
    joined = np.zeros(len(at_byte), np.bool_)
    for i in range(len(at_byte)):
        count = cut(data, at_byte[i], at_byte[i] + n_bytes[i], classes, rules, pieces, to)
        if count < PAIR_JOINED:
            count = PAIR_JOINED - count
            joined[i] = True
        counts[i] = count
        if count > 0:
            to += count
    return counts, joined, to
