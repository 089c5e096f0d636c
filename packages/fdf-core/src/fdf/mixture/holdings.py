"""How much the sources of a mixture hold, without reading them in bulk.

Rows are counted by footers; what was measured before is looked up; of the rest the first rows of a few shards are
measured, and what they say is extrapolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pyarrow as pa

from fdf.mixture.measuring import Leaf, Measured, listing
from fdf.sources.base import Slice
from fdf.sources.jsonl import JsonlSource
from fdf.sources.lines import compression_of
from fdf.sources.listing import open_file
from fdf.sources.parquet import ParquetSource

How: TypeAlias = Literal["footers", "measured", "sample", "unknown"]
SAMPLE_ROWS = 2048
SAMPLED_SHARDS = 3
_PEEK = 1 << 20
_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What one source holds, in the mixture's unit."""

    units: int | None
    """None: it streams, and nobody knows."""
    rows: int | None
    exact: bool
    how: How
    largest: int
    """The largest document that was seen; 0 where none was looked at."""


@dataclass(frozen=True)
class _Shard:
    piece: Slice
    units: int
    rows: int
    largest: int


def holding_of(leaf: Leaf) -> Holding:
    """Return what a source holds; reads footers, and at most the first rows of a few shards."""
    if not leaf.source.indexed:
        return Holding(units=None, rows=None, exact=False, how="unknown", largest=0)
    pieces = listing(leaf)
    if leaf.measure.method == "rows" and all(_has_footer(leaf, p) for p in pieces):
        with ThreadPoolExecutor(_THREADS) as pool:
            rows = sum(pool.map(lambda p: leaf.source.count_rows(p, at_most=1 << 62), pieces))
        return Holding(units=rows, rows=rows, exact=True, how="footers", largest=1)
    known = {p: leaf.known(p) for p in pieces}
    shards = [_whole(p, parts) for p, parts in known.items() if parts is not None]
    unknown = [p for p, parts in known.items() if parts is None]
    if not unknown:
        return _sum(shards, exact=True, how="measured")
    sampled = [_sampled(leaf, p) for p in _spread(unknown)]
    rest = {*unknown} - {s.piece for s, _ in sampled}
    seen = [*shards, *(s for s, _ in sampled)]
    held = max(1, sum(s.piece.bytes for s in seen))
    units, rows = sum(s.units for s in seen), sum(s.rows for s in seen)
    extrapolated = [
        _Shard(p, round(units * p.bytes / held), round(rows * p.bytes / held), 0) for p in unknown if p in rest
    ]
    exact = not rest and all(whole for _, whole in sampled)
    return _sum([*seen, *extrapolated], exact=exact, how="measured" if exact else "sample")


def holdings_of(leaves: Sequence[Leaf]) -> list[Holding]:
    """Return what each source holds."""
    return [holding_of(leaf) for leaf in leaves]


def _sum(shards: Sequence[_Shard], *, exact: bool, how: How) -> Holding:
    return Holding(
        units=sum(s.units for s in shards),
        rows=sum(s.rows for s in shards),
        exact=exact,
        how=how,
        largest=max((s.largest for s in shards), default=0),
    )


def _whole(piece: Slice, parts: Sequence[Measured]) -> _Shard:
    return _Shard(
        piece,
        sum(int(p.sizes.sum()) for p in parts),
        sum(map(len, parts)),
        max((int(p.sizes.max()) for p in parts if len(p)), default=0),
    )


def _spread(pieces: Sequence[Slice]) -> list[Slice]:
    """Return a few shards from all over the listing."""
    count = min(SAMPLED_SHARDS, len(pieces))
    return [pieces[i * len(pieces) // count] for i in range(count)]


def _sampled(leaf: Leaf, piece: Slice) -> tuple[_Shard, bool]:
    """Return what a shard holds, and whether that is exact: by its first rows, all of them where there are few."""
    countable = _has_footer(leaf, piece) or _in_lines(leaf, piece)
    part, whole = leaf.sample(piece, SAMPLE_ROWS if countable else 1 << 62)
    if whole or not len(part):
        return _whole(piece, [part]), whole
    units, rows = int(part.sizes.sum()), len(part)
    if _has_footer(leaf, piece):
        count = leaf.source.count_rows(piece, at_most=1 << 62)
    else:
        # The position of a line is where it starts in the uncompressed text.
        read = int(part.positions[-1]) - piece.start
        count = max(rows, round((rows - 1) * piece.bytes * _expansion(piece) / max(1, read)))
    return _Shard(piece, round(units * count / rows), count, int(part.sizes.max())), False


def _has_footer(leaf: Leaf, piece: Slice) -> bool:
    return leaf.source.type == ParquetSource.type or _ends_in(piece, ParquetSource.extensions)


def _in_lines(leaf: Leaf, piece: Slice) -> bool:
    return leaf.source.type == JsonlSource.type or _ends_in(piece, JsonlSource.extensions)


def _ends_in(piece: Slice, extensions: Sequence[str]) -> bool:
    return piece.file.path.lower().endswith(tuple(f".{e}" for e in extensions))


def _expansion(piece: Slice) -> float:
    """Return how many bytes of text one byte of a compressed file stands for, by its first megabyte."""
    codec = compression_of(piece.file)
    if codec is None:
        return 1.0
    with open_file(piece.file.uri) as stream:
        packed = stream.read(_PEEK)
    unpacked = 0
    with suppress(OSError), pa.CompressedInputStream(pa.BufferReader(packed), codec) as text:
        # The megabyte ends inside a block: what comes before it counts.
        while block := text.read(1 << 16):
            unpacked += len(block)
    return unpacked / len(packed) if unpacked else 1.0
