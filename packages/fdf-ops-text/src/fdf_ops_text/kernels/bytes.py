"""Reads and writes eight bytes at once, wherever they stand, and copies by them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fdf_ops_text.kernels.compiling import inline

WIDTH = 8


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
def copied(data, at, size, out, to):
    """Copy bytes. What lies up to seven bytes behind them in `out` is overwritten, and must be there."""
    if at + size + WIDTH <= len(data):
        for i in range(0, size, WIDTH):
            put_eight_bytes(out, to + i, eight_bytes(data, at + i))
    else:
        for i in range(size):
            out[to + i] = data[at + i]
