"""Open tables: of keys that stay, and small ones that kernels fill anew for each text."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.compiling import inline, subroutine

EMPTY = np.uint64(0)
_HIGH = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)


@inline
def table_size(entries):
    """Return the power of two that holds this many entries at most half full."""
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@inline
def slot_of(keys, key):
    """Return where a key stands in a table, or the empty slot where it would be put."""
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while keys[slot] != EMPTY and keys[slot] != key:
        slot = (slot + _ONE) & mask
    return slot


@subroutine
def table_of(keys):
    """Return a sparse table of some keys, for `slot_of`: most others meet an empty slot at once."""
    table = np.zeros(table_size(4 * len(keys)), np.uint64)
    for key in keys:
        table[slot_of(table, key)] = key
    return table


@inline
def first_with(slots, mask, hashes, index):
    """Return the first index that was put into the table with the hash of this one, which is put there if none was.

    A slot holds the upper half of a hash and 1 + its index, or EMPTY: most other hashes are told apart without a look
    at `hashes`. `mask` is the number of slots in use, a power of two, less one. The index is unsigned: numba looks
    at every signed one twice, since it may count from the end, and that costs three times what is done here.
    """
    key = hashes[index]
    tag = key & _HIGH
    slot = key & mask
    while True:
        held = slots[slot]
        if held == EMPTY:
            slots[slot] = tag | (index + _ONE)
            return index
        if held & _HIGH == tag:
            first = (held & _LOW) - _ONE
            if hashes[first] == key:
                return first
        slot = (slot + _ONE) & mask


@subroutine
def emptied(slots, entries):
    """Empty as much of a table as is needed for this many entries; return the mask for it."""
    size = table_size(entries)
    slots[:size] = EMPTY
    return np.uint64(size - 1)


@subroutine
def counted_firsts(keys, count, slots, counts, firsts):
    """Count how often each of the first `count` keys occurs: ``counts[firsts[i]]`` times, first at `firsts[i]`."""
    mask = emptied(slots, count)
    for k in range(count):
        i = np.uint64(k)
        first = first_with(slots, mask, keys, i)
        firsts[i] = first
        if first == i:
            counts[i] = 1
        else:
            counts[first] += 1
