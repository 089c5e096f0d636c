"""The source contract: where rows come from, how they are cut into splits, and how one slice is read.

A source lists its files, says what columns they hold, cuts them into splits without reading them in bulk, and reads
one slice as record batches with a position per row. It does not rename columns, add provenance or decide what happens
to bad rows: the stage engine does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa

from fdf.errors import PlanError
from fdf.fingerprint import sha256_hex


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One listed file. `path` is relative to the declared root; `version` changes when the content may have."""

    uri: str
    path: str
    size: int
    version: str


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of one file: `start` (inclusive) to `stop` (exclusive; None: to the end) in the source's own unit."""

    file: InputFile
    start: int = 0
    stop: int | None = None
    share: float = 1.0
    """How much of the file's bytes it holds, about; says nothing of which rows these are."""

    @property
    def bytes(self) -> int:
        """About how many bytes of the file it holds."""
        return round(self.file.size * self.share)

    @property
    def location(self) -> str:
        """Name the part within its source, the same whatever the content."""
        whole = self.start == 0 and self.stop is None
        return self.file.path if whole else f"{self.file.path}[{self.start}:{'' if self.stop is None else self.stop}]"


@dataclass(frozen=True, kw_only=True)
class Split:
    """What becomes one shard: one slice, or a group of small files (`files` and `text` only)."""

    slices: tuple[Slice, ...]

    @property
    def location(self) -> str:
        first = self.slices[0].location
        return first if len(self.slices) == 1 else f"{first}+"

    @property
    def version(self) -> str:
        """Change when any file of the split does, or when the group has other members."""
        if len(self.slices) == 1:
            return self.slices[0].file.version
        return sha256_hex("\n".join(f"{s.location} {s.file.version}" for s in self.slices))


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A record that could not be read: where it stands, why, and its first bytes."""

    position: int
    error: str
    raw: bytes = b""


@dataclass(frozen=True)
class SourceBatch:
    """Some rows of a slice. `positions` (int64, one per row) is the row number in the file, or for jsonl the byte
    offset of the line in the uncompressed text; both stay the same however the file is cut. No row or reject stands
    before one of an earlier batch, so that the first N records can be taken from the first batches."""

    rows: pa.RecordBatch
    positions: pa.Array
    rejects: tuple[Reject, ...] = ()
    extra_columns: tuple[str, ...] = ()

    def after(self, position: int) -> SourceBatch:
        """Return the records that stand behind a position."""
        if not len(self.positions) or self.positions[0].as_py() > position:
            rows, positions = self.rows, self.positions
        else:
            passed = int(np.searchsorted(self.positions.to_numpy(zero_copy_only=False), position, side="right"))
            rows, positions = self.rows.slice(passed), self.positions.slice(passed)
        rejects = tuple(r for r in self.rejects if r.position > position)
        return SourceBatch(rows, positions, rejects, self.extra_columns)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows that a file stores together, as its footer describes them: where they start, and by column the bytes that
    they take uncompressed and how many values there are, those in lists one by one, nulls not."""

    start: int
    rows: int
    bytes: Mapping[str, int]
    values: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A frozen dataclass whose fields are its options, like an operator.

    Most sources are indexed: their files can be listed, counted and cut, and workers read slices on their own. One that
    is not (`indexed` is False) has neither splits nor slices, only `stream`.
    """

    type: ClassVar[str]
    version: ClassVar[str] = "1"

    columns: dict[str, str] | None = None
    """Renames, new name: old name. Only these columns are read then."""
    schema: dict[str, str] | None = None
    """Declared types by column, as Arrow type names; otherwise taken from the first files."""
    extra_columns: Literal["drop", "error"] = "drop"
    identity: Literal["stat", "content"] = "stat"
    on_bad_file: Literal["fail", "skip"] = "fail"
    max_row_bytes: int = 64 << 20

    def options(self) -> dict[str, Any]:
        """Return what belongs to the stage fingerprint: every option that decides what rows come out, but not where
        the files are nor how failures are handled."""
        raise NotImplementedError

    @property
    def indexed(self) -> bool:
        """Say whether the input can be listed and cut into slices; otherwise it can only be streamed in order."""
        return True

    def pins(self) -> Mapping[str, Any]:
        """Return as JSON values what was resolved to read this input and must stay until the run is finished, such as
        the commit behind a branch; resolves it where nobody has yet. It is told in the manifest."""
        return {}

    def pinned(self, pins: Mapping[str, Any]) -> Self:
        """Return the source as an unfinished run resolved it: `pins` are what `pins()` returned then."""
        return self

    def files(self) -> list[InputFile]:
        """Return the input files in order, as far as they can be told without cutting splits."""
        seen: dict[str, InputFile] = {}
        for split in self.splits():
            for piece in split.slices:
                seen.setdefault(piece.file.uri, piece.file)
        return list(seen.values())

    def listed(self, files: Sequence[InputFile]) -> Self:
        """Return the source as an unfinished run listed it, where it lists files: they are not listed again."""
        return self

    @abstractmethod
    def splits(self) -> Iterator[Split]:
        """Yield the splits in input order: by URI, then by range. Raises PlanError where nothing is there."""

    @abstractmethod
    def physical_schema(self) -> pa.Schema:
        """Return the columns that the files hold, under their own names, from the first 8 files by URI."""

    @abstractmethod
    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Read one slice: exactly these columns (physical names) in these types. A column that the file lacks is null;
        a value that does not fit makes its row a `Reject`. Of a column that holds files as `datasets` stores them
        (`fdf.sources.stored_files`) bytes may be asked for. Raises BadFile naming the file."""

    def within(self, piece: Slice, first: int, last: int) -> Slice:
        """Return a slice that holds the records of `piece` at the positions `first` to `last`, both included, and as
        few others as can be told without reading. Its readers pass over the others."""
        return piece

    def landmark(self, piece: Slice, position: int) -> int:
        """Return the position of the first record that must be read to reach another: where `within` begins."""
        return -1

    def record_bytes(self, piece: Slice) -> float:
        """Return about how many bytes a record of the slice takes in memory, as far as that can be told without
        reading it; 0 where it cannot."""
        return 0.0

    def only_paths(self, columns: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return of columns that hold files in how many rows at least these are only pointed to, by a path without
        bytes, and in how many rows that was looked for; none where it cannot be told without reading rows."""
        return {}

    @property
    def has_blocks(self) -> bool:
        """Say whether `blocks` can be told without reading rows."""
        return False

    def blocks(self, piece: Slice, columns: Sequence[str]) -> list[Block]:
        """Return the blocks of a slice in order, with what is known of these columns (their names in the files)."""
        raise PlanError(f"a `{self.type}` source does not tell its blocks", help="leave `granularity: block` out")

    def stream(self, *, schema: pa.Schema, start: int) -> Iterator[SourceBatch]:
        """Yield the records from number `start` on (counted from 0), in a fixed order; positions are record numbers.

        For sources that are not indexed. Whoever goes on with a later `start` gets the same rows under the same
        numbers. Columns and rejects are as for `read`. Raises TransientError for a fault that may pass, else BadFile.
        """
        raise PlanError(f"a `{self.type}` source is read by its files, not as a stream", help="use splits() and read()")

    def count_rows(self, piece: Slice, *, at_most: int) -> int:
        """Return how many records the slice has, rejects included; stops counting at `at_most`."""
        total = 0
        for batch in self.read(piece, schema=pa.schema([])):
            total += len(batch.positions) + len(batch.rejects)
            if total >= at_most:
                return at_most
        return total
