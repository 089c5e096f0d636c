"""Reading UTF-8 inside kernels. The bytes must be valid: `Texts` sees to that before any kernel runs."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.compiling import inline


@inline
def decode(data, at):
    """Return the code point that starts at this byte, and how many bytes it has."""
    lead = data[np.uint64(at)]
    if lead < 0x80:
        return int(lead), 1
    second = data[np.uint64(at + 1)] & 0x3F
    if lead < 0xE0:
        return ((lead & 0x1F) << 6) | second, 2
    third = data[np.uint64(at + 2)] & 0x3F
    if lead < 0xF0:
        return ((lead & 0x0F) << 12) | (second << 6) | third, 3
    return ((lead & 0x07) << 18) | (second << 12) | (third << 6) | (data[np.uint64(at + 3)] & 0x3F), 4


@inline
def class_of(classes, code):
    """Return the class of a code point."""
    return int(classes[np.uint64(code)])


@inline
def previous(data, at):
    """Return where the character starts that ends before this byte."""
    at -= 1
    while data[np.uint64(at)] & 0xC0 == 0x80:
        at -= 1
    return at
