"""Reads plain text: each file as a document, or each line as a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from fdf.sources.base import InputFile, Reject, Slice, SourceBatch, Split
from fdf.sources.conform import RAW_BYTES, conform, in_batches, in_order, positions_from
from fdf.sources.failures import reading
from fdf.sources.file_source import FileSource
from fdf.sources.grouping import grouped
from fdf.sources.lines import LineBlock, as_text, byte_splits, line_blocks, not_utf8, open_stream

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class TextSource(FileSource):
    """Text files, plain, `.gz` or `.zst`, in UTF-8; what is not is rejected.

    `document`: one row per file with `text` and `path`. `line`: one row per line that is not blank, with `text`;
    positions are byte offsets and a large plain file is several splits.
    """

    type: ClassVar[str] = "text"
    extensions: ClassVar[tuple[str, ...]] = tuple(
        f"{name}{codec}" for name in ("txt", "text", "md", "rst") for codec in ("", ".gz", ".zst")
    )

    sample_by: Literal["document", "line"] = "document"
    split_size: int = 64 << 20
    """Bytes of a plain file in one split (`line` only)."""

    def splits(self) -> Iterator[Split]:
        """Yield groups of files (`document`) or byte ranges (`line`)."""
        if self.sample_by == "document":
            return grouped(self.files())
        return byte_splits(self.files(), size=self.split_size)

    def physical_schema(self) -> pa.Schema:
        """Return the one or two columns that text has; no file is read."""
        self.files()
        return self.file_schema(self.files()[0])

    def file_schema(self, file: InputFile) -> pa.Schema:
        """Return `text`, and `path` for documents."""
        text = pa.field("text", pa.string())
        return pa.schema([text, ("path", pa.string())] if self.sample_by == "document" else [text])

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Read one document, or the lines that start within the slice."""
        with reading(piece.file, as_format="text"), open_stream(piece.file) as stream:
            if self.sample_by == "document":
                yield self._document(piece.file, stream.read(self.max_row_bytes + 1), schema)
                return
            for block in line_blocks(stream, start=piece.start, stop=piece.stop, max_row_bytes=self.max_row_bytes):
                yield from self._lines(block, schema)

    def _document(self, file: InputFile, data: bytes, schema: pa.Schema) -> SourceBatch:
        error = ""
        if len(data) > self.max_row_bytes:
            error = f"the file holds more than max_row_bytes ({self.max_row_bytes})"
        else:
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as failed:
                error = f"the file is not UTF-8: {failed.reason} at byte {failed.start}"
        if error:
            none = pa.RecordBatch.from_pylist([], schema=schema)
            reject = Reject(position=0, error=error, raw=bytes(data[:RAW_BYTES]))
            return SourceBatch(none, pa.array([], pa.int64()), (reject,))
        row = {n: v for n, v in (("text", text), ("path", file.path)) if n in schema.names}
        batch = pa.RecordBatch.from_pydict({n: pa.array([v], pa.string()) for n, v in row.items()})
        return conform(batch, schema=schema, positions=positions_from(0, 1))

    def _lines(self, block: LineBlock, schema: pa.Schema) -> Iterator[SourceBatch]:
        if block.offset == 0 and block.data.startswith(_BOM) and len(block.starts):
            starts = np.concatenate([[3], block.starts[1:]])
            block = LineBlock(block.data, 0, starts, block.ends, block.rejects)
        block = block.without(not_utf8(as_text(block)), error="the line is not UTF-8")
        texts = _trimmed(block)
        positions = pa.array(block.starts + block.offset)
        batch = pa.RecordBatch.from_arrays([texts], names=["text"])
        if "text" not in schema.names:
            batch = batch.select([])
        parts = in_batches(batch, positions) if len(positions) else ()
        batches = (conform(part, schema=schema, positions=where) for part, where in parts)
        yield from in_order(batches, block.rejects, schema=schema)


def _trimmed(block: LineBlock) -> pa.Array:
    """Return the lines without the line ends: the bytes between `starts` and `ends`, less a carriage return."""
    if len(block.starts) == 0:
        return pa.array([], pa.string())
    raw = np.frombuffer(block.data, dtype=np.uint8)
    ends = block.ends - (raw[block.ends - 1] == ord("\r"))
    # Bytes that belong to no line are left out in one pass: +1 where a line starts, -1 where it ends.
    steps = np.zeros(len(raw) + 1, dtype=np.int8)
    np.add.at(steps, block.starts, 1)
    np.add.at(steps, ends, -1)
    kept = raw[np.cumsum(steps[:-1], dtype=np.int8).astype(bool)]
    offsets = np.concatenate([[0], np.cumsum(ends - block.starts)]).astype(np.int32)
    return pa.StringArray.from_buffers(len(block.starts), pa.py_buffer(offsets), pa.py_buffer(kept))
