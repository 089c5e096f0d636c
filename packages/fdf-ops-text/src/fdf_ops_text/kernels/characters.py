"""Reading UTF-8 inside kernels. The bytes must be valid: `Texts` sees to that before any kernel runs."""

from __future__ import annotations

from fdf_ops_text.kernels.compiling import inline


@inline
def decode(data, at):
    """Return the code point that starts at this byte, and how many bytes it has."""
    lead = data[at]
    if lead < 0x80:
        return int(lead), 1
    if lead < 0xE0:
        return ((lead & 0x1F) << 6) | (data[at + 1] & 0x3F), 2
    if lead < 0xF0:
        return ((lead & 0x0F) << 12) | ((data[at + 1] & 0x3F) << 6) | (data[at + 2] & 0x3F), 3
    return (
        ((lead & 0x07) << 18) | ((data[at + 1] & 0x3F) << 12) | ((data[at + 2] & 0x3F) << 6) | (data[at + 3] & 0x3F)
    ), 4


@inline
def previous(data, at):
    """Return where the character starts that ends before this byte."""
    at -= 1
    while data[at] & 0xC0 == 0x80:
        at -= 1
    return at
