"""The sink contract: how rows become the bytes of one file, the same bytes for the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Protocol

import pyarrow as pa


class ShardWriter(Protocol):
    """Writes one file. The bytes depend on the rows and the schema, not on how rows arrive in batches."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows."""

    def close(self) -> None:
        """Finish the file; the stream itself is the caller's to flush and close."""


@dataclass(frozen=True, kw_only=True)
class Sink:
    """A frozen dataclass whose fields are the options of the format."""

    type: ClassVar[str]
    extension: ClassVar[str]

    def stored_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema as it will be stored (dictionaries decoded). Raises PlanError for what cannot be."""
        raise NotImplementedError

    def open(self, stream: BinaryIO, schema: pa.Schema, *, constants: dict[str, str] | None = None) -> ShardWriter:
        """Start a file on a writable binary stream; `schema` is a stored schema.

        `constants` are further string columns, the same in every row, which are made only when rows are written (and
        do not count towards the size of a row group).
        """
        raise NotImplementedError
