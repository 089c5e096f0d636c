"""Stable names for things: canonical JSON, sha256, and the keyed hash that sampling uses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import xxhash


def canonical_json(value: object) -> str:
    """Return `value` as JSON with sorted keys, no spaces and UTF-8 text: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_hex(data: str | bytes) -> str:
    """Return the sha256 of text (as UTF-8) or bytes, 64 hex digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def digest(value: object) -> str:
    """Return the sha256 of a value's canonical JSON."""
    return sha256_hex(canonical_json(value))


def keyed_hashes(ids: Iterable[str], *, key: int) -> np.ndarray:
    """Return a 64-bit hash per id (uint64): the same for an id and key wherever and in whatever order it is met."""
    hasher = xxhash.xxh3_64_intdigest
    return np.fromiter((hasher(i.encode(), seed=key) for i in ids), dtype=np.uint64)
