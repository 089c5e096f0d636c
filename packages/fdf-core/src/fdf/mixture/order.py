"""The order inside a source: a keyed permutation of its shards, and of the rows inside windows of 1,024.

It depends on the mixture's seed, the source's name, the epoch and the shard, and on nothing else: no state, no other
source, no library's random numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fdf.fingerprint import sha256_hex
from fdf.sources.base import Slice

WINDOW = 1024
Integers = npt.NDArray[np.int64]


def shard_order(pieces: Iterable[Slice], *, seed: int, name: str, epoch: int) -> list[Slice]:
    """Return the shards of an epoch in their order: that of their keyed hashes."""
    return sorted(pieces, key=lambda piece: _key(seed, name, epoch, piece.location))


def window_order(count: int, *, seed: int, name: str, epoch: int, piece: Slice, first: int) -> Integers:
    """Return which of the records `first` to `first + count` of a shard comes when, as numbers from 0 to `count`.

    `first` is a multiple of the window; records move only inside their window.
    """
    key = np.uint64(int(_key(seed, name, epoch, piece.location)[:16], 16))
    numbers = np.arange(first, first + count, dtype=np.uint64)
    order: Integers = np.lexsort((mixed(numbers ^ key), numbers // np.uint64(WINDOW))).astype(np.int64)
    return order


def mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return each number hashed: the finalizer of SplitMix64 (Steele, Lea and Flood 2014, figure 17)."""
    with np.errstate(over="ignore"):
        z = numbers + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _key(seed: int, name: str, epoch: int, location: str) -> str:
    return sha256_hex(f"{seed}\0{name}\0{epoch}\0{location}")
