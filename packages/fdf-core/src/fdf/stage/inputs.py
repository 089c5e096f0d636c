"""What was read of each input, and rows as a reader returned them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fdf.errors import BadFile, Problem
from fdf.sources.base import Reject, Slice, Source, SourceBatch
from fdf.stage.rows import Rows

BATCH_BYTES = 16 << 20


@dataclass
class InputCount:
    """What was read of one input."""

    uri: str
    version: str
    bytes: int
    rows: int = 0
    extra_columns: tuple[str, ...] = ()
    """Columns that the stage's fixed schema does not have, left out (`extra_columns: drop`)."""
    error: str | None = None
    """Why the file, or the rest of it, was skipped (`on_bad_file: skip`)."""


@dataclass(frozen=True)
class Chunk:
    """Rows as one reader returned them; `ordinals` and size limits are still to come."""

    rows: Rows
    rejects: tuple[Reject, ...]
    count: InputCount
    of: tuple[str, int] | None = None
    """For rejects of a mixture: their leaf and epoch."""


def counted(piece: Slice, inputs: list[InputCount]) -> InputCount:
    """Begin to count what is read of a slice."""
    count = InputCount(uri=piece.file.uri, version=piece.file.version, bytes=piece.bytes)
    inputs.append(count)
    return count


def note_extra_columns(batch: SourceBatch, known: tuple[str, ...], source: Source, count: InputCount) -> None:
    """Note columns that the fixed schema does not have; raise BadFile where they are an error."""
    extra = {*batch.extra_columns} - {*known} - {*count.extra_columns}
    if not extra:
        return
    if source.extra_columns == "error":
        raise BadFile(
            Problem(
                code="FDF412",
                message=f"{count.uri} has the columns {sorted(extra)}, which the schema of the input does not have",
                help="declare them with `schema:`, or leave them out with `extra_columns: drop`",
            )
        )
    count.extra_columns = tuple(sorted({*count.extra_columns, *extra}))


def unless_bad(batches: Iterator[SourceBatch], source: Source, count: InputCount) -> Iterator[SourceBatch]:
    """Pass batches on; under `on_bad_file: skip` an unreadable rest of a file is noted and left out."""
    try:
        yield from batches
    except BadFile as error:
        if source.on_bad_file == "fail":
            raise error.of(count.uri) from error
        count.error = error.problems[0].message
