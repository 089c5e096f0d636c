"""Small open tables that kernels fill anew for each text."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.compiling import inline


@inline
def table_size(entries):
    """Return the power of two that holds this many entries at most half full."""
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@inline
def first_with(slots, size, hashes, index):
    """Return the first index that was put into the table with the hash of this one, which is put there if none was.

    `slots` holds 1 + an index into `hashes`, 0 where it is empty; `size` of them, a power of two, are in use.
    """
    mask = np.uint64(size - 1)
    key = hashes[index]
    slot = key & mask
    while slots[slot] != 0:
        held = slots[slot] - 1
        if hashes[held] == key:
            return held
        slot = (slot + np.uint64(1)) & mask
    slots[slot] = index + 1
    return index
