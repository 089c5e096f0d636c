"""What Gopher's quality rules count in words (Rae et al. 2021, appendix A.1.1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.compiling import kernel
from fdf_ops_text.kernels.hashing import mixed
from fdf_ops_text.kernels.words import HAS_LETTER, HAS_NO_SYMBOL


@kernel
def word_marks(first, last, n_chars, flags, hashes, stop_words):
    """Count per row: words with a character that is no symbol, the characters of these, words with a letter, and how
    many of the `stop_words` (their mixed hashes) occur, each once.
    """
    rows = len(first)
    n_plain = np.zeros(rows, np.int64)
    plain_chars = np.zeros(rows, np.int64)
    n_letters = np.zeros(rows, np.int64)
    n_stop = np.zeros(rows, np.int64)
    size = 16
    while size < 8 * len(stop_words):
        size *= 2
    mask = np.uint64(size - 1)
    keys = np.zeros(size, np.uint64)
    seen = np.full(size, -1, np.int64)
    for word in stop_words:
        slot = word & mask
        while keys[slot] != np.uint64(0) and keys[slot] != word:
            slot = (slot + np.uint64(1)) & mask
        keys[slot] = word
    for row in range(rows):
        for i in range(first[row], last[row]):
            flag = flags[i]
            if flag & HAS_NO_SYMBOL:
                n_plain[row] += 1
                plain_chars[row] += n_chars[i]
            if flag & HAS_LETTER:
                n_letters[row] += 1
            key = mixed(hashes[i])
            slot = key & mask
            while keys[slot] != np.uint64(0):
                if keys[slot] == key:
                    if seen[slot] != row:
                        seen[slot] = row
                        n_stop[row] += 1
                    break
                slot = (slot + np.uint64(1)) & mask
    return n_plain, plain_chars, n_letters, n_stop
