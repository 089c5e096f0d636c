"""Says what is a URL to spaCy's English tokenizer, which leaves one whole (tokenizer_exceptions.py, URL_PATTERN)."""

from __future__ import annotations

from fdf_ops_text.kernels.characters import decode
from fdf_ops_text.kernels.compiling import inline, subroutine

HOST = 256
"""May stand in the name of a host."""
LOWER = 512
"""A lower-case letter (ALPHA_LOWER), as top-level domains have."""
SCHEME = 1024
"""May stand in the scheme of a URL."""
UNKNOWN = -1
"""Not decided here: only spaCy can tell."""
MOST_LABEL = 64
MOST_TOP_LEVEL = 63
STOP, COLON, SLASH, AT, DASH = 0x2E, 0x3A, 0x2F, 0x40, 0x2D


@inline
def is_digit(byte):
    """Say whether this is an ASCII digit."""
    return 0x30 <= byte <= 0x39


@subroutine
def address(data, start, end, classes):
    """Say whether a string is a URL to spaCy: 1 if so, 0 if not, -1 where that is not decided here."""
    stops = 0
    for i in range(start, end):
        if data[i] == AT:
            return UNKNOWN
        if data[i] == STOP:
            stops += 1
    if stops == 0:
        return 0
    found = host_and_path(data, start, end, classes)
    if found != 0:
        return found
    at, chars = start, 0
    while at < end:
        code, size = decode(data, at)
        if code == COLON:
            if chars >= 2 and at + 2 < end and data[at + 1] == SLASH and data[at + 2] == SLASH:
                return host_and_path(data, at + 3, end, classes)
            return 0
        if not classes[code] & SCHEME:
            return 0
        chars += 1
        at += size
    return 0


@subroutine
def host_and_path(data, start, end, classes):
    """Say whether a string is a host name with a top-level domain, perhaps a port, perhaps a path."""
    at, labels, numbers = start, 0, 0
    while True:
        head = at
        chars, lower, decimal = 0, True, True
        starts_well, ends_well = False, False
        while at < end:
            code, size = decode(data, at)
            kind = classes[code]
            if not (kind & HOST or code == DASH or code == 0x5F):
                break
            ends_well = kind & HOST != 0
            if at == head:
                starts_well = ends_well
            lower = lower and kind & LOWER != 0
            decimal = decimal and is_digit(code)
            chars += 1
            at += size
        if decimal and chars > 0:
            numbers += 1
            if numbers == 4 and labels == 3:
                return UNKNOWN  # an IP address
        if at < end and data[at] == STOP and starts_well and ends_well and chars <= MOST_LABEL:
            labels += 1
            at += 1
            continue
        if labels == 0 or not lower or chars < 2 or chars > MOST_TOP_LEVEL:
            return 0
        break
    if at < end and data[at] == COLON:
        at += 1
        digits = 0
        while at < end and is_digit(data[at]):
            digits += 1
            at += 1
        if at < end and data[at] >= 0x80:
            return UNKNOWN  # digits of other scripts count, too
        if digits < 2 or digits > 5:
            return 0
    if at == end or data[at] == SLASH or data[at] == 0x3F or data[at] == 0x23:
        return 1
    return 0
