"""Writes texts in RedPajama-v2's normal form: lower case, without ASCII punctuation, NFD, one space between words."""

from __future__ import annotations

import string

import numpy as np

from fdf_ops_text.characters import NUMERIC, SPACE, symbols
from fdf_ops_text.folding import CASED, CLASS, IGNORABLE
from fdf_ops_text.kernels.characters import decode, previous
from fdf_ops_text.kernels.compiling import inline, kernel
from fdf_ops_text.kernels.hashing import appended, hash_between, hash_of
from fdf_ops_text.kernels.lines import BLANK, LINE_FEED
from fdf_ops_text.kernels.words import (
    HAS_LETTER,
    HAS_NO_SYMBOL,
    LETTERS,
    LETTERS_AND_MARK,
    STARTS_ALNUM,
    described,
    room_for_words,
)

DROPPED, GAP = -1, -2
_FLAGS, _ALNUM, _DIGIT = 0xFF, 0x10000, 0x20000
_SYMBOLS = symbols()


def _of_ascii(character: str) -> int:
    """Return what becomes of an ASCII character: DROPPED for punctuation, GAP for whitespace, else the byte that is
    written, above it the flags of a word that has it, and above these what it is.
    """
    if character in string.punctuation:
        return DROPPED
    if character.isspace():
        return GAP
    flags = HAS_LETTER * character.isalpha() | HAS_NO_SYMBOL * (ord(character) not in _SYMBOLS)
    return ord(character.lower()) | flags << 8 | _ALNUM * character.isalnum() | _DIGIT * character.isdigit()


_ASCII = np.array([_of_ascii(chr(code)) for code in range(0x80)], np.int32)
_SIGMA = 0x3A3
_SCRIPT = "javascript"
_SCRIPT_HASH, _SCRIPT_BYTES = np.uint64(hash_of(_SCRIPT.encode())), len(_SCRIPT)


@inline
def _is_final(data, at, start, end, traits):
    """Say whether the capital sigma here ends a word, as `str.lower` decides once punctuation is gone (Unicode 3.13):
    a letter with case stands before it and none after it, what is ignorable aside.
    """
    before = at
    found = False
    while before > start:
        before = previous(data, before)
        code, _ = decode(data, before)
        if (code < 0x80 and _ASCII[code] == DROPPED) or traits[code] & IGNORABLE:
            continue
        found = traits[code] & CASED != 0
        break
    if not found:
        return False
    after = at + 2
    while after < end:
        code, size = decode(data, after)
        after += size
        if (code < 0x80 and _ASCII[code] == DROPPED) or traits[code] & IGNORABLE:
            continue
        return traits[code] & CASED == 0
    return True


@inline
def _in_order(out, begin, end, traits):
    """Put each run of marks in the order of their classes, those of one class as they stand (Unicode 3.11, D109)."""
    at = begin
    while at < end:
        code, size = decode(out, at)
        if traits[code] & CLASS == 0:
            at += size
            continue
        start, before, unordered = at, 0, False
        while at < end:
            code, size = decode(out, at)
            mark = traits[code] & CLASS
            if mark == 0:
                break
            unordered |= mark < before
            before = mark
            at += size
        if not unordered:
            continue
        places = np.zeros(CLASS + 2, np.int64)
        marks = out[start:at].copy()
        i = 0
        while i < len(marks):
            code, size = decode(marks, i)
            places[(traits[code] & CLASS) + 1] += size
            i += size
        for mark in range(CLASS + 1):
            places[mark + 1] += places[mark]
        i = 0
        while i < len(marks):
            code, size = decode(marks, i)
            mark = traits[code] & CLASS
            to = start + places[mark]
            for j in range(size):
                out[to + j] = marks[i + j]
            places[mark] += size
            i += size


@kernel
def folded_bytes(data):
    """Return how many bytes the normal form of these bytes can have at most: the longest is three times as long."""
    size = 0
    for byte in data:
        size += 1 if byte < 0x80 else 3
    return size


@kernel
def folded_words(data, starts, ends, classes, traits, index, entries, size):
    """Write the normal form of each row, and find its words.

    Returns its bytes (`size` of them at most); per row where it starts and ends in them; what `whitespace_words`
    returns of it; per row its last line + 1; and per line of the old text, which ends with a line feed or with the
    text: its words, their characters, how many of these are numeric, and how many words are ``javascript``.
    """
    rows = len(starts)
    most, most_lines = 0, rows
    for row in range(rows):
        most += (ends[row] - starts[row]) // 2 + 1
        for i in range(starts[row], ends[row]):
            most_lines += data[i] == LINE_FEED
    out = np.empty(size, np.uint8)
    out_starts = np.empty(rows, np.int64)
    out_ends = np.empty(rows, np.int64)
    first, last, at_byte, n_bytes, n_chars, flags, hashes = room_for_words(rows, most)
    last_line = np.empty(rows, np.int64)
    line_words = np.zeros(most_lines, np.int64)
    line_chars = np.zeros(most_lines, np.int64)
    line_numeric = np.zeros(most_lines, np.int64)
    line_scripts = np.zeros(most_lines, np.int64)
    to, word, line = 0, 0, 0
    for row in range(rows):
        out_starts[row], first[row] = to, word
        at, end = starts[row], ends[row]
        inside, marked, plain = False, False, True
        begin, value, flag, digits = to, np.uint64(0), 0, 0
        while at <= end:
            feed = False
            if at == end:
                put, width, code = GAP, 1, 0
            elif data[at] < 0x80:
                put, width, code = _ASCII[data[at]], 1, 0
                feed = data[at] == LINE_FEED
                if put == DROPPED:
                    at += 1
                    continue
            else:
                code, width = decode(data, at)
                put = GAP if classes[code] & SPACE else 0
            if put == GAP:
                if inside:
                    chars = to - begin
                    if plain:
                        if _ASCII[out[begin]] & _ALNUM:
                            flag |= STARTS_ALNUM
                    else:
                        if marked:
                            _in_order(out, begin, to, traits)
                        chars, flag = described(out, begin, to, classes)
                        value, flag = hash_between(out, begin, to), flag & ~(LETTERS | LETTERS_AND_MARK)
                    at_byte[word], n_bytes[word], n_chars[word] = begin, to - begin, chars
                    flags[word], hashes[word] = flag, value
                    line_words[line] += 1
                    line_chars[line] += chars
                    line_numeric[line] += digits
                    line_scripts[line] += value == _SCRIPT_HASH and to - begin == _SCRIPT_BYTES
                    word += 1
                    inside, marked, plain = False, False, True
                    value, flag, digits = np.uint64(0), 0, 0
                line += feed
                at += width
                continue
            if not inside:
                if word > first[row]:
                    out[to] = BLANK
                    to += 1
                begin, inside = to, True
            if code == 0:
                # A run of ASCII, the common case: all that is known of it is in one table.
                while True:
                    byte = put & 0xFF
                    out[to] = byte
                    to += 1
                    value = appended(value, byte)
                    flag |= put >> 8 & _FLAGS
                    digits += put & _DIGIT != 0
                    at += 1
                    if at == end or data[at] >= 0x80:
                        break
                    put = _ASCII[data[at]]
                    if put < 0:
                        break
                continue
            plain = False
            marked |= traits[code] & CLASS != 0
            entry = index[code]
            if entry == 0:
                for i in range(width):
                    out[to + i] = data[at + i]
                to += width
                digits += classes[code] & NUMERIC != 0
            elif code == _SIGMA and _is_final(data, at, starts[row], end, traits):
                out[to], out[to + 1] = 0xCF, 0x82
                to += 2
            else:
                written = entries[entry - 1, 0]
                for i in range(written):
                    out[to + i] = entries[entry - 1, 2 + i]
                to += written
                digits += entries[entry - 1, 1]
            at += width
        if end > starts[row] and data[end - 1] != LINE_FEED:
            line += 1
        out_ends[row], last[row], last_line[row] = to, word, line
    words = (first, last, at_byte[:word], n_bytes[:word], n_chars[:word], flags[:word], hashes[:word])
    lines = (line_words[:line], line_chars[:line], line_numeric[:line], line_scripts[:line])
    return out[:to], out_starts, out_ends, words, last_line, lines
