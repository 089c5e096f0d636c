"""Reads CSV: every value as text first, then as the declared types; positions are row numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from fdf.errors import BadFile
from fdf.sources.base import InputFile, Reject, Slice, SourceBatch
from fdf.sources.conform import RAW_BYTES, conform, in_batches, in_order
from fdf.sources.failures import reading
from fdf.sources.file_source import FileSource
from fdf.sources.lines import open_stream

_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class CsvSource(FileSource):
    """Rows of delimited text, plain, `.gz` or `.zst`. Columns are strings unless `schema:` says otherwise; then an
    empty value is null. A row with too many or too few values is rejected."""

    type: ClassVar[str] = "csv"
    extensions: ClassVar[tuple[str, ...]] = tuple(
        f"{name}{codec}" for name in ("csv", "tsv") for codec in ("", ".gz", ".zst")
    )

    delimiter: str | None = None
    """None: a tab for `.tsv`, else a comma."""
    quote: str = '"'
    """The quoting character; an empty string switches quoting off."""
    escape: str = ""
    """The character that takes the next one literally; by default there is none."""
    header: list[str] | None = None
    """Column names, for files whose first line is already data."""
    newlines_in_values: bool = True

    def file_schema(self, file: InputFile) -> pa.Schema:
        """Return the names in the header, all as strings."""
        if self.header is not None:
            return pa.schema([(name, pa.string()) for name in self.header])
        with reading(file, as_format="CSV"), open_stream(file) as stream:
            reader = self._reader(file, stream, _Skipped(), None)
            return pa.schema([(name, pa.string()) for name in reader.schema.names])

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Read a whole file, block by block."""
        names = self.file_schema(piece.file).names
        wanted = [n for n in schema.names if n in names]
        extra = tuple(n for n in names if n not in schema.names)
        skipped = _Skipped()
        row = 0
        with reading(piece.file, as_format="CSV"), open_stream(piece.file) as stream:
            for batch in self._reader(piece.file, stream, skipped, names):
                # Rows that were skipped keep their numbers, so that a position does not depend on what is wrong.
                row, positions = skipped.number(row, batch.num_rows, header=self.header is None)
                parts = in_batches(batch.select(wanted), positions)
                typed = (self._typed(part, where, schema, extra) for part, where in parts)
                yield from in_order(typed, skipped.release(before=row), schema=schema)
        yield from in_order((), skipped.release(), schema=schema)

    def _typed(
        self, batch: pa.RecordBatch, positions: pa.Array, schema: pa.Schema, extra: tuple[str, ...]
    ) -> SourceBatch:
        texts = pa.schema([(n, pa.string()) for n in batch.schema.names])
        decoded = conform(batch, schema=texts, positions=positions)
        done = conform(
            decoded.rows,
            schema=schema,
            positions=decoded.positions,
            rejects=decoded.rejects,
            max_row_bytes=self.max_row_bytes,
            from_text=True,
        )
        return SourceBatch(done.rows, done.positions, done.rejects, extra)

    def _reader(self, file: InputFile, stream: Any, skipped: _Skipped, names: list[str] | None) -> Any:
        tabs = ".tsv" in file.path.lower()
        # Bytes, not strings: what is not UTF-8 shall cost a row, not the file.
        types = {n: pa.binary() for n in names} if names is not None else None
        try:
            return pc.open_csv(
                stream,
                read_options=pc.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=self.header),
                parse_options=pc.ParseOptions(
                    delimiter=self.delimiter or ("\t" if tabs else ","),
                    quote_char=self.quote or False,
                    escape_char=self.escape or False,
                    newlines_in_values=self.newlines_in_values,
                    invalid_row_handler=skipped.add,
                ),
                convert_options=pc.ConvertOptions(column_types=types, check_utf8=False, strings_can_be_null=False),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                raise BadFile(
                    f"{file.uri} is empty: it has no header", help="remove it, or name the columns with `header:`"
                ) from error
            raise


@dataclass
class _Skipped:
    """The malformed rows of a file, as Arrow reports them while it parses."""

    rejects: list[Reject] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def add(self, row: Any) -> str:
        self.numbers.append(row.number)
        error = f"the row has {row.actual_columns} values where the header has {row.expected_columns}"
        self.rejects.append(Reject(position=row.number, error=error, raw=row.text.encode()[:RAW_BYTES]))
        return "skip"

    def number(self, row: int, count: int, *, header: bool) -> tuple[int, pa.Array]:
        """Return the next row number, and those of the next `count` good rows."""
        first = 2 if header else 1
        self._header = header
        bad = np.array([n - first for n in self.numbers], dtype=np.int64)
        ahead = bad[bad >= row]
        candidates = np.arange(row, row + count + len(ahead), dtype=np.int64)
        good = candidates[~np.isin(candidates, ahead)][:count]
        return int(good[-1]) + 1 if count else row, pa.array(good)

    def release(self, *, before: int | None = None) -> list[Reject]:
        """Return the skipped rows as rejects, those that stand before a row number; the others wait."""
        first = 2 if getattr(self, "_header", True) else 1
        due = [r for r in self.rejects if before is None or r.position - first < before]
        self.rejects = self.rejects[len(due) :]
        return [Reject(position=r.position - first, error=r.error, raw=r.raw) for r in due]
