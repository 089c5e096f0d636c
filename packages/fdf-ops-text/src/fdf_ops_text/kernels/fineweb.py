"""What FineWeb's quality rules measure of lines (Penedo et al. 2024, section 3.6; datatrove 0.10.1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.blocks import count_characters, next_byte, with_a_block
from fdf_ops_text.kernels.characters import class_of, decode, previous
from fdf_ops_text.kernels.compiling import kernel
from fdf_ops_text.kernels.hashing import hash_between, mixed
from fdf_ops_text.kernels.hashtable import emptied, first_with, table_size
from fdf_ops_text.kernels.lines import LINE_FEED, left_trimmed


@kernel
def line_shares(data, starts, ends, classes, terminal, short):
    """Count per row, of lines that are not blank: all, those that end with a character of the class `terminal`, those
    of at most `short` characters; and the characters of lines that stood before.
    """
    data = with_a_block(data)
    rows = len(starts)
    n_lines = np.zeros(rows, np.int64)
    n_terminal = np.zeros(rows, np.int64)
    n_short = np.zeros(rows, np.int64)
    repeated_chars = np.zeros(rows, np.int64)
    most = 1
    for row in range(rows):
        feeds = 1
        for i in range(starts[row], ends[row]):
            feeds += data[np.uint64(i)] == LINE_FEED
        most = max(most, feeds)
    slots = np.zeros(table_size(most), np.uint64)
    hashes = np.empty(most, np.uint64)
    lengths = np.empty(most, np.int64)
    for row in range(rows):
        at, end = starts[row], ends[row]
        count, ended, brief = 0, 0, 0
        while at < end:
            stop = next_byte(data, at, end, LINE_FEED)
            if left_trimmed(data, at, stop, classes) < stop:
                chars = count_characters(data, at, stop)
                hashes[count] = mixed(hash_between(data, at, stop))
                lengths[count] = chars
                count += 1
                ended += class_of(classes, decode(data, previous(data, stop))[0]) & terminal != 0
                brief += chars <= short
            at = stop + 1
        n_lines[row], n_terminal[row], n_short[row] = count, ended, brief
        mask = emptied(slots, count)
        for i in range(count):
            if first_with(slots, mask, hashes, np.uint64(i)) != np.uint64(i):
                repeated_chars[row] += lengths[i]
    return n_lines, n_terminal, n_short, repeated_chars
