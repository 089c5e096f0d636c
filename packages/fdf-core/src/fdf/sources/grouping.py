"""Groups small files into splits such that one more file, or one less, changes one group."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from fdf.sources.base import InputFile, Slice, Split

FILES_PER_GROUP = 64
GROUP_BYTES = 128 << 20


def grouped(files: Iterable[InputFile]) -> Iterator[Split]:
    """Yield splits of about 64 files in input order.

    A group ends after a file whose path hashes so: a property of the file alone (of its path below the root, so that
    a copy elsewhere is cut alike). Between two such files a group is also full at 128 MiB.
    """
    held: list[Slice] = []
    size = 0
    for file in files:
        held.append(Slice(file=file))
        size += file.size
        if _ends_group(file.path) or size >= GROUP_BYTES:
            yield Split(slices=tuple(held))
            held, size = [], 0
    if held:
        yield Split(slices=tuple(held))


def _ends_group(path: str) -> bool:
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % FILES_PER_GROUP == 0
