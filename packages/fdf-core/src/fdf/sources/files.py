"""Reads whole files as rows: images, audio, video or plain bytes, each with its path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from fdf.schema import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from fdf.sources.base import InputFile, Reject, Slice, SourceBatch, Split
from fdf.sources.conform import conform, positions_from
from fdf.sources.failures import reading
from fdf.sources.file_source import SAMPLE_FILES, FileSource
from fdf.sources.grouping import grouped
from fdf.sources.listing import open_file

_KINDS = {"image": IMAGE_EXTENSIONS, "audio": AUDIO_EXTENSIONS, "video": VIDEO_EXTENSIONS}


@dataclass(frozen=True, kw_only=True)
class FilesSource(FileSource):
    """One row per file: `path` below the declared root, and its bytes in `image`, `audio`, `video` or `bytes`."""

    type: ClassVar[str] = "files"
    extensions: ClassVar[tuple[str, ...]] = tuple(sorted(IMAGE_EXTENSIONS | AUDIO_EXTENSIONS | VIDEO_EXTENSIONS))

    content: Literal["auto", "image", "audio", "video", "bytes"] = "auto"
    """The column for the bytes; `auto`: what the extensions of the first 8 files agree on, else `bytes`."""

    def splits(self) -> Iterator[Split]:
        """Yield groups of files."""
        yield from grouped(self.files())

    def physical_schema(self) -> pa.Schema:
        """Return `path` and the one column of bytes."""
        return pa.schema([("path", pa.string()), (self._column(), pa.binary())])

    def file_schema(self, file: InputFile) -> pa.Schema:
        """Return `path` and the one column of bytes: every file is alike."""
        return self.physical_schema()

    def _column(self) -> str:
        if self.content != "auto":
            return self.content
        endings = {f.path.rsplit(".", 1)[-1].lower() for f in self.files()[:SAMPLE_FILES]}
        return next((kind for kind, known in _KINDS.items() if endings <= known), "bytes")

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Read one file as one row."""
        file = piece.file
        if file.size > self.max_row_bytes:
            error = f"the file holds {file.size} bytes, more than max_row_bytes ({self.max_row_bytes})"
            none = pa.RecordBatch.from_pylist([], schema=schema)
            yield SourceBatch(none, pa.array([], pa.int64()), (Reject(position=0, error=error),))
            return
        columns = {"path": pa.array([file.path], pa.string())}
        for name in schema.names:
            if name in (*_KINDS, "bytes"):
                with reading(file, as_format="bytes"), open_file(file.uri) as stream:
                    columns[name] = pa.array([stream.read()], pa.binary())
        batch = pa.RecordBatch.from_pydict({n: c for n, c in columns.items() if n in schema.names})
        yield conform(batch, schema=schema, positions=positions_from(0, 1), max_row_bytes=self.max_row_bytes)

    def count_rows(self, piece: Slice, *, at_most: int) -> int:
        """Return 1: a file is a row."""
        return min(1, at_most)
