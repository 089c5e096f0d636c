"""Where a stage keeps the chunks of its streams until their rows are committed: `_spool/` below its root.

A chunk's file is put there first, whole; then its journal entry, which says where the chunk begins and what its records
weigh. Only what is journaled is scheduled. A file goes when its rows have their receipts; the journal stays until the
stage is committed, so that a run that is resumed draws the same schedule without the stream.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.errors import OtherWriter, PlanError, StageFailed, TransientError
from fdf.fingerprint import sha256_hex
from fdf.sources.base import InputFile, Slice, Source, SourceBatch, Split
from fdf.stage.streaming.chunks import SIZE, decoded, encoded, fingerprint
from fdf.storage import open_store
from fdf.storage.base import Store
from fdf.storage.local import LocalStore
from fdf.storage.retry import is_transient

STREAM = "stream"
"""The path that a stream has in ids: its records bear their numbers in it."""
_FACTS = b"fdf"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the journal says of a chunk, or (`end`) of the end of an epoch."""

    epoch: int
    start: int
    """The number of its first record."""
    sizes: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64), repr=False)
    version: str = ""
    """The sha256 of its file."""
    file_bytes: int = 0
    row_bytes: int = 0
    last: str = ""
    """What tells its last record from others."""
    end: bool = False

    @property
    def stop(self) -> int:
        return self.start + len(self.sizes)

    @property
    def name(self) -> str:
        """Its journal entry's name."""
        return entry_name(self.epoch, self.start)

    def piece(self, leaf: str) -> Slice:
        """Return the chunk as a slice of its stream; its file's `uri` says where it lies in the spool."""
        uri = f"{leaf}/{self.epoch}-{self.start:012d}-{self.version[:12]}"
        file = InputFile(uri=uri, path=STREAM, size=self.file_bytes, version=self.version)
        return Slice(file=file, start=self.start, stop=self.stop)

    def encode(self) -> bytes:
        facts: dict[str, Any] = {k: v for k, v in vars(self).items() if k != "sizes"}
        schema = pa.schema([(SIZE, pa.int64())], metadata={_FACTS: json.dumps(facts, sort_keys=True)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(pa.record_batch([pa.array(self.sizes)], schema=schema))
        data: bytes = sink.getvalue().to_pybytes()
        return data

    @classmethod
    def decode(cls, data: bytes) -> Entry:
        table = pa.ipc.open_stream(data).read_all().combine_chunks()
        return cls(**json.loads(table.schema.metadata[_FACTS]), sizes=table.column(SIZE).to_numpy())


def entry_name(epoch: int, start: int) -> str:
    """Return the name of the journal's entry for the chunk that begins with a record."""
    return f"{epoch}-{start:012d}.journal"


class Spool:
    """The spool of one stream: files and journal."""

    def __init__(self, root: str, folder: str, leaf: str) -> None:
        self._store: Store = open_store(root)
        self._folder = f"{folder}{leaf}/"
        self._top = folder
        self.leaf = leaf

    def write(self, records: pa.RecordBatch, *, epoch: int, start: int, row_bytes: int) -> Entry:
        """Put a chunk's file in place, durably; return what the journal is to say of it."""
        data = encoded(records)
        entry = Entry(
            epoch=epoch,
            start=start,
            sizes=records.column(SIZE).to_numpy(),
            version=sha256_hex(data),
            file_bytes=len(data),
            row_bytes=row_bytes,
            last=fingerprint(records),
        )
        aside = self._store.scratch() / secrets.token_hex(8)
        aside.write_bytes(data)
        self._store.place(aside, self._path(entry.piece(self.leaf)))
        return entry

    def note(self, entry: Entry) -> None:
        """Write an entry into the journal. Raises StageFailed where it says otherwise already."""
        path = self._folder + entry.name
        data = entry.encode()
        if self._store.put_if_absent(path, data):
            return
        there = self._store.read(path)
        if there != data:
            known = Entry.decode(there)
            raise changed(self.leaf, f"its records {known.start} to {known.stop - 1} were others, or fewer or more")

    def names(self) -> set[str]:
        """Return the names of all files and journal entries that are there."""
        return {e.path.removeprefix(self._folder) for e in self._store.list(self._folder)}

    def entry(self, name: str) -> Entry:
        """Return an entry of the journal."""
        return Entry.decode(self._store.read(self._folder + name))

    def holds(self, piece: Slice) -> bool:
        """Say whether a chunk's file is there."""
        try:
            with self._store.open(self._path(piece)):
                return True
        except FileNotFoundError:
            return False

    def remove(self, pieces: Iterable[Slice]) -> None:
        """Remove the files of chunks."""
        self._store.delete([self._path(piece) for piece in pieces])

    def _path(self, piece: Slice) -> str:
        return f"{self._top}{piece.file.uri}.arrow"


@dataclass(frozen=True, kw_only=True)
class SpooledSource(Source):
    """A stream as workers read it: by its chunks in the spool."""

    type: ClassVar[str] = STREAM

    root: str
    folder: str

    def splits(self) -> Iterator[Split]:
        raise PlanError("a stream has no splits", help="its chunks are scheduled as they come")

    def physical_schema(self) -> pa.Schema:
        raise PlanError("a stream's columns are known before it is spooled", help="ask its source")

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        """Yield a chunk. Raises OtherWriter where its file is gone: it goes only when all its rows are committed."""
        try:
            with open_store(self.root).open(f"{self.folder}{piece.file.uri}.arrow") as file:
                yield decoded(file, schema)
        except FileNotFoundError as error:
            raise OtherWriter(
                f"the chunk {piece.file.uri} of a stream is gone from {self.root}: another run has committed its rows",
                help="run again: what is committed there is skipped, and the rest is streamed anew",
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            if is_transient(error):
                raise TransientError(f"chunk {piece.file.uri} of {self.root} could not be read: {error}") from error
            raise


def changed(leaf: str, how: str) -> StageFailed:
    """Return the error for a stream that does not give what it gave before."""
    return StageFailed(
        f"the stream of `{leaf}` gave other records than before: {how}",
        help="a stream must give the same records under the same numbers; where its data has changed for good, "
        "start over in another path, or with `mode: overwrite`",
    )


def clear(root: str, spool: str, own: str, *, before: float) -> None:
    """Remove what a committed stage does not need: its own spool, and those of others that are older."""
    store = open_store(root)
    old: dict[str, list[str]] = {}
    young: set[str] = set()
    for entry in store.list(spool):
        folder = entry.path.removeprefix(spool).partition("/")[0]
        old.setdefault(folder, []).append(entry.path)
        if f"{spool}{folder}/" != own and not 0 < entry.mtime < before:
            young.add(folder)
    for folder, paths in old.items():
        if folder not in young:
            # From the end, so that what is left of a journal after a kill is its beginning.
            store.delete(sorted(paths, reverse=True))
    if isinstance(store, LocalStore):
        store.prune(spool)
