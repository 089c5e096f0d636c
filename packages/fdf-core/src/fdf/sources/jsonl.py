"""Reads JSON lines, plain or compressed: blocks of lines are parsed at once, and only where that fails, in parts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json as pj

from fdf.sources.base import InputFile, Reject, Slice, SourceBatch, Split
from fdf.sources.conform import conform, in_batches, in_order, widest
from fdf.sources.failures import reading
from fdf.sources.file_source import SAMPLE_ROWS, FileSource
from fdf.sources.lines import LineBlock, as_text, byte_splits, compression_of, line_blocks, not_utf8, open_stream

_BOM = b"\xef\xbb\xbf"
_OPEN, _CLOSE, _RETURN = b"{}\r"
_DEEPEST = 500
_SHOWN = 60
_NOTHING = "__fdf__/nothing"
"""A column that no line has: Arrow forgets how many rows there are where it has no column to fill."""


@dataclass(frozen=True, kw_only=True)
class JsonlSource(FileSource):
    """Rows of JSON lines; positions are byte offsets of lines in the uncompressed text.

    A plain file is cut into ranges of `split_size` bytes, and a line belongs to the range in which it starts; a
    compressed file is one split. A line that is not one JSON object, or whose values do not fit the columns, is
    rejected alone. Dates in text stay text.
    """

    type: ClassVar[str] = "jsonl"
    extensions: ClassVar[tuple[str, ...]] = tuple(
        f"{name}{codec}" for name in ("jsonl", "ndjson", "json") for codec in ("", ".gz", ".zst", ".zstd")
    )

    split_size: int = 64 << 20
    """Bytes of a plain file in one split."""

    def splits(self) -> Iterator[Split]:
        """Yield byte ranges; nothing is read."""
        return byte_splits(self.files(), size=self.split_size)

    def file_schema(self, file: InputFile) -> pa.Schema:
        """Return the columns of the first 1,000 lines."""
        with reading(file, as_format="JSON lines"), open_stream(file) as stream:
            pieces: list[tuple[int, pa.Schema]] = []
            seen = 0
            for block in line_blocks(stream, start=0, stop=None, max_row_bytes=self.max_row_bytes):
                few = _first_lines(_objects(_without_bom(block)), SAMPLE_ROWS - seen)
                pieces += _infer(few, 0, len(few.starts))
                seen += len(few.starts)
                if seen >= SAMPLE_ROWS:
                    break
        return _majority(pieces)

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Read the lines that start within the slice."""
        with reading(piece.file, as_format="JSON lines"), open_stream(piece.file) as stream:
            extra: tuple[str, ...] = ()
            blocks = line_blocks(stream, start=piece.start, stop=piece.stop, max_row_bytes=self.max_row_bytes)
            for number, block in enumerate(blocks):
                lines = _objects(_without_bom(block))
                if number == 0:
                    extra = _unknown(lines, schema)
                yield from self._parsed(lines, schema, extra)

    def within(self, piece: Slice, first: int, last: int) -> Slice:
        """Return exactly these lines of a plain file; of a compressed one, all up to the last."""
        start = first if compression_of(piece.file) is None else piece.start
        return dataclasses.replace(piece, start=start, stop=last + 1)

    def landmark(self, piece: Slice, position: int) -> int:
        """Return the line itself in a plain file."""
        return position if compression_of(piece.file) is None else -1

    def _parsed(self, block: LineBlock, schema: pa.Schema, extra: tuple[str, ...]) -> Iterator[SourceBatch]:
        parser = _Parser(block, schema, infer_extra=self.extra_columns == "error")
        # What cannot be parsed is known when the whole block is, and has to come in its place.
        tables = list(parser.run(0, len(parser.block.starts)))
        rejects = (*parser.block.rejects, *parser.rejects)
        yield from in_order(self._batches(tables, parser.block, schema, extra), rejects, schema=schema)

    def _batches(
        self, tables: list[tuple[pa.Table, int, int]], block: LineBlock, schema: pa.Schema, extra: tuple[str, ...]
    ) -> Iterator[SourceBatch]:
        for table, first, last in tables:
            positions = pa.array(block.starts[first:last] + block.offset)
            found = tuple(n for n in table.schema.names if n not in schema.names and n != _NOTHING)
            for part, where in in_batches(table.combine_chunks().to_batches()[0], positions):
                done = conform(part, schema=schema, positions=where)
                yield SourceBatch(done.rows, done.positions, done.rejects, found or extra)

    def count_rows(self, piece: Slice, *, at_most: int) -> int:
        """Return the lines of the slice that are not blank, without parsing them."""
        total = 0
        with reading(piece.file, as_format="JSON lines"), open_stream(piece.file) as stream:
            for block in line_blocks(stream, start=piece.start, stop=piece.stop, max_row_bytes=self.max_row_bytes):
                total += len(block.starts) + len(block.rejects)
                if total >= at_most:
                    return at_most
        return total


class _Parser:
    """Parses runs of lines; a run that fails is halved until the lines at fault are alone."""

    def __init__(self, block: LineBlock, schema: pa.Schema, *, infer_extra: bool) -> None:
        # JSON is UTF-8: a line that is not is rejected whatever columns are wanted of it.
        block = block.without(not_utf8(as_text(block)), error="the line is not UTF-8")
        if infer_extra:
            block = block.without(_depths(block) > _DEEPEST, error=f"the line is nested more than {_DEEPEST} deep")
        self.block = block
        self.rejects: list[Reject] = []
        fields = [pa.field(f.name, _parsable(f.type)) for f in schema] or [pa.field(_NOTHING, pa.null())]
        self._options = pj.ParseOptions(
            explicit_schema=pa.schema(fields), unexpected_field_behavior="infer" if infer_extra else "ignore"
        )

    def _misfit(self, row: int, error: Exception) -> str:
        line = self.block.data[self.block.starts[row] : self.block.ends[row]]
        return misfit(line, self._options.explicit_schema) or str(error).split("\n", 1)[0]

    def run(self, first: int, last: int) -> Iterator[tuple[pa.Table, int, int]]:
        """Yield tables with the range of lines that each was made from."""
        if first >= last:
            return
        try:
            table = _parse(self.block, first, last, self._options)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            if last - first == 1:
                self.rejects.append(self.block.reject(first, error=self._misfit(first, error)))
                return
            half = (first + last) // 2
            yield from self.run(first, half)
            yield from self.run(half, last)
        else:
            yield table, first, last


def misfit(line: bytes, schema: pa.Schema) -> str | None:
    """Return in words why a line does not fit these columns, naming the column; None where that cannot be told.

    The parser tells of a row in a block that nobody sees, by types of its own; so the one line is looked at again.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return f"the line is not JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError):
        return None
    for field in schema:
        value = row.get(field.name)
        if value is None:
            continue
        try:
            _parse_one(json.dumps({field.name: value}).encode(), pa.schema([field]))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            shown = json.dumps(value, ensure_ascii=False)
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
            return f"column `{field.name}` holds {_kind(value)} ({shown}), which does not fit {field.type}"
    return None


def _parse_one(line: bytes, schema: pa.Schema) -> None:
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    pj.read_json(pa.BufferReader(line), read_options=pj.ReadOptions(use_threads=False), parse_options=options)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _objects(block: LineBlock) -> LineBlock:
    """Return the block with the lines that run from `{` to `}`; others are rejects.

    Arrow parses a block as one stream of values: this keeps a value from running on into the next line, and Arrow
    from lines that hold a bare `null`, which end the process (pyarrow 26).
    """
    if len(block.starts) == 0:
        return block
    raw = np.frombuffer(block.data, dtype=np.uint8)
    last = raw[block.ends - 1]
    last = np.where(last == _RETURN, raw[np.maximum(block.ends - 2, 0)], last)
    fine = (raw[block.starts] == _OPEN) & (last == _CLOSE)
    for row in np.flatnonzero(~fine):
        line = block.data[block.starts[row] : block.ends[row]].strip()
        fine[row] = line.startswith(b"{") and line.endswith(b"}")
    return block.without(~fine, error="the line is not a JSON object")


def _depths(block: LineBlock) -> npt.NDArray[np.int64]:
    """Return how deep each line is nested, or more: brackets within text count too."""
    if len(block.starts) == 0:
        return np.empty(0, dtype=np.int64)
    raw = np.frombuffer(block.data, dtype=np.uint8)
    steps = np.zeros(256, dtype=np.int8)
    steps[[ord("["), ord("{")]], steps[[ord("]"), ord("}")]] = 1, -1
    level = np.cumsum(steps[raw], dtype=np.int64)
    before = np.where(block.starts > 0, level[block.starts - 1], 0)
    deepest: npt.NDArray[np.int64] = np.maximum.reduceat(level, block.starts) - before
    return deepest


def _parse(block: LineBlock, first: int, last: int, options: pj.ParseOptions | None) -> pa.Table:
    start, end = int(block.starts[first]), int(block.ends[last - 1])
    read = pj.ReadOptions(use_threads=False, block_size=end - start + 1)
    table = pj.read_json(
        pa.BufferReader(pa.py_buffer(block.data).slice(start, end - start)), read_options=read, parse_options=options
    )
    if table.num_rows != last - first:
        raise pa.ArrowInvalid(f"{last - first} lines hold {table.num_rows} JSON values: each must hold one object")
    return table


def _parsable(kind: pa.DataType) -> pa.DataType:
    """Return the type to ask Arrow's parser for; `conform` casts from it to the wanted one."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_parsable(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _parsable(f.type)) for f in kind])
    return kind


def _without_bom(block: LineBlock) -> LineBlock:
    if block.offset or not block.data.startswith(_BOM):
        return block
    # Blanked, not removed, so that offsets stay those of the file.
    return LineBlock(b"   " + block.data[3:], 0, block.starts, block.ends, block.rejects)


def _first_lines(block: LineBlock, count: int) -> LineBlock:
    """Return the first lines, without those that are nested so deep that inference would exhaust the C stack."""
    end = int(block.ends[:count][-1]) if count and len(block.ends) else 0
    few = LineBlock(block.data[:end], block.offset, block.starts[:count], block.ends[:count])
    return few.without(_depths(few) > _DEEPEST, error="")


def _infer(block: LineBlock, first: int, last: int) -> list[tuple[int, pa.Schema]]:
    """Return what columns runs of lines have, with the number of lines; lines that cannot be parsed are left out."""
    if first >= last:
        return []
    try:
        table = _parse(block, first, last, None)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if last - first == 1:
            return []
        half = (first + last) // 2
        return [*_infer(block, first, half), *_infer(block, half, last)]
    return [(last - first, table.schema)]


def _unknown(block: LineBlock, schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns of the first lines that are not in the schema."""
    few = _first_lines(block, 20)
    names = {name: None for _, found in _infer(few, 0, len(few.starts)) for name in found.names}
    return tuple(n for n in names if n not in schema.names)


def _majority(pieces: list[tuple[int, pa.Schema]]) -> pa.Schema:
    """Return one schema for lines that may disagree: what most lines say, widened by whatever fits it."""
    columns: dict[str, list[tuple[int, pa.DataType]]] = {}
    for rows, schema in pieces:
        for field in schema:
            columns.setdefault(field.name, []).append((rows, field.type))
    fields = []
    for name, votes in columns.items():
        weights: dict[pa.DataType, int] = {}
        for rows, kind in votes:
            weights[kind] = weights.get(kind, 0) + rows
        chosen = pa.null()
        for kind in sorted(weights, key=lambda k: -weights[k]):
            both = widest(chosen, kind)
            chosen = chosen if both is None else both
        stored = _stored(chosen)
        if stored is not None:
            fields.append(pa.field(name, stored))
    return pa.schema(fields)


def _stored(kind: pa.DataType) -> pa.DataType | None:
    """Return the type for an inferred one: dates in text stay text, all null is text, an empty object is nothing."""
    if pa.types.is_null(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pa.string()
    if pa.types.is_list(kind):
        inner = _stored(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(kind):
        fields = [(f.name, _stored(f.type)) for f in kind]
        kept = [pa.field(n, t) for n, t in fields if t is not None]
        return pa.struct(kept) if kept else None
    return kind
