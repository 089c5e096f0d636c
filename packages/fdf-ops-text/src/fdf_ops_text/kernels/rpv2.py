"""What RedPajama-v2's quality signals measure in texts, their lines and their words."""

from __future__ import annotations

import math

import numpy as np

from fdf_ops_text.characters import UPPER, WORD
from fdf_ops_text.kernels.characters import decode, previous
from fdf_ops_text.kernels.compiling import inline, kernel
from fdf_ops_text.kernels.hashing import mixed
from fdf_ops_text.kernels.hashtable import counted_firsts, slot_of, table_of, table_size
from fdf_ops_text.kernels.lines import (
    LINE_FEED,
    ONE_CHARACTER,
    STOP,
    THREE_DOTS,
    ends_in_ellipsis,
    left_trimmed,
    right_trimmed,
)
from fdf_ops_text.kernels.wordpunct import ALL_CAPS, HAS_ASCII_LETTER

CLOSING_QUOTE = 0x201D
_MARK, _CURLY, _WORD, _CAPITAL = 1, 2, 4, 8
# What an ASCII character is to a sentence and a line.
_BYTES = np.array(
    [
        _MARK * (c in ".!?") | _CURLY * (c in "{}") | _WORD * (c.isalnum() or c == "_") | _CAPITAL * c.isupper()
        for c in map(chr, range(0x80))
    ],
    np.uint8,
)
SHORTEST_TOP, SHORTEST_DUPLICATE, LONGEST = 2, 5, 10
TOPS = SHORTEST_DUPLICATE - SHORTEST_TOP
SHARES = LONGEST - SHORTEST_TOP + 1
"""Columns of the shares of repeated n-grams: top 2- to 4-grams, then 5- to 10-grams that occur twice or more."""
_WORD_SHIFT = np.uint64(32)
_SCALE = 1e8
_SPLIT = 134217729.0


@kernel
def raw_lines(data, starts, ends, classes, bullets):
    r"""Measure lines as ``[^\n]*\n|[^\n]+$`` finds them, each with its line feed.

    Returns per row: sentences (``\b[^.!?]+[.!?]*``), curly brackets, lines that end in an ellipsis, and its last
    line + 1; and per line: its first character and the one after its last, whether it ends in a terminal mark,
    whether it starts with one of the code points `bullets`, and its characters in upper case.
    """
    rows = len(starts)
    most = rows
    for row in range(rows):
        for i in range(starts[row], ends[row]):
            most += data[i] == LINE_FEED
    sentences = np.zeros(rows, np.int64)
    curly = np.zeros(rows, np.int64)
    ellipses = np.zeros(rows, np.int64)
    last_line = np.empty(rows, np.int64)
    line_start = np.empty(most, np.int64)
    line_end = np.empty(most, np.int64)
    terminal = np.zeros(most, np.bool_)
    bulleted = np.zeros(most, np.bool_)
    upper = np.zeros(most, np.int64)
    line = 0
    for row in range(rows):
        at, end = starts[row], ends[row]
        begin, char = at, 0
        chars, capitals, sentence_count, curly_count = 0, 0, 0, 0
        # A sentence is a run without marks that has a word character: the first one has a border before it.
        in_sentence = False
        while at < end:
            byte = data[at]
            if byte < 0x80:
                kind = _BYTES[byte]
                at += 1
            else:
                code, size = decode(data, at)
                kind = _CAPITAL if classes[code] & UPPER else 0
                kind |= _WORD if classes[code] & WORD else 0
                at += size
            # Without a branch: words are too short for a processor to foresee where they end.
            word = kind & _WORD != 0
            sentence_count += word & (not in_sentence)
            in_sentence = (in_sentence | word) & (kind & _MARK == 0)
            capitals += kind & _CAPITAL != 0
            curly_count += kind & _CURLY != 0
            chars += 1
            if byte == LINE_FEED or at == end:
                line_start[line], line_end[line], upper[line] = char, char + chars, capitals
                head = left_trimmed(data, begin, at, classes)
                tail = right_trimmed(data, head, at, classes)
                if head < tail:
                    code, _ = decode(data, head)
                    for bullet in bullets:
                        bulleted[line] |= code == bullet
                    code, _ = decode(data, previous(data, tail))
                    terminal[line] = code == STOP or code == 0x21 or code == 0x3F or code == CLOSING_QUOTE
                    ellipses[row] += ends_in_ellipsis(data, head, tail, THREE_DOTS | ONE_CHARACTER)
                line += 1
                char += chars
                begin = at
                chars, capitals = 0, 0
        sentences[row], curly[row] = sentence_count, curly_count
        last_line[row] = line
    lines = (line_start[:line], line_end[:line], terminal[:line], bulleted[:line], upper[:line])
    return sentences, curly, ellipses, last_line, lines


@kernel
def raw_words(first, last, flags, hashes, stop_words):
    """Count per row, in words of `wordpunct_words`: with an ASCII letter, in capitals, and out of `stop_words` (mixed
    hashes), every occurrence.
    """
    rows = len(first)
    lettered = np.zeros(rows, np.int64)
    capital = np.zeros(rows, np.int64)
    stopped = np.zeros(rows, np.int64)
    keys = table_of(stop_words)
    for row in range(rows):
        for i in range(first[row], last[row]):
            lettered[row] += flags[i] & HAS_ASCII_LETTER != 0
            capital[row] += flags[i] & ALL_CAPS != 0
            key = mixed(hashes[i])
            stopped[row] += keys[slot_of(keys, key)] == key
    return lettered, capital, stopped


@inline
def _spells(data, at, letters):
    same = True
    for i in range(len(letters)):
        same &= data[at + i] == letters[i]
    return same


@kernel
def lorem_ipsum(data, first, last, at_byte, n_bytes, lorem, ipsum):
    """Count ``lorem ipsum`` per row in texts in which one space stands between words; 0 where it stands nowhere.

    Once it does, ``lorem \u0131psum`` counts too, and a long s for the ``s``: regular expressions that ignore case take
    both for the plain letters.
    """
    counts = np.zeros(len(first), np.int64)
    for row in range(len(first)):
        exact = False
        for i in range(first[row], last[row] - 1):
            size = n_bytes[i]
            if size < len(lorem) or not _spells(data, at_byte[i] + size - len(lorem), lorem):
                continue
            at, end = at_byte[i + 1], at_byte[i + 1] + n_bytes[i + 1]
            same, plain = True, True
            for letter in ipsum:
                if at < end and data[at] == letter:
                    at += 1
                elif at + 1 < end and (
                    (letter == 0x69 and data[at] == 0xC4 and data[at + 1] == 0xB1)
                    or (letter == 0x73 and data[at] == 0xC5 and data[at + 1] == 0xBF)
                ):
                    at += 2
                    plain = False
                else:
                    same = False
                    break
            counts[row] += same
            exact |= same and plain
        if not exact:
            counts[row] = 0
    return counts


@kernel
def word_statistics(first, last, n_chars, hashes, longest):
    """Measure the words of each row: their characters, how many are different, the entropy of their distribution in
    nats, and the share of characters in repeated n-grams of up to `longest` words (`SHARES` columns).

    Of 2- to 4-grams the most frequent one counts with all its occurrences, the first of several, if it occurs at least
    twice; of longer ones every word counts once that lies in one that occurs at least twice. An n-gram can only be
    repeated where both n-1-grams in it are: each length looks at what is left of the one before.
    """
    rows = len(first)
    chars = np.zeros(rows, np.int64)
    different = np.zeros(rows, np.int64)
    entropy = np.zeros(rows, np.float64)
    shares = np.zeros((rows, SHARES), np.float64)
    most = 1
    for row in range(rows):
        most = max(most, last[row] - first[row])
    slots = np.empty(table_size(most), np.uint64)
    keys = np.empty(most, np.uint64)
    held = np.empty(most, np.int32)
    counts = np.empty(most, np.int32)
    places = np.empty(most, np.int32)
    grams = np.empty(most, np.uint64)
    before = np.empty(most + 1, np.int64)
    for row in range(rows):
        begin = first[row]
        words = last[row] - begin
        before[0] = 0
        for i in range(words):
            before[i + 1] = before[i] + n_chars[begin + i]
            keys[i] = mixed(hashes[begin + i])
        counted_firsts(keys, words, slots, counts, held)
        total = before[words]
        chars[row] = total
        once = -1 / words * math.log(1 / words) if words else 0.0
        left = 0
        for i in range(words):
            if held[i] == i:
                different[row] += 1
                if counts[i] == 1:
                    entropy[row] += once
                else:
                    share = counts[i] / words
                    entropy[row] += -share * math.log(share)
            if counts[held[i]] > 1:
                places[left], grams[left] = i, held[i]
                left += 1
        for n in range(2, longest + 1):
            found = 0
            for i in range(left - 1):
                if places[i + 1] == places[i] + 1:
                    # Two numbers of n-1-grams name the n-gram; neither is read again once it is overwritten.
                    keys[found] = mixed(grams[i] << _WORD_SHIFT | grams[i + 1])
                    places[found] = places[i]
                    found += 1
            if found == 0:
                break
            counted_firsts(keys, found, slots, counts, held)
            top, top_at = 1, 0
            for i in range(found):
                if held[i] == i and counts[i] > top:
                    top, top_at = counts[i], i
            left, covered, reached = 0, 0, 0
            for i in range(found):
                if counts[held[i]] > 1:
                    place = places[i]
                    covered += before[place + n] - before[max(place, reached)]
                    reached = place + n
                    places[left], grams[left] = place, held[i]
                    left += 1
            if n < SHORTEST_DUPLICATE and top > 1:
                # `places` has been narrowed: what was most frequent is found by its number.
                for i in range(left):
                    if grams[i] == np.uint64(top_at):
                        place = places[i]
                        shares[row, n - SHORTEST_TOP] = (before[place + n] - before[place]) * top / total
                        break
            elif n >= SHORTEST_DUPLICATE:
                shares[row, n - SHORTEST_TOP] = covered / total
    return chars, different, entropy, shares


@kernel
def rounded(values):
    """Round to 8 digits as Python's `round` does: by the exact value, a tie to the even digit. NaN stays."""
    out = np.empty(len(values), np.float64)
    for i in range(len(values)):
        value = values[i]
        scaled = value * _SCALE
        whole = np.floor(scaled)
        over = scaled - whole - 0.5
        if over == 0:
            # The product may have been rounded to the tie: what it lacks tells (Dekker 1971).
            high = value * _SPLIT - (value * _SPLIT - value)
            scale_high = _SCALE * _SPLIT - (_SCALE * _SPLIT - _SCALE)
            low, scale_low = value - high, _SCALE - scale_high
            over = ((high * scale_high - scaled) + high * scale_low + low * scale_high) + low * scale_low
            if over == 0 and whole % 2 == 1:
                over = 1.0
        out[i] = (whole + 1 if over > 0 else whole) / _SCALE
    return out
