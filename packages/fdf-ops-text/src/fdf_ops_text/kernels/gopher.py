"""What Gopher's quality rules count in words (Rae et al. 2021, appendix A.1.1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.compiling import kernel
from fdf_ops_text.kernels.hashing import mixed
from fdf_ops_text.kernels.hashtable import slot_of, table_of
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
    keys = table_of(stop_words)
    seen = np.full(len(keys), -1, np.int64)
    for row in range(rows):
        plain, chars, letters = 0, 0, 0
        for place in range(first[row], last[row]):
            i = np.uint64(place)
            flag = flags[i]
            is_plain = flag & HAS_NO_SYMBOL != 0
            plain += is_plain
            chars += n_chars[i] if is_plain else 0
            letters += flag & HAS_LETTER != 0
            key = mixed(hashes[i])
            slot = slot_of(keys, key)
            if keys[slot] == key and seen[slot] != row:
                seen[slot] = row
                n_stop[row] += 1
        n_plain[row], plain_chars[row], n_letters[row] = plain, chars, letters
    return n_plain, plain_chars, n_letters, n_stop
