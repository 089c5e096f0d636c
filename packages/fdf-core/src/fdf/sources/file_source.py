"""What every source of files shares: its listing, its options, and its schema from the first files."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import pyarrow as pa

from fdf.errors import BadFile, PlanError
from fdf.schema import plain_schema
from fdf.sources.base import InputFile, Slice, Source, Split
from fdf.sources.conform import distinct_columns, unify
from fdf.sources.listing import list_files
from fdf.sources.naming import declared_schema
from fdf.storage.retry import retrying

SAMPLE_FILES = 8
SAMPLE_ROWS = 1000

# Where the files are, how they are cut and what happens to failures does not decide which rows come out.
_NOT_ROWS = frozenset({"path", "identity", "on_bad_file", "extra_columns", "split_size"})


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """Rows from files behind fsspec URLs, globs or folders."""

    extensions: ClassVar[tuple[str, ...]] = ()
    """Lower-case endings, without the dot, that a folder is searched for."""

    path: str | list[str]
    """A file, a folder, a glob (`**` too), or a list of these; local or an fsspec URL."""

    def options(self) -> dict[str, Any]:
        """Return the type, its version and every option that decides what rows come out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _NOT_ROWS}
        return {"type": self.type, "version": self.version, **fields}

    def files(self) -> list[InputFile]:
        """Return the input files by URI. Listed once; raises PlanError where nothing is there."""
        listed: list[InputFile] | None = self.__dict__.get("_listed")
        if listed is None:
            listed = list_files(self.path, extensions=self.extensions, identity=self.identity)
            self.__dict__["_listed"] = listed
        return listed

    def listed(self, files: Sequence[InputFile]) -> Self:
        """Return the source with this listing in place of one of its own."""
        known = dataclasses.replace(self)
        known.__dict__["_listed"] = list(files)
        return known

    def __getstate__(self) -> dict[str, Any]:
        # A worker reads slices that it is given: the listing, which may be long, stays with the driver.
        return {k: v for k, v in self.__dict__.items() if k != "_listed"}

    def splits(self) -> Iterator[Split]:
        """Yield one split per file, in the order of their URIs."""
        for file in self.files():
            yield Split(slices=(Slice(file=file),))

    def physical_schema(self) -> pa.Schema:
        """Return the columns of the first 8 files, with `schema:` in place of what was found."""
        declared = declared_schema(self.schema, self.columns)
        found: list[tuple[str, pa.Schema]] = []
        for file in self.files()[:SAMPLE_FILES]:
            try:
                schema = plain_schema(retrying(partial(self.file_schema, file), what=file.uri))
                distinct_columns(schema)
            except BadFile as error:
                if self.on_bad_file == "fail":
                    raise error.of(file.uri) from error
                continue
            # A declared column keeps its place and cannot be in conflict with itself.
            kept = [pa.field(f.name, declared.get(f.name, f.type)) for f in schema]
            found.append((file.path, pa.schema(kept)))
        if not found and not declared:
            raise PlanError(
                f"none of the first {SAMPLE_FILES} files behind {self.path} can be read",
                help="check the files, or declare the columns with `schema:`",
            )
        return with_declared(unify(found, of_files=True), declared)

    @abstractmethod
    def file_schema(self, file: InputFile) -> pa.Schema:
        """Return the columns of one file from its footer or its first 1,000 rows."""


def with_declared(schema: pa.Schema, declared: dict[str, pa.DataType]) -> pa.Schema:
    """Return a schema with the declared types in place of those found, and declared columns that were not found."""
    fields = [pa.field(f.name, declared.get(f.name, f.type)) for f in schema]
    return pa.schema([*fields, *(pa.field(n, k) for n, k in declared.items() if n not in schema.names)])
