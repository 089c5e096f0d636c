"""Reads webdataset tar shards: files that share a key are one row. Members are read as data, never unpacked."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, ClassVar

import pyarrow as pa

from fdf.schema import IMAGE_EXTENSIONS
from fdf.sources.base import InputFile, Reject, Slice, SourceBatch
from fdf.sources.conform import conform
from fdf.sources.failures import reading
from fdf.sources.file_source import SAMPLE_ROWS, FileSource
from fdf.sources.lines import open_stream
from fdf.storage.retry import retrying

KEY = "__key__"
_TEXTS = frozenset(
    [
        "txt",
        "text",
        "json",
        "jsonl",
        "caption",
        "captions",
        "cls",
        "cls2",
        "index",
        "html",
        "htm",
        "xml",
        "md",
        "csv",
        "tsv",
        "url",
        "label",
        "id",
        "lang",
        "transcript",
        "srt",
        "vtt",
        "yaml",
        "yml",
    ]
)
_CALLED = {**dict.fromkeys(IMAGE_EXTENSIONS, "image"), "txt": "text"}
_MEMBER = re.compile(r"^((?:.*/)?[^./][^./]*)\.([^/]+)$", re.DOTALL)
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class WebdatasetSource(FileSource):
    """Samples of tar shards: `__key__`, and one column per extension; positions are sample numbers.

    A member's key is its name up to the first dot of the last part; members that follow each other under one key are
    one sample. `jpg`, `jpeg`, `png`, `gif`, `webp`, `tif`, `tiff` and `bmp` are called `image`, and `txt` is called
    `text`, unless `columns:` says what to read; a sample with two candidates is rejected. JSON stays text.
    """

    type: ClassVar[str] = "webdataset"
    extensions: ClassVar[tuple[str, ...]] = ("tar", "tar.gz", "tgz")

    def file_schema(self, file: InputFile) -> pa.Schema:
        """Return the columns of the first 1,000 samples, from the names of their members."""
        kinds: dict[str, pa.DataType] = {KEY: pa.string()}
        with reading(file, as_format="webdataset tar"), open_stream(file) as stream:
            for number, sample in enumerate(_samples(stream, self._called, wanted=frozenset(), most=0)):
                for extension, name in sample.names:
                    kind = pa.string() if extension.rsplit(".", 1)[-1] in _TEXTS else pa.binary()
                    if kinds.setdefault(name, kind) != kind:
                        kinds[name] = pa.binary()
                if number + 1 >= SAMPLE_ROWS:
                    break
        return pa.schema(list(kinds.items()))

    def _called(self, extension: str) -> str:
        return extension if self.columns is not None else _CALLED.get(extension, extension)

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Read the samples of a shard, one pass, with at most one batch of them in memory."""
        held: list[_Sample] = []
        size = number = 0
        with reading(piece.file, as_format="webdataset tar"), open_stream(piece.file) as stream:
            for sample in _samples(stream, self._called, wanted=frozenset(schema.names), most=self.max_row_bytes):
                held.append(sample)
                size += sample.size
                if size >= _BATCH_BYTES or len(held) >= _BATCH_ROWS:
                    yield _batch(held, number, schema)
                    number += len(held)
                    held, size = [], 0
            if held:
                yield _batch(held, number, schema)

    def record_bytes(self, piece: Slice) -> float:
        """Return the mean by the members' headers, in one pass over the shard."""
        count = retrying(partial(self.count_rows, piece, at_most=1 << 62), what=piece.file.uri)
        return piece.bytes / count if count else 0.0


@dataclass
class _Sample:
    key: str
    names: list[tuple[str, str]] = field(default_factory=list)
    data: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    error: str = ""


def _samples(stream: Any, called: Any, *, wanted: frozenset[str], most: int) -> Iterator[_Sample]:
    """Yield samples in order, with the data of the wanted columns."""
    sample: _Sample | None = None
    with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20, tarinfo=_StrictMember) as archive:
        for member in archive:
            match = _MEMBER.match(member.name) if member.isreg() else None
            if match is None or match.group(1).rsplit("/", 1)[-1].startswith("__"):
                continue
            key, extension = match.group(1), match.group(2).lower()
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                sample = _Sample(key)
            name = called(extension)
            other = next((e for e, n in sample.names if n == name), None)
            if other is not None:
                sample.error = sample.error or f"sample {key}: both .{other} and .{extension} would be column `{name}`"
            sample.names.append((extension, name))
            if name not in wanted or sample.error:
                continue
            sample.size += member.size
            if sample.size > most:
                sample.error = f"sample {key} holds more than max_row_bytes ({most})"
                sample.data.clear()
                sample.size = 0
                continue
            sample.data[name] = _content(archive.extractfile(member))
    if sample is not None:
        yield sample


def _content(file: IO[bytes] | None) -> bytes:
    return file.read() if file is not None else b""


def _batch(samples: list[_Sample], first: int, schema: pa.Schema) -> SourceBatch:
    rejects = tuple(
        Reject(position=first + i, error=s.error, raw=s.key.encode(errors="replace"))
        for i, s in enumerate(samples)
        if s.error
    )
    good = [(first + i, s) for i, s in enumerate(samples) if not s.error]
    columns = {}
    for name in schema.names:
        if name == KEY:
            columns[name] = pa.array([s.key.encode(errors="surrogateescape") for _, s in good], pa.binary())
        elif any(name in s.data for _, s in good):
            columns[name] = pa.array([s.data.get(name) for _, s in good], pa.binary())
    positions = pa.array([i for i, _ in good], pa.int64())
    batch = pa.RecordBatch.from_pydict(columns)
    if not columns:  # no column, or none that any sample has
        batch = pa.RecordBatch.from_arrays([pa.nulls(len(good))], names=[KEY])
    done = conform(batch, schema=schema, positions=positions, rejects=rejects)
    seen = dict.fromkeys(name for s in samples for _, name in s.names)
    return SourceBatch(done.rows, done.positions, done.rejects, tuple(n for n in seen if n not in schema.names))


class _StrictMember(tarfile.TarInfo):
    """A header that must be whole: tarfile takes a damaged or missing one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _StrictMember:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed does not list it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(
                f"{error} where the next member should begin: the tar is cut off or damaged"
            ) from error
