"""Looks at 64 bytes at once: which of them hold what, as the bits of one number, bit i for byte i.

The bytes are compared in one step where the processor has vectors; LLVM makes smaller steps of it elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fdf_ops_text.kernels.compiling import inline, subroutine

BLOCK = 64
NO_BITS = np.uint64(0)
ONE_BIT = np.uint64(1)
ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)
_VECTOR = ir.VectorType(ir.IntType(8), BLOCK)


def _block(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    index = context.cast(builder, arguments[1], signature.args[1], types.intp)
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _everywhere(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    byte = context.cast(builder, value, kind, types.uint8)
    alone = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), byte, ir.IntType(32)(0))
    nought = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), None)
    return builder.shuffle_vector(alone, ir.Constant(_VECTOR, ir.Undefined), nought)


@intrinsic
def equal_here(_typing: Any, array: Any, at: Any, byte: Any) -> Any:
    """Return which of the 64 bytes from this place on are this byte. They must be there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = builder.load(_block(context, builder, signature, arguments), align=1)
        sought = _everywhere(context, builder, signature.args[2], arguments[2])
        return builder.bitcast(builder.icmp_unsigned("==", held, sought), ir.IntType(64))

    return types.uint64(array, at, byte), generate


@intrinsic
def within_here(_typing: Any, array: Any, at: Any, lowest: Any, count: Any) -> Any:
    """Return which of the 64 bytes from this place on are among `count` bytes from `lowest` on. They must be there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = builder.load(_block(context, builder, signature, arguments), align=1)
        above = builder.sub(held, _everywhere(context, builder, signature.args[2], arguments[2]))
        bound = _everywhere(context, builder, signature.args[3], arguments[3])
        return builder.bitcast(builder.icmp_unsigned("<", above, bound), ir.IntType(64))

    return types.uint64(array, at, lowest, count), generate


@intrinsic
def either_case_here(_typing: Any, array: Any, at: Any, letter: Any) -> Any:
    """Return which of the 64 bytes from this place on are this lower-case letter in either case. They must be there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = builder.load(_block(context, builder, signature, arguments), align=1)
        small = builder.or_(held, ir.Constant(_VECTOR, [0x20] * BLOCK))
        sought = _everywhere(context, builder, signature.args[2], arguments[2])
        return builder.bitcast(builder.icmp_unsigned("==", small, sought), ir.IntType(64))

    return types.uint64(array, at, letter), generate


@intrinsic
def letters_here(_typing: Any, array: Any, at: Any) -> Any:
    """Return which of the 64 bytes from this place on are ASCII letters. They must be there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = builder.load(_block(context, builder, signature, arguments), align=1)
        small = builder.or_(held, ir.Constant(_VECTOR, [0x20] * BLOCK))
        above = builder.sub(small, ir.Constant(_VECTOR, [0x61] * BLOCK))
        found = builder.icmp_unsigned("<", above, ir.Constant(_VECTOR, [26] * BLOCK))
        return builder.bitcast(found, ir.IntType(64))

    return types.uint64(array, at), generate


@intrinsic
def put_block(_typing: Any, array: Any, to: Any, source: Any, at: Any) -> Any:
    """Copy 64 bytes from one place to another. They and the room for them must be there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = _block(context, builder, signature, arguments)
        kinds = types.void(*signature.args[2:])
        held = builder.load(_block(context, builder, kinds, arguments[2:]), align=1)
        builder.store(held, target, align=1)
        return context.get_dummy_value()

    return types.void(array, to, source, at), generate


@intrinsic
def count_bits(_typing: Any, bits: Any) -> Any:
    """Return how many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(context.cast(builder, arguments[0], signature.args[0], types.uint64))

    return types.int64(bits), generate


@intrinsic
def first_bit(_typing: Any, bits: Any) -> Any:
    """Return the number of the lowest bit that is set; 64 where none is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.cast(builder, arguments[0], signature.args[0], types.uint64)
        return builder.cttz(held, ir.IntType(1)(0))

    return types.int64(bits), generate


@intrinsic
def last_bit(_typing: Any, bits: Any) -> Any:
    """Return the number of the highest bit that is set, of which there must be one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.cast(builder, arguments[0], signature.args[0], types.uint64)
        return builder.sub(ir.IntType(64)(BLOCK - 1), builder.ctlz(held, ir.IntType(1)(0)))

    return types.int64(bits), generate


@inline
def lowest_bits(count):
    """Return this many bits from the lowest on; all for 64 and more, none for 0."""
    return ALL_BITS if count >= BLOCK else (ONE_BIT << np.uint64(count)) - ONE_BIT


@subroutine
def with_a_block(data):
    """Return the bytes; where there are fewer than 64, a copy with as many behind them as are missing."""
    if len(data) >= BLOCK:
        return data
    padded = np.empty(BLOCK, np.uint8)
    # Not by slices: those take a second to compile.
    for i in range(BLOCK):
        padded[np.uint64(i)] = data[np.uint64(i)] if i < len(data) else 0
    return padded


@inline
def placed(data, at):
    """Return where to read 64 bytes so that those from `at` on are among them, and how many come before these."""
    base = min(at, len(data) - BLOCK)
    return np.uint64(base), np.uint64(at - base)


@inline
def has_byte(data, start, end, byte):
    """Say whether a byte stands anywhere between these places."""
    at = start
    while at < end:
        if at + BLOCK <= len(data):
            if equal_here(data, np.uint64(at), byte) & lowest_bits(end - at) != NO_BITS:
                return True
            at += BLOCK
        else:
            if data[np.uint64(at)] == byte:
                return True
            at += 1
    return False


@inline
def copied(data, at, size, out, to):
    """Copy bytes. What lies up to 63 bytes behind them in `out` is overwritten, and must be there."""
    done = 0
    while done < size:
        if at + done + BLOCK <= len(data):
            put_block(out, np.uint64(to + done), data, np.uint64(at + done))
            done += BLOCK
        else:
            out[np.uint64(to + done)] = data[np.uint64(at + done)]
            done += 1


@inline
def next_byte(data, at, end, byte):
    """Return where a byte stands next between these places; `end` where it does not. A block must be there."""
    while at < end:
        base, shift = placed(data, at)
        found = equal_here(data, base, byte) >> shift
        at += first_bit(found)
        if found != NO_BITS:
            break
    return min(at, end)


@inline
def count_characters(data, start, end):
    """Return the number of characters between two bytes. A block must be there."""
    count = 0
    at = start
    while at < end:
        base, shift = placed(data, at)
        count += count_bits(~(within_here(data, base, 0x80, 0x40) >> shift) & lowest_bits(end - at))
        at += BLOCK
    return count
