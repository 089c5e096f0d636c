"""Reads and writes eight bytes at once, wherever they stand, and copies by them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fdf_ops_text.kernels.compiling import inline

WIDTH = 8
_NONE = np.uint64(0)
_ONES = np.uint64(0x0101010101010101)
_TOP_BITS = np.uint64(0x8080808080808080)


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    index = context.cast(builder, arguments[1], signature.args[1], types.intp)
    return builder.bitcast(builder.gep(data, [index]), ir.IntType(64).as_pointer())


@intrinsic
def eight_bytes(_typing: Any, array: Any, at: Any) -> Any:
    """Return the eight bytes of an array of bytes from this place on, as one number. They must be there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature, arguments), align=1)

    return types.uint64(array, at), generate


@intrinsic
def put_eight_bytes(_typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Write a number to an array of bytes as the eight bytes from this place on. There must be room for them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = context.cast(builder, arguments[2], signature.args[2], types.uint64)
        builder.store(whole, _place(context, builder, signature, arguments), align=1)
        return context.get_dummy_value()

    return types.void(array, at, value), generate


@inline
def every(byte):
    """Return eight times this byte."""
    return np.uint64(byte) * _ONES


@inline
def equal_bytes(eight, other):
    """Return a number that is not 0 if two times eight bytes have an equal byte in one place.

    Its top bits name the places, and perhaps further places above one of them.
    """
    differing = eight ^ other
    return (differing - _ONES) & ~differing & _TOP_BITS


@inline
def has_byte(data, start, end, byte):
    """Say whether a byte stands anywhere between these places."""
    sought = every(byte)
    at = start
    while at + WIDTH <= end:
        if equal_bytes(eight_bytes(data, np.uint64(at)), sought) != _NONE:
            return True
        at += WIDTH
    while at < end:
        if data[np.uint64(at)] == byte:
            return True
        at += 1
    return False


@inline
def copied(data, at, size, out, to):
    """Copy bytes. What lies up to seven bytes behind them in `out` is overwritten, and must be there."""
    if at + size + WIDTH <= len(data):
        for i in range(0, size, WIDTH):
            put_eight_bytes(out, to + i, eight_bytes(data, at + i))
    else:
        for i in range(size):
            out[to + i] = data[at + i]
