"""Reads parquet: cut at row groups, only the columns that are asked for, positions are row numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from fdf.errors import BadFile
from fdf.schema import plain_type
from fdf.sources.base import Block, InputFile, Slice, SourceBatch, Split
from fdf.sources.conform import BATCH_BYTES, conform, in_batches, positions_from
from fdf.sources.failures import reading
from fdf.sources.file_source import SAMPLE_FILES, FileSource
from fdf.sources.stored_files import BYTES, PATH, holds_files, may_give_bytes
from fdf.storage.remote import open_remote
from fdf.storage.retry import retrying
from fdf.storage.uri import filesystem, protocol_of

_MOST_ROWS = 65_536
# A file this much smaller than a split is one split whatever its footer says, so the footer need not be fetched.
_SURELY_ONE = 8


@dataclass(frozen=True, kw_only=True)
class ParquetSource(FileSource):
    """Rows of parquet files; a large file is several splits, cut between row groups."""

    type: ClassVar[str] = "parquet"
    extensions: ClassVar[tuple[str, ...]] = ("parquet", "pq", "parq")

    split_size: int = 128 << 20
    """Uncompressed bytes of row groups in one split, about."""

    def splits(self) -> Iterator[Split]:
        """Yield ranges of rows that start and end at row groups; footers are read one by one, when it is their turn."""
        for file in self.files():
            yield from (Split(slices=(piece,)) for piece in self._ranges(file))

    def _ranges(self, file: InputFile) -> list[Slice]:
        if file.size * _SURELY_ONE < self.split_size:
            return [Slice(file=file)]
        try:
            metadata = retrying(partial(_footer, file), what=file.uri)
        except BadFile:
            return [Slice(file=file)]  # whoever reads it decides whether it fails the run or is passed by
        ends: list[tuple[int, int]] = []
        row = held = 0
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            row += group.num_rows
            held += group.total_byte_size
            if held >= self.split_size or i + 1 == metadata.num_row_groups:
                ends.append((row, held))
                held = 0
        if len(ends) < 2:
            return [Slice(file=file)]
        whole = max(1, sum(held for _, held in ends))
        starts = [0, *(row for row, _ in ends)]
        return [
            Slice(file=file, start=start, stop=stop, share=held / whole)
            for start, (stop, held) in zip(starts, ends, strict=False)
        ]

    def file_schema(self, file: InputFile) -> pa.Schema:
        """Return the columns that the footer names."""
        with reading(file, as_format="parquet"), _open(file) as parquet:
            return parquet.schema_arrow

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Read the rows from `start` to `stop`; pages of other columns are not fetched, nor the paths of files whose
        bytes are asked for."""
        with reading(piece.file, as_format="parquet"), _open(piece.file) as parquet:
            metadata = parquet.metadata
            there = {f.name: f.type for f in parquet.schema_arrow}
            wanted = [
                f"{f.name}.{BYTES}" if may_give_bytes(there[f.name], f.type) else f.name
                for f in schema
                if f.name in there
            ]
            extra = tuple(n for n in parquet.schema_arrow.names if n not in schema.names)
            stop = metadata.num_rows if piece.stop is None else min(piece.stop, metadata.num_rows)
            first = 0
            for i in range(metadata.num_row_groups):
                rows = metadata.row_group(i).num_rows
                low, high = max(piece.start, first), min(stop, first + rows)
                if low < high:
                    for batch, positions in self._group(parquet, i, first, wanted):
                        start = positions[0].as_py()
                        skip, keep = max(0, low - start), min(high, start + len(positions)) - max(low, start)
                        if keep > 0:
                            part, where = batch.slice(skip, keep), positions.slice(skip, keep)
                            done = conform(part, schema=schema, positions=where, max_row_bytes=self.max_row_bytes)
                            yield SourceBatch(done.rows, done.positions, done.rejects, extra)
                first += rows

    def within(self, piece: Slice, first: int, last: int) -> Slice:
        """Return exactly these rows: a slice's unit is the row."""
        return dataclasses.replace(piece, start=first, stop=last + 1)

    def landmark(self, piece: Slice, position: int) -> int:
        """Return the first row of the row group."""
        first = row = 0
        metadata = _known_footer(piece.file)
        for i in range(metadata.num_row_groups):
            if row > position:
                break
            first, row = row, row + metadata.row_group(i).num_rows
        return first

    def record_bytes(self, piece: Slice) -> float:
        """Return the mean by the footer's uncompressed sizes."""
        metadata = _known_footer(piece.file)
        held = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        return held / metadata.num_rows if metadata.num_rows else 0.0

    def only_paths(self, columns: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return what the nulls in the footers of the first 8 files tell."""
        found: dict[str, tuple[int, int]] = {}
        for file in self.files()[:SAMPLE_FILES] if columns else ():
            try:
                metadata = _known_footer(file)
            except BadFile:
                continue  # whoever reads it decides whether it fails the run or is passed by
            there = {f.name for f in metadata.schema.to_arrow_schema() if holds_files(plain_type(f.type))}
            for name in there.intersection(columns):
                without, rows = found.get(name, (0, 0))
                more, looked_at = _only_paths(metadata, name)
                found[name] = without + more, rows + looked_at
        return found

    @property
    def has_blocks(self) -> bool:
        """Say that row groups are told by footers."""
        return True

    def blocks(self, piece: Slice, columns: Sequence[str]) -> list[Block]:
        """Return the row groups that begin within the slice, from the footer alone."""
        metadata = retrying(partial(_footer, piece.file), what=piece.file.uri)
        found: list[Block] = []
        leaves = _leaves(metadata, columns)
        start = 0
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            if group.num_rows and piece.start <= start and (piece.stop is None or start < piece.stop):
                chunks = [group.column(j) for j in range(group.num_columns)]
                own = {c: [k for k in chunks if f"{k.path_in_schema}.".startswith(f"{leaves[c]}.")] for c in columns}
                found.append(
                    Block(
                        start=start,
                        rows=group.num_rows,
                        bytes={c: sum(k.total_uncompressed_size for k in ks) for c, ks in own.items()},
                        values={c: sum(_valid(k) for k in ks) for c, ks in own.items()},
                    )
                )
            start += group.num_rows
        return found

    def _group(self, parquet: Any, i: int, first: int, wanted: list[str]) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        rows = parquet.metadata.row_group(i).num_rows
        if not wanted:
            for done in range(0, rows, _MOST_ROWS):
                count = min(_MOST_ROWS, rows - done)
                yield pa.RecordBatch.from_arrays([], names=[]), positions_from(first + done, count)
            return
        weight = max(1, parquet.metadata.row_group(i).total_byte_size // max(1, rows))
        size = max(1, min(_MOST_ROWS, BATCH_BYTES // weight))
        for batch in parquet.iter_batches(size, row_groups=[i], columns=wanted, use_threads=False):
            yield from in_batches(batch, positions_from(first, batch.num_rows))
            first += batch.num_rows

    def count_rows(self, piece: Slice, *, at_most: int) -> int:
        """Return the rows of the slice from the footer alone."""
        with reading(piece.file, as_format="parquet"), _open(piece.file) as parquet:
            rows = int(parquet.metadata.num_rows)
        stop = rows if piece.stop is None else min(piece.stop, rows)
        return max(0, min(stop - piece.start, at_most))


def _leaves(metadata: Any, columns: Sequence[str]) -> dict[str, str]:
    """Return where the values of columns stand in a file: of files as `datasets` stores them their bytes count."""
    types = {f.name: plain_type(f.type) for f in metadata.schema.to_arrow_schema()}
    return {c: f"{c}.{BYTES}" if c in types and holds_files(types[c]) else c for c in columns}


def _only_paths(metadata: Any, name: str) -> tuple[int, int]:
    """Return in how many rows at least a column of files has a path alone, and in how many rows its nulls are known."""
    leaves = [metadata.schema.column(j).path for j in range(metadata.num_columns)]
    data, path = leaves.index(f"{name}.{BYTES}"), leaves.index(f"{name}.{PATH}")
    without = rows = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        told = [group.column(j).statistics for j in (data, path)]
        if all(s is not None and s.has_null_count for s in told):
            rows += group.num_rows
            without += max(0, told[0].null_count - told[1].null_count)
    return without, rows


def _valid(chunk: Any) -> int:
    """Return how many values of a column chunk are not null, where its statistics say."""
    statistics = chunk.statistics
    nulls = statistics.null_count if statistics is not None and statistics.has_null_count else 0
    return int(chunk.num_values - nulls)


@lru_cache(maxsize=256)
def _known_footer(file: InputFile) -> Any:
    return retrying(partial(_footer, file), what=file.uri)


def _footer(file: InputFile) -> Any:
    with reading(file, as_format="parquet"), _open(file) as parquet:
        return parquet.metadata


def _open(file: InputFile) -> Any:
    fs, path = filesystem(file.uri)
    if protocol_of(file.uri) == "file":
        return pq.ParquetFile(pa.OSFile(path, "rb"))
    return pq.ParquetFile(retrying(lambda: open_remote(fs, path), what=file.uri), pre_buffer=True)
