"""Reads datasets of the Hugging Face hub, or folders laid out alike: resolved to files, which other sources read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf.schema import plain_schema
from fdf.sources.arrow import ArrowSource
from fdf.sources.base import InputFile, Slice, Source, SourceBatch, Split
from fdf.sources.conform import conform, in_batches, positions_from
from fdf.sources.delimited import CsvSource
from fdf.sources.failures import reading
from fdf.sources.file_source import FileSource, with_declared
from fdf.sources.huggingface.fetching import fetched
from fdf.sources.huggingface.formats import OTHER, endings, format_of, of_format
from fdf.sources.huggingface.layout import choose
from fdf.sources.huggingface.loading import Loadable
from fdf.sources.huggingface.origin import FolderOrigin, HubOrigin, Origin, Pin, resolve
from fdf.sources.jsonl import JsonlSource
from fdf.sources.naming import declared_schema
from fdf.sources.parquet import ParquetSource
from fdf.sources.text import TextSource
from fdf.sources.webdataset import WebdatasetSource
from fdf.storage.uri import local_path

_DIRECT: dict[str, type[FileSource]] = {
    source.type: source for source in (ParquetSource, JsonlSource, CsvSource, ArrowSource, TextSource, WebdatasetSource)
}
_MORE: dict[str, dict[str, Any]] = {"text": {"sample_by": "line"}}
"""What a reader has to be told to read as `datasets` does."""
_PREPARED, _STREAMED = "prepared", "streamed"
_READERS: dict[str, type[FileSource]] = {**_DIRECT, _PREPARED: ParquetSource}


@dataclass(frozen=True)
class _Found:
    """What the dataset turned out to be."""

    format: str
    files: tuple[InputFile, ...] = ()
    loadable: Loadable | None = None
    """What to ask `datasets` for, where only it can read the files."""


@dataclass(frozen=True, kw_only=True)
class HubSource(Source):
    """A dataset of the Hugging Face hub at one commit, or a local folder laid out like one (`save_to_disk` too).

    Parquet, JSON lines, CSV, text, Arrow and tar files are read as by the sources of these formats. What else
    `datasets` can load is prepared by it first, or streamed with `streaming: true`. A branch is resolved to its commit
    once for a run. A token, where one is needed, comes from `HF_TOKEN` or `hf auth login`.
    """

    type: ClassVar[str] = "huggingface"

    path: str
    """`owner/name` on the hub, or a local folder."""
    config: str | None = None
    """One of the dataset's configs (subsets); needed where it has several and names no default."""
    split: str = "train"
    """A split, or several as `train+validation`."""
    revision: str | None = None
    """A branch, tag or commit; by default `main`."""
    streaming: bool = False
    """Read from the hub by range requests, instead of copying each file to the local cache first."""
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    """Paths or globs within the dataset, or these by split, instead of what its card and its names say."""

    def options(self) -> dict[str, Any]:
        """Return what decides which rows come out; not the revision, since each file's content has its version."""
        named = ("config", "split", "data_files", "columns", "schema", "max_row_bytes")
        known = self._known().format
        return {
            "type": self.type,
            "version": self.version,
            "reads": [known, _READERS[known].version if known in _READERS else "1"],
            **{name: getattr(self, name) for name in named},
        }

    @property
    def indexed(self) -> bool:
        """Say whether there are files to read; only `datasets` streams what it alone can read."""
        return self._known().format != _STREAMED

    def pins(self) -> Mapping[str, Any]:
        """Return the commit that the revision is, and what the files are."""
        origin = self._origin()
        commit = dataclasses.asdict(origin.pin) if isinstance(origin, HubOrigin) else {}
        return {"path": self.path, **commit, "format": self._known().format}

    def pinned(self, pins: Mapping[str, Any]) -> Self:
        """Return the source at the commit that an unfinished run resolved."""
        if pins.get("path") != self.path:
            return self
        same = dataclasses.replace(self)
        if "commit" in pins:
            pin = Pin(repository=pins["repository"], revision=pins["revision"], commit=pins["commit"])
            same.__dict__["_where"] = HubOrigin(pin)
        if pins["format"] in _DIRECT:
            same.__dict__["_brief"] = _Found(pins["format"])
        return same

    def listed(self, files: Sequence[InputFile]) -> Self:
        """Return the source with this listing in place of a look at the hub, where the files can be read as they are.

        What `datasets` prepared may be gone since, so that is looked up again, at the same commit.
        """
        known: _Found | None = self.__dict__.get("_brief") or self.__dict__.get("_what")
        if known is None or known.format not in _DIRECT:
            return self
        same = dataclasses.replace(self)
        same.__dict__.update(_where=self._origin(), _what=_Found(known.format, tuple(files)))
        return same

    def files(self) -> list[InputFile]:
        """Return the files of the split by URI."""
        return list(self._found().files)

    def splits(self) -> Iterator[Split]:
        """Yield the splits of the files, cut as their format is."""
        return self._listed_reader().splits()

    def physical_schema(self) -> pa.Schema:
        """Return the columns that the first 8 files hold, or that the stream has."""
        if self.indexed:
            return self._listed_reader().physical_schema()
        loadable = self._known().loadable
        assert loadable is not None
        first = next(loadable.tables(0), None)
        if first is None:
            raise PlanError(f"split `{self.split}` of `{self.path}` is empty", help="choose another split")
        return with_declared(plain_schema(first.schema), declared_schema(self.schema, self.columns))

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Read one slice, from the copy in the cache unless `streaming`."""
        yield from self._reader().read(self._here(piece), schema=schema)

    def count_rows(self, piece: Slice, *, at_most: int) -> int:
        """Count without copying: the planner may need no more than a footer."""
        return self._reader().count_rows(piece, at_most=at_most)

    def within(self, piece: Slice, first: int, last: int) -> Slice:
        """Return a smaller slice where the format allows."""
        return self._reader().within(piece, first, last)

    def record_bytes(self, piece: Slice) -> float:
        """Return the mean of a slice: by the footer alone, or of the copy that will be read anyway."""
        reader = self._reader()
        return reader.record_bytes(piece if isinstance(reader, ParquetSource) else self._here(piece))

    def only_paths(self, columns: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return what the files tell without being read."""
        return self._listed_reader().only_paths(columns) if self.indexed and columns else {}

    def stream(self, *, schema: pa.Schema, start: int) -> Iterator[SourceBatch]:
        """Yield the records from number `start` on, in the order of the files."""
        loadable = self._known().loadable
        if loadable is None or self.indexed:
            yield from super().stream(schema=schema, start=start)
            return
        for table in loadable.tables(start):
            extra = tuple(n for n in table.schema.names if n not in schema.names)
            for batch in _batches(table.select([n for n in schema.names if n in table.schema.names])):
                for part, where in in_batches(batch, positions_from(start, batch.num_rows)):
                    done = conform(part, schema=schema, positions=where, max_row_bytes=self.max_row_bytes)
                    yield SourceBatch(done.rows, done.positions, done.rejects, extra)
                start += batch.num_rows

    def __getstate__(self) -> dict[str, Any]:
        # Workers read slices that they are given: of what was found they need all but the files, which may be many.
        state = dict(self.__dict__)
        if isinstance(where := state.get("_where"), HubOrigin):
            state["_where"] = HubOrigin(where.pin)
        if isinstance(what := state.pop("_what", None), _Found):
            state["_brief"] = dataclasses.replace(what, files=())
        return state

    def _folder(self) -> Path | None:
        """Return the local folder that `path` is, or None for a dataset of the hub."""
        local = local_path(self.path)
        if local is not None and Path(local).is_dir():
            return Path(local)
        if self.path.startswith((".", "/", "~")) or self.path.count("/") > 1:
            message = f"the folder {self.path} does not exist"
            help_ = "check the path; a dataset of the hub is named `owner/name`"
            raise PlanError(Problem(code="FDF300", message=message, about="path", help=help_))
        return None

    def _origin(self) -> Origin:
        known: Origin | None = self.__dict__.get("_where")
        if known is not None:
            return known
        folder = self._folder()
        if folder is not None and self.revision is not None:
            message = f"{folder} is a local folder, which has no revision `{self.revision}`"
            raise PlanError(Problem(code="FDF300", message=message, about="revision", help="leave `revision` out"))
        where: Origin = FolderOrigin(folder, self.identity) if folder else HubOrigin(resolve(self.path, self.revision))
        self.__dict__["_where"] = where
        return where

    def _found(self) -> _Found:
        """Return what the dataset is; looked up once."""
        found: _Found | None = self.__dict__.get("_what")
        if found is None:
            found = self.__dict__["_what"] = self._find()
        return found

    def _known(self) -> _Found:
        """Return what the dataset is, without its files where this is a worker's copy."""
        known: _Found | None = self.__dict__.get("_brief")
        return known or self._found()

    def _find(self) -> _Found:
        origin = self._origin()
        chosen = choose(
            origin.paths(),
            read=origin.read,
            name=origin.name,
            config=self.config,
            split=self.split,
            data_files=self.data_files,
        )
        kind = "arrow" if chosen.saved else format_of(chosen.files)
        files = list(chosen.files) if chosen.saved or kind == OTHER else of_format(chosen.files, kind)
        if kind == "jsonl" and ".json" in endings(files[0]) and _is_one_value(origin, files[0]):
            kind = OTHER
        if kind != OTHER:
            return _Found(kind, tuple(origin.inputs(files)))
        commit = origin.pin.commit if isinstance(origin, HubOrigin) else None
        name = chosen.config if self.data_files is None and chosen.config != "default" else self.config
        loadable = Loadable(origin.name, name, self.split, commit, self.data_files)
        if self.streaming:
            return _Found(_STREAMED, (), loadable)
        return _Found(_PREPARED, tuple(_prepared(loadable)), loadable)

    def _reader(self) -> FileSource:
        """Return the source that reads slices of the files."""
        kind = self._known().format
        return _READERS[kind](
            path=self.path,
            columns=self.columns,
            schema=self.schema,
            extra_columns=self.extra_columns,
            on_bad_file=self.on_bad_file,
            max_row_bytes=self.max_row_bytes,
            **_MORE.get(kind, {}),
        )

    def _listed_reader(self) -> FileSource:
        """Return the source that reads the files, knowing them."""
        found = self._found()
        reader = self._reader()
        reader.__dict__["_listed"] = list(found.files)
        return reader

    def _here(self, piece: Slice) -> Slice:
        """Return a slice of the file that is to be opened."""
        file, loadable = piece.file, self._known().loadable
        if file.uri.startswith("hf://"):
            if not self.streaming:
                with reading(file, as_format=self._reader().type):
                    file = fetched(file)
        elif loadable is not None and not Path(file.uri).exists():
            # Prepared on another machine: here it is made again, from the same commit.
            file = next((f for f in _prepared(loadable) if f.path == file.path), file)
        return dataclasses.replace(piece, file=file)


def _prepared(loadable: Loadable) -> list[InputFile]:
    """Return the files that `datasets` made of a split, by URI."""
    found = []
    for path in loadable.prepared():
        stat = path.stat()
        version = f"{loadable.commit or stat.st_mtime_ns}-{stat.st_size}"
        found.append(InputFile(uri=str(path), path=path.name, size=stat.st_size, version=version))
    return sorted(found, key=lambda f: f.uri)


def _is_one_value(origin: Origin, path: str) -> bool:
    """Say whether a `.json` file holds one list rather than a value per line."""
    from fdf.sources.lines import open_stream

    (file,) = origin.inputs([path])
    with reading(file, as_format="JSON"), open_stream(file) as stream:
        return bool(stream.read(1 << 10).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["))


def _batches(table: pa.Table) -> list[pa.RecordBatch]:
    """Return a table's batches; one with a column of nothing for a table that has none, as its rows count."""
    if table.num_columns:
        return list(table.to_batches())
    return [pa.RecordBatch.from_arrays([pa.nulls(table.num_rows)], names=["nothing"])]
