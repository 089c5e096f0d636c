"""Takes rows that a Python program already holds: spooled once to an Arrow file that worker processes can read."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from fdf.errors import PlanError
from fdf.row_groups import RowGroups, whole
from fdf.schema import plain_schema
from fdf.sources.arrow import ArrowSource
from fdf.sources.base import InputFile
from fdf.sources.huggingface.embedding import embedded, may_point, points

_GROUP_BYTES = 16 << 20
_GROUP_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class MemorySource(ArrowSource):
    """Rows given from Python. `path` is the spooled file, named by the hash of its content."""

    type: ClassVar[str] = "memory"

    @classmethod
    def of(cls, rows: Any, *, folder: str | os.PathLike[str]) -> MemorySource:
        """Spool rows to a file below `folder` and return the source that reads it; equal rows are spooled once.

        Takes an Arrow table, batch or reader, whatever has `__arrow_c_stream__` (Polars, pandas, DuckDB), a
        `datasets.Dataset` (files that it points to are read now), or a list of dicts.
        """
        schema, batches = _as_arrow(rows)
        return cls(path=str(_spool(plain_schema(schema), batches, Path(folder))))

    def files(self) -> list[InputFile]:
        """Return the spooled file; its name in ids and locations does not depend on what it holds."""
        path = Path(self.path if isinstance(self.path, str) else self.path[0])
        if not path.is_file():
            raise PlanError(f"the rows that were spooled to {path} are gone", help="give the rows again")
        return [InputFile(uri=str(path), path="memory", size=path.stat().st_size, version=path.stem)]


def _as_arrow(rows: Any) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    if isinstance(rows, pa.Table):
        return rows.schema, rows.to_batches()
    if isinstance(rows, pa.RecordBatch):
        return rows.schema, [rows]
    if isinstance(rows, pa.RecordBatchReader):
        return rows.schema, rows
    if type(rows).__module__.split(".", 1)[0] == "datasets" and hasattr(rows, "iter"):
        return rows.features.arrow_schema, _of_datasets(rows)
    if hasattr(rows, "collect") and not hasattr(rows, "__arrow_c_stream__"):
        return _as_arrow(rows.collect())
    if hasattr(rows, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(rows)
        return reader.schema, reader
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return _as_arrow(_from_dicts(rows))
    raise PlanError(
        f"rows of type {type(rows).__module__}.{type(rows).__qualname__} cannot be read",
        help="give an Arrow table, a Polars frame, a datasets.Dataset (one split) or a list of dicts",
    )


def _of_datasets(rows: Any) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a `datasets.Dataset`, with the bytes of files that it only points to."""
    tables = rows.with_format("arrow").iter(batch_size=1000)
    if may_point(rows.features):
        held = getattr(rows, "data", None)  # an IterableDataset holds nothing to look at
        if held is None or any(points(column) for batch in held.to_batches() for column in batch.columns):
            tables = embedded(tables, rows.features)
    try:
        for table in tables:
            yield from table.to_batches()
    except OSError as error:
        raise PlanError(
            f"a file that the dataset points to cannot be read: {error}",
            help="put the files back, or make the dataset with their bytes",
        ) from error


def _from_dicts(rows: list[dict[str, Any]]) -> pa.Table:
    """Return the table with every key that any row has: Arrow by itself takes those of the first row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = []
    for name in names:
        try:
            columns.append(pa.array([row.get(name) for row in rows]))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise PlanError(
                f"the values of `{name}` do not share one type: {error}",
                help="give every row the same type there, or an Arrow table with a schema",
            ) from error
    return pa.table(columns, names=names)


def _spool(schema: pa.Schema, batches: Iterable[pa.RecordBatch], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{secrets.token_hex(8)}"
    groups = RowGroups(schema, max_bytes=_GROUP_BYTES, max_rows=_GROUP_ROWS)
    try:
        with pa.OSFile(str(aside), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                for group in groups.add(batch):
                    writer.write_batch(whole(group))
            for group in groups.rest():
                writer.write_batch(whole(group))
        with aside.open("rb") as written:
            name = hashlib.file_digest(written, "sha256").hexdigest()
        path = folder / f"{name}.arrow"
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path.absolute()
