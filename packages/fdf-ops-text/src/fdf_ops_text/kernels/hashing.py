"""A hash of bytes that is known for a whole once it is known for its parts.

``H(s)`` is the polynomial sum of ``(byte + 1) * BASE ** (bytes after it)`` modulo 2**64, so that
``H(a + b) == H(a) * BASE ** len(b) + H(b)`` however a string is cut. `mixed` spreads it for use in a table.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fdf_ops_text.kernels.compiling import inline, subroutine

# Odd, so that no power of it loses bits; its digits are those of 2**64 divided by the golden ratio.
BASE = np.uint64(0x9E3779B97F4A7C15)
INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
"""``BASE * INVERSE == 1`` modulo 2**64."""
ONE = np.uint64(1)
_SHIFT = np.uint64(32)
_FIRST = np.uint64(0xD6E8FEB86659FD93)


@inline
def appended(value, byte):
    """Return the hash of a string with one byte more."""
    return value * BASE + np.uint64(byte) + ONE


@inline
def without_last(value, byte):
    """Return the hash of a string without its last byte, which is this one."""
    return (value - np.uint64(byte) - ONE) * INVERSE


@subroutine
def power(exponent):
    """Return BASE to this power, modulo 2**64."""
    result, square = ONE, BASE
    while exponent > 0:
        if exponent & 1:
            result *= square
        square *= square
        exponent >>= 1
    return result


@inline
def mixed(value):
    """Return a hash of which every bit depends on every bit of `value`; never 0, which marks an empty slot."""
    value ^= value >> _SHIFT
    value *= _FIRST
    value ^= value >> _SHIFT
    value *= _FIRST
    value ^= value >> _SHIFT
    if value == np.uint64(0):
        return ONE
    return value


def hash_of(data: bytes) -> int:
    """Return `H` of some bytes, in plain Python.

    >>> whole, parts = hash_of(b"abc"), (hash_of(b"ab"), hash_of(b"c"))
    >>> whole == (parts[0] * int(BASE) + parts[1]) % 2**64
    True
    """
    value = 0
    for byte in data:
        value = (value * int(BASE) + byte + 1) % 2**64
    return value


def mixed_of(value: int) -> int:
    """Return what `mixed` makes of a hash, in plain Python."""
    for _ in range(2):
        value ^= value >> 32
        value = value * int(_FIRST) % 2**64
    value ^= value >> 32
    return value or 1


def hashes_of(words: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return the mixed hashes of some words, as kernels compare them."""
    return np.array([mixed_of(hash_of(word.encode())) for word in words], np.uint64)
