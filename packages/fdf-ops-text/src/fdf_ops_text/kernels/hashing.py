"""A hash of bytes that is known for a whole once it is known for its parts.

``H(s)`` is the polynomial sum of ``(byte + 1) * BASE ** (bytes after it)`` modulo 2**64, so that
``H(a + b) == H(a) * BASE ** len(b) + H(b)`` however a string is cut. `mixed` spreads it for use in a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fdf_ops_text.kernels.bytes import WIDTH, eight_bytes
from fdf_ops_text.kernels.compiling import inline, subroutine

# Odd, so that no power of it loses bits; its digits are those of 2**64 divided by the golden ratio.
BASE = np.uint64(0x9E3779B97F4A7C15)
INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
"""``BASE * INVERSE == 1`` modulo 2**64."""
ONE = np.uint64(1)
_SHIFT = np.uint64(32)
_POWERS = np.array([pow(0x9E3779B97F4A7C15, exponent, 2**64) for exponent in range(WIDTH + 1)], np.uint64)
_ONES = np.array([sum(map(int, _POWERS[:count])) % 2**64 for count in range(WIDTH + 1)], np.uint64)
"""The hash of so many zeros, whose bytes count as one each."""
_FIRST = np.uint64(0xD6E8FEB86659FD93)


@inline
def appended(value, byte):
    """Return the hash of a string with one byte more."""
    return value * BASE + np.uint64(byte) + ONE


@inline
def without_last(value, byte):
    """Return the hash of a string without its last byte, which is this one."""
    return (value - np.uint64(byte) - ONE) * INVERSE


@intrinsic
def _weighed(_typing: Any, eight: Any) -> Any:
    """Return the sum of eight bytes, each times BASE to the power of how many bytes come after it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = context.cast(builder, arguments[0], signature.args[0], types.uint64)
        each = builder.bitcast(whole, ir.VectorType(ir.IntType(8), WIDTH))
        wide = ir.VectorType(ir.IntType(64), WIDTH)
        weights = [ir.IntType(64)(int(_POWERS[WIDTH - 1 - i])) for i in range(WIDTH)]
        total = builder.mul(builder.zext(each, wide), ir.Constant(wide, weights))
        size = WIDTH
        while size > 1:
            size //= 2
            lanes = ir.VectorType(ir.IntType(32), size)
            halves = [ir.Constant(lanes, [ir.IntType(32)(start + i) for i in range(size)]) for start in (0, size)]
            nothing = ir.Constant(total.type, ir.Undefined)
            total = builder.add(*(builder.shuffle_vector(total, nothing, half) for half in halves))
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.uint64(eight), generate


@subroutine
def _last_bytes(data, at, count):
    """Return less than eight bytes as one number, the last on top. By itself: within a loop it would slow it down."""
    rest = np.uint64(0)
    for i in range(count):
        rest = (rest >> np.uint64(8)) | (np.uint64(data[at + np.uint64(i)]) << np.uint64(56))
    return rest


@inline
def hash_between(data, start, end):
    """Return the hash of the bytes between two places, eight at a time. Nothing outside of `data` is read."""
    value = np.uint64(0)
    at = np.uint64(start)
    left = np.int64(end) - np.int64(start)
    while left > WIDTH:
        value = value * _POWERS[WIDTH] + _weighed(eight_bytes(data, at)) + _ONES[WIDTH]
        at += np.uint64(WIDTH)
        left -= WIDTH
    if left <= 0:
        return value
    # The last byte comes to stand on top, and nought in place of what is not of the string.
    shift = np.uint64(8 * (WIDTH - left))
    rest = eight_bytes(data, at) << shift if np.int64(at) + WIDTH <= len(data) else _last_bytes(data, at, left)
    size = np.uint64(left)
    return value * _POWERS[size] + _weighed(rest) + _ONES[size]


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
