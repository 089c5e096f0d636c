"""What FineWeb's quality rules measure of lines (Penedo et al. 2024, section 3.6; datatrove 0.10.1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.characters import SPACE
from fdf_ops_text.kernels.characters import class_of, decode, previous
from fdf_ops_text.kernels.compiling import kernel
from fdf_ops_text.kernels.hashing import appended, mixed
from fdf_ops_text.kernels.hashtable import emptied, first_with, table_size
from fdf_ops_text.kernels.lines import LINE_FEED


@kernel
def line_shares(data, starts, ends, classes, terminal, short):
    """Count per row, of lines that are not blank: all, those that end with a character of the class `terminal`, those
    of at most `short` characters; and the characters of lines that stood before.
    """
    rows = len(starts)
    n_lines = np.zeros(rows, np.int64)
    n_terminal = np.zeros(rows, np.int64)
    n_short = np.zeros(rows, np.int64)
    repeated_chars = np.zeros(rows, np.int64)
    most = 1
    for row in range(rows):
        feeds = 1
        for i in range(starts[row], ends[row]):
            feeds += data[i] == LINE_FEED
        most = max(most, feeds)
    slots = np.zeros(table_size(most), np.uint64)
    hashes = np.empty(most, np.uint64)
    lengths = np.empty(most, np.int64)
    for row in range(rows):
        at, end = starts[row], ends[row]
        count = 0
        while at <= end:
            begin = at
            value = np.uint64(0)
            chars, blank = 0, True
            while at < end:
                byte = data[np.uint64(at)]
                if byte == LINE_FEED:
                    break
                if byte < 0x80:
                    value = appended(value, byte)
                    if blank and not classes[byte] & SPACE:
                        blank = False
                    at += 1
                else:
                    code, size = decode(data, at)
                    if not class_of(classes, code) & SPACE:
                        blank = False
                    for i in range(at, at + size):
                        value = appended(value, data[np.uint64(i)])
                    at += size
                chars += 1
            if not blank:
                hashes[count] = mixed(value)
                lengths[count] = chars
                count += 1
                if class_of(classes, decode(data, previous(data, at))[0]) & terminal:
                    n_terminal[row] += 1
                if chars <= short:
                    n_short[row] += 1
            at += 1
            if begin == end:
                break
        n_lines[row] = count
        mask = emptied(slots, count)
        for i in range(count):
            if first_with(slots, mask, hashes, np.uint64(i)) != np.uint64(i):
                repeated_chars[row] += lengths[i]
    return n_lines, n_terminal, n_short, repeated_chars
