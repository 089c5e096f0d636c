"""Sizes in bytes as people write them: `256 MiB`, `1_000_000`, `2GB`."""

from __future__ import annotations

import re

_SIZE = re.compile(r"\s*(\d[\d_]*(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int | None:
    """Return the bytes that a size means, or None for text that is no size.

    >>> parse_size("256 MiB"), parse_size("2GB"), parse_size("1.5 KiB"), parse_size("large")
    (268435456, 2000000000, 1536, None)
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        return None
    base = 1024 if match[3] else 1000
    return int(float(match[1].replace("_", "")) * base ** _POWERS[match[2].lower()])


def is_size_name(name: str) -> bool:
    """Say whether an integer of this name is a size in bytes, and so may be written as text."""
    return name in ("memory", "shard_size") or name.endswith("_bytes")
