"""Cuts a byte stream into blocks of whole lines; each line has one owner, however the file is cut into ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.sources.base import InputFile, Reject, Slice, Split
from fdf.sources.conform import RAW_BYTES
from fdf.sources.listing import open_file
from fdf.storage.uri import filesystem, protocol_of

BLOCK_BYTES = 8 << 20
_CODECS = {"gz": "gzip", "zst": "zstd", "zstd": "zstd", "tgz": "gzip"}
_SPACE = np.frombuffer(b" \t\r\n", dtype=np.uint8)


def byte_splits(files: Iterable[InputFile], *, size: int) -> Iterator[Split]:
    """Yield splits of `size` bytes of each plain file; a compressed file is one split. Nothing is read."""
    for file in files:
        if compression_of(file) or file.size <= size:
            yield Split(slices=(Slice(file=file),))
            continue
        for start in range(0, file.size, size):
            stop = min(start + size, file.size)
            yield Split(slices=(Slice(file=file, start=start, stop=stop, share=(stop - start) / file.size),))


@dataclass(frozen=True)
class LineBlock:
    """Whole lines: their bytes, where the first byte stands in the uncompressed file, and the start and end (without
    the line feed) of each line that is not blank. Lines that are too long are rejects, unread."""

    data: bytes
    offset: int
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    rejects: tuple[Reject, ...] = ()

    def without(self, bad: npt.NDArray[np.bool_], *, error: str) -> LineBlock:
        """Return the block with these lines as rejects, and blanks in their place: offsets stay those of the file."""
        if not bad.any():
            return self
        data = bytearray(self.data)
        rejects = []
        for row in np.flatnonzero(bad):
            rejects.append(self.reject(int(row), error=error))
            start, end = int(self.starts[row]), int(self.ends[row])
            data[start:end] = b" " * (end - start)
        return LineBlock(bytes(data), self.offset, self.starts[~bad], self.ends[~bad], (*self.rejects, *rejects))

    def reject(self, row: int, *, error: str) -> Reject:
        """Return the line as a reject."""
        start, end = int(self.starts[row]), int(self.ends[row])
        return Reject(position=start + self.offset, error=error, raw=self.data[start : min(end, start + RAW_BYTES)])


def compression_of(file: InputFile) -> str | None:
    """Return Arrow's name of the codec that the file's extension stands for, or None for a plain file."""
    return _CODECS.get(file.uri.rsplit(".", 1)[-1].lower())


def open_stream(file: InputFile) -> Any:
    """Open a file for reading its uncompressed bytes in order. Concatenated gzip members and zstd frames are one."""
    codec = compression_of(file)
    if codec is None:
        return open_file(file.uri)
    if protocol_of(file.uri) == "file":
        return pa.CompressedInputStream(pa.OSFile(filesystem(file.uri)[1], "rb"), codec)
    return pa.CompressedInputStream(pa.PythonFile(open_file(file.uri), mode="r"), codec)


def line_blocks(stream: Any, *, start: int, stop: int | None, max_row_bytes: int) -> Iterator[LineBlock]:
    """Yield the lines that start at `start` or later and before `stop`, in blocks of about 8 MiB.

    Memory holds one block and at most one line of `max_row_bytes`; what is longer is passed by.
    """
    position = start
    carry = b""
    if start:
        # The byte before says whether a line starts here or one that belongs to the range before goes on.
        stream.seek(start - 1)
        position, carry = _skip_line(stream, start - 1)
    while stop is None or position < stop:
        chunk = b"" if _holds_end(carry, position, stop) else stream.read(_how_much(position, len(carry), stop))
        data = carry + chunk if carry else bytes(chunk)
        if not data:
            return
        end = _last_end(data, position, stop)
        if not chunk and not _holds_end(data, position, stop):
            end = len(data)  # the file ends without a line feed
        if end:
            yield _block(data[:end] if end < len(data) else data, position, max_row_bytes)
            position, carry = position + end, data[end:]
        elif len(data) > max_row_bytes:
            yield _empty(position, Reject(position=position, error=_too_long(max_row_bytes), raw=data[:RAW_BYTES]))
            position, carry = _skip_line(stream, position + len(data))
        else:
            carry = data


def _holds_end(data: bytes, position: int, stop: int | None) -> bool:
    """Say whether the data reach to the end of the last line that starts before `stop`."""
    return stop is not None and data.find(b"\n", max(0, stop - 1 - position)) >= 0


def _how_much(position: int, held: int, stop: int | None) -> int:
    # Not far beyond the end of the range, where the rest belongs to the next one; but doubling while one line goes on.
    least = max(64 << 10, held)
    return BLOCK_BYTES if stop is None else min(BLOCK_BYTES, max(least, stop - position - held + (64 << 10)))


def _last_end(data: bytes, position: int, stop: int | None) -> int:
    """Return where the whole lines of the data end that this range owns."""
    if stop is not None and position + len(data) >= stop:
        owned = data.find(b"\n", max(0, stop - 1 - position))
        if owned >= 0:
            return owned + 1
    return data.rfind(b"\n") + 1


def _skip_line(stream: Any, position: int) -> tuple[int, bytes]:
    """Read past the next line feed; return where the next line starts, and what was read of it."""
    while chunk := stream.read(1 << 20):
        found = chunk.find(b"\n")
        if found >= 0:
            return position + found + 1, bytes(chunk[found + 1 :])
        position += len(chunk)
    return position, b""


def _block(data: bytes, offset: int, max_row_bytes: int) -> LineBlock:
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw == 10)
    if raw[-1] != 10:
        ends = np.append(ends, len(raw))
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    filled = ends > starts
    # Only a line that begins with white space can be all white space.
    for i in np.flatnonzero(filled & np.isin(raw[np.minimum(starts, len(raw) - 1)], _SPACE)):
        filled[i] = bool(data[starts[i] : ends[i]].strip())
    block = LineBlock(data, offset, starts[filled], ends[filled])
    return block.without(block.ends - block.starts > max_row_bytes, error=_too_long(max_row_bytes))


def _empty(offset: int, reject: Reject) -> LineBlock:
    none = np.empty(0, dtype=np.int64)
    return LineBlock(b"", offset, none, none, (reject,))


def _too_long(max_row_bytes: int) -> str:
    return f"the line is longer than max_row_bytes ({max_row_bytes})"


def as_text(block: LineBlock) -> pa.Array:
    """Return the lines of a block as strings over the block's own bytes; whether they are UTF-8 is not yet known."""
    raw = pa.py_buffer(block.data)
    if len(block.starts) == 0:
        return pa.array([], pa.string())
    # String arrays want one run of offsets, so a line owns what stands between it and the next; the caller trims.
    offsets = np.append(block.starts, len(block.data)).astype(np.int32)
    return pa.StringArray.from_buffers(len(block.starts), pa.py_buffer(offsets), raw)


def not_utf8(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Say of each string whether it is not UTF-8."""
    bad = np.zeros(len(texts), dtype=bool)
    _mark_not_utf8(texts, bad)
    return bad


def _mark_not_utf8(texts: pa.Array, bad: npt.NDArray[np.bool_]) -> None:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            bad[0] = True
            return
        half = len(texts) // 2
        _mark_not_utf8(texts.slice(0, half), bad[:half])
        _mark_not_utf8(texts.slice(half), bad[half:])
