"""Judges and rewrites texts line by line as C4 does (Raffel et al. 2020, section 2.2)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import DECIMAL, LINE_BREAK, SPACE
from fdf_ops_text.kernels.blocks import (
    BLOCK,
    NO_BITS,
    copied,
    either_case_here,
    equal_here,
    first_bit,
    has_byte,
    lowest_bits,
    placed,
    with_a_block,
    within_here,
)
from fdf_ops_text.kernels.characters import class_of, decode
from fdf_ops_text.kernels.compiling import inline, kernel, subroutine
from fdf_ops_text.kernels.lines import (
    BLANK,
    LINE_FEED,
    NO_MORE,
    STOP,
    THREE_DOTS,
    ends_in_ellipsis,
    left_trimmed,
    next_line,
    right_trimmed,
)
from fdf_ops_text.kernels.words import ALL_PUNCTUATION, ENDS_SENTENCE

LOREM_IPSUM, CURLY_BRACKET = 1, 2
LO, JA, TE, PR, CO, US, U_FIRST = 0x6C6F, 0x6A61, 0x7465, 0x7072, 0x636F, 0x7573, 0x7500
"""How the phrases begin that are looked for, as two bytes."""
OPEN, CLOSE, CURLY, KELVIN = 0x5B, 0x5D, 0x7B, 0x212A


@subroutine
def spelled_here(data, at, end, letters, loose):
    """Say how many bytes spell these lower-case letters here in any case, 0 where others stand.

    The Kelvin sign is a ``k`` in lower case, as `str.lower` has it. `loose` is as regular expressions that ignore case
    have it: then the long s is an ``s``, and the i without a dot or with one in upper case is an ``i``.
    """
    begin = at
    for letter in letters:
        if at >= end:
            return 0
        byte = data[np.uint64(at)]
        if 0x41 <= byte <= 0x5A:
            byte |= 0x20
        if byte == letter:
            at += 1
        elif (
            letter == 0x6B
            and byte == 0xE2
            and at + 2 < end
            and data[np.uint64(at + 1)] == 0x84
            and data[np.uint64(at + 2)] == 0xAA
        ):
            at += 3
        elif (
            loose
            and at + 1 < end
            and (
                (letter == 0x73 and byte == 0xC5 and data[at + 1] == 0xBF)
                or (letter == 0x69 and byte == 0xC4 and 0xB0 <= data[at + 1] <= 0xB1)
            )
        ):
            at += 2
        else:
            return 0
    return at - begin


@subroutine
def _citation(data, at, end, classes, edit, needed):
    """Return the bytes of the citation mark here: a number in brackets, ``[edit]`` or ``[citation needed]``."""
    after = at + 1
    while after < end:
        code, size = decode(data, after)
        if not class_of(classes, code) & DECIMAL:
            break
        after += size
    if after < end and data[np.uint64(after)] == CLOSE:
        return after + 1 - at
    for mark in (edit, needed):
        if at + len(mark) <= end:
            same = True
            for i in range(len(mark)):
                if data[at + i] != mark[i]:
                    same = False
                    break
            if same:
                return len(mark)
    return 0


@inline
def _three_letters(data, at, first, second, third):
    """Return at which of 64 places these three letters stand, in any case."""
    found = either_case_here(data, np.uint64(at), first) & either_case_here(data, np.uint64(at + 1), second)
    return found & either_case_here(data, np.uint64(at + 2), third)


@subroutine
def may_say(data, start, end):
    """Say whether a line has three letters, in any case, of which every phrase that is looked for has one.

    None of them is a letter for which a character beyond ASCII may stand. 64 places at a time; what lies up to 65 bytes
    behind the line is read, too, and must be there.
    """
    at = start
    while at < end:
        # javaScript, LORem ipsum, COOkie, priVACy policy, tERMs of use
        found = _three_letters(data, at, 0x6A, 0x61, 0x76) | _three_letters(data, at, 0x6C, 0x6F, 0x72)
        found |= _three_letters(data, at, 0x63, 0x6F, 0x6F) | _three_letters(data, at, 0x76, 0x61, 0x63)
        found |= _three_letters(data, at, 0x65, 0x72, 0x6D)
        if found & lowest_bits(end - at) != NO_BITS:
            return True
        at += BLOCK
    return False


@subroutine
def says_any(data, at, end, phrases, phrase_ends, loose):
    """Say whether one of the phrases on policies stands here."""
    for number in range(4, len(phrase_ends)):
        if spelled_here(data, at, end, phrases[phrase_ends[number - 1] : phrase_ends[number]], loose) > 0:
            return True
    return False


@kernel
def c4_lines(
    data,
    starts,
    ends,
    classes,
    first,
    last,
    at_byte,
    n_chars,
    phrases,
    phrase_ends,
    switches,
    longest_word,
    fewest_words,
):
    """Keep or drop each line, and write what is kept of each text.

    `phrases` are the bytes of: ``[edit]``, ``[citation needed]``, ``lorem ipsum``, ``javascript`` and those of
    policies, each ending where `phrase_ends` says. `switches`: citations, terminal mark, its single quote, lorem ipsum,
    javascript, curly bracket, policy, whether words are counted without citations, and whether lines are those between
    line feeds, kept as they are: then empty ones stay. The words are those of `whitespace_words`.

    Returns the new bytes; per row where its text starts and ends in them, and the first reason to drop it; and per kept
    line: its row, whether a citation was cut out, where it starts and ends in the new bytes, and in the old ones.
    """
    citations, terminal, single_quote, lorem, javascript, curly, policy, recount, whole = switches
    edit, needed = phrases[: phrase_ends[0]], phrases[phrase_ends[0] : phrase_ends[1]]
    lorem_ipsum, script = phrases[phrase_ends[1] : phrase_ends[2]], phrases[phrase_ends[2] : phrase_ends[3]]
    rows = len(starts)
    size = 2 * BLOCK + 2
    most = 0
    for row in range(rows):
        size += ends[row] - starts[row] + 1
        # A kept line has a word, unless no number of words is asked for.
        most += last[row] - first[row] + 1
        if fewest_words < 1:
            for i in range(starts[row], ends[row]):
                most += classes[data[np.uint64(i)]] & LINE_BREAK != 0 or data[np.uint64(i)] >= 0xC2
    out = np.empty(size, np.uint8)
    out_starts = np.zeros(rows, np.int64)
    out_ends = np.zeros(rows, np.int64)
    reasons = np.zeros(rows, np.int8)
    line_row = np.empty(most, np.int32)
    line_cut = np.empty(most, np.bool_)
    line_start = np.empty(most, np.int64)
    line_end = np.empty(most, np.int64)
    old_start = np.empty(most, np.int64)
    old_end = np.empty(most, np.int64)
    lines, to = 0, 0
    for row in range(rows):
        out_starts[row] = to
        at, end = starts[row], ends[row]
        word = first[row]
        kept = 0
        while at != NO_MORE and at < end:
            stop, following = next_line(data, at, end, classes, not whole)
            begin, close = at, stop
            if not whole:
                begin = left_trimmed(data, at, stop, classes)
                close = right_trimmed(data, begin, stop, classes)
            at = following
            while word < last[row] and at_byte[np.uint64(word)] < begin:
                word += 1
            words, too_long = 0, False
            while word < last[row] and at_byte[np.uint64(word)] < close:
                too_long |= n_chars[np.uint64(word)] > longest_word
                words += 1
                word += 1
            if too_long:
                continue
            # Write the line where it would stand; only a kept one moves `to` on.
            line = to + (1 if kept > 0 else 0)
            put, cut = line, False
            if citations and has_byte(data, begin, close, OPEN):
                i = begin
                while i < close:
                    byte = data[np.uint64(i)]
                    if byte == OPEN:
                        mark = _citation(data, i, close, classes, edit, needed)
                        if mark > 0:
                            cut = True
                            i += mark
                            continue
                    out[np.uint64(put)] = byte
                    put += 1
                    i += 1
            else:
                copied(data, begin, close - begin, out, line)
                put += close - begin
            if whole and put == line:
                # An empty line says nothing and stays.
                if kept > 0:
                    out[to] = LINE_FEED
                kept += 1
                to = put
                continue
            if terminal:
                shut = right_trimmed(out, line, put, classes) if whole else put
                if shut == line:
                    continue
                final = out[np.uint64(shut - 1)]
                ended = final == STOP or final == 0x3F or final == 0x21 or final == 0x22
                if not (ended or (single_quote and final == 0x27)) or ends_in_ellipsis(out, line, shut, THREE_DOTS):
                    continue
            if cut and recount:
                words = 0
                inside = False
                i = line
                while i < put:
                    code, width = decode(out, i)
                    blank = class_of(classes, code) & SPACE != 0
                    if not blank and not inside:
                        words += 1
                    inside = not blank
                    i += width
            if words < fewest_words:
                continue
            has_curly = curly and has_byte(out, line, put, CURLY)
            says_lorem, says_script, says_policy = False, False, False
            for i in range(line, put - 1 if may_say(out, line, put) else line):
                pair = np.int64(out[np.uint64(i)] | 0x20) << 8 | np.int64(out[np.uint64(i + 1)] | 0x20)
                if pair == LO:
                    says_lorem |= lorem and spelled_here(out, i, put, lorem_ipsum, False) > 0
                elif pair == JA:
                    says_script |= javascript and spelled_here(out, i, put, script, whole) > 0
                elif pair == TE or pair == PR or pair == CO or pair == US:
                    says_policy |= policy and says_any(out, i, put, phrases, phrase_ends, whole)
                elif whole and pair & 0xFF00 == U_FIRST and out[np.uint64(i + 1)] >= 0xC2:
                    # A long s may follow.
                    says_policy |= policy and says_any(out, i, put, phrases, phrase_ends, whole)
            # To a tool that looks at whole texts, rule by rule, this rule comes first.
            if says_lorem and (whole or reasons[row] == 0):
                reasons[row] = LOREM_IPSUM
            if says_script:
                continue
            if has_curly and reasons[row] == 0:
                reasons[row] = CURLY_BRACKET
            if says_policy:
                continue
            if kept > 0:
                out[np.uint64(to)] = LINE_FEED
            kept += 1
            line_row[lines], line_cut[lines] = row, cut
            line_start[lines], line_end[lines] = line, put
            old_start[lines], old_end[lines] = begin, close
            if whole:
                line_start[lines] = left_trimmed(out, line, put, classes)
                line_end[lines] = right_trimmed(out, line_start[lines], put, classes)
                old_start[lines] = left_trimmed(data, begin, close, classes)
                old_end[lines] = right_trimmed(data, old_start[lines], close, classes)
            lines += 1
            to = put
        out_starts[row] = left_trimmed(out, out_starts[row], to, classes)
        out_ends[row] = right_trimmed(out, out_starts[row], to, classes)
    kept_lines = (line_row[:lines], line_cut[:lines], line_start[:lines], line_end[:lines])
    return out[:to], out_starts, out_ends, reasons, kept_lines, old_start[:lines], old_end[:lines]


@kernel
def spacy_sentences(data, starts, ends, text_rows, first, last, at_byte, n_bytes, flags):
    """Count the sentences of pieces of texts as spaCy's sentencizer does (spaCy 3.8, pipeline/sentencizer.pyx).

    Piece p lies in text ``text_rows[p]``, whose words `first` and `last` name; pieces of a text come in order.
    """
    pieces = len(starts)
    counts = np.ones(pieces, np.int64)
    word, row = 0, -1
    for piece in range(pieces):
        if text_rows[piece] != row:
            row = text_rows[piece]
            word = first[row]
        while word < last[row] and at_byte[np.uint64(word)] < starts[piece]:
            word += 1
        ended, any_word = False, False
        reached = starts[piece]
        while word < last[row] and at_byte[np.uint64(word)] < ends[piece]:
            # Whitespace beyond one space after a word is a word to spaCy, and one that is no punctuation.
            gap = at_byte[np.uint64(word)] - reached
            if gap > 0 and (not any_word or gap > 1 or data[reached] != BLANK):
                if ended:
                    counts[piece] += 1
                    ended = False
                any_word = True
            flag = flags[np.uint64(word)]
            if flag & ENDS_SENTENCE:
                ended = True
            elif ended and not flag & ALL_PUNCTUATION:
                counts[piece] += 1
                ended = False
            any_word = True
            reached = at_byte[np.uint64(word)] + n_bytes[np.uint64(word)]
            word += 1
        gap = ends[piece] - reached
        if any_word and ended and gap > 0 and (gap > 1 or data[reached] != BLANK):
            counts[piece] += 1
    return counts


@kernel
def plain_sentences(data, starts, ends, classes, closing, ending):
    """Count the sentences of pieces of texts: a word that ends in a mark of the class `ending`, closing quotes and
    brackets (class `closing`) after it aside, ends one, if another word follows.
    """
    data = with_a_block(data)
    pieces = len(starts)
    counts = np.ones(pieces, np.int64)
    marks = np.array([code for code in range(0x80) if classes[code] & ending], np.int64)
    for piece in range(pieces):
        at, end = starts[piece], ends[piece]
        # Only a word of which one byte is a mark of ASCII or of a longer character can end a sentence.
        while at < end:
            base, shift = placed(data, at)
            found = within_here(data, base, 0x80, 0x80)
            for mark in marks:
                found |= equal_here(data, base, mark)
            found = (found >> shift) & lowest_bits(end - at)
            if found == NO_BITS:
                at += BLOCK
                continue
            at += first_bit(found)
            ended, at = _ends_sentence(data, at, end, classes, closing, ending)
            if ended and left_trimmed(data, at, end, classes) < end:
                counts[piece] += 1
    return counts


@subroutine
def _ends_sentence(data, at, end, classes, closing, ending):
    """Say whether the word ends a sentence of which a character stands here; return also the place behind the word."""
    ended = False
    while at < end:
        code, size = decode(data, at)
        kind = class_of(classes, code)
        if kind & SPACE:
            return ended, at + size
        if kind & ending:
            ended = True
        elif not kind & closing:
            ended = False
        at += size
    return False, end


@kernel
def gathered(data, starts, ends):
    """Copy pieces of bytes into one buffer; return it and the borders of the pieces in it."""
    borders = np.zeros(len(starts) + 1, np.int64)
    for i in range(len(starts)):
        borders[i + 1] = borders[i] + ends[i] - starts[i]
    out = np.empty(borders[-1], np.uint8)
    for i in range(len(starts)):
        size = ends[i] - starts[i]
        if borders[i] + size + BLOCK <= len(out):
            copied(data, starts[i], size, out, borders[i])
        else:
            for j in range(size):
                out[borders[i] + j] = data[starts[i] + j]
    return out, borders
