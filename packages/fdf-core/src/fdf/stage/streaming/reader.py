"""The process that reads one epoch of a stream: pulls records, cuts chunks, spools and journals each, announces it.

It is started by the driver and speaks with it over a socket: the order comes first, then a byte for each chunk that may
be made, so that it is never further ahead of the schedule than its credit. It ends with the driver.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

import cloudpickle
import pyarrow as pa

from fdf.errors import BadFile, FdfError, Problem, StageFailed, TransientError
from fdf.schema import row_bytes
from fdf.sources.base import Source, SourceBatch
from fdf.stage.crashpoints import reach
from fdf.stage.streaming.chunks import Chunker, Counting, as_records, fingerprint
from fdf.stage.streaming.spool import Entry, Spool, changed
from fdf.storage.retry import is_transient, succeeded, wait_or_give_up

_TEARDOWN = 1.0
"""Seconds that a stream has to clean up when the driver is gone."""

News = tuple[Literal["chunk", "end"], Entry] | tuple[Literal["failed"], Exception]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to read, and where to put it."""

    leaf: str
    source: Source
    counting: Counting
    known_columns: tuple[str, ...]
    """All columns of the stream's fixed schema; further ones are extra."""
    root: str
    folder: str
    """The spool of the stage, below its root."""
    most_rows: int
    most_bytes: int
    epoch: int = 0
    start: int = 0
    """The first record that is wanted."""
    last: str | None = None
    """What the record before it was, to be found there again."""
    credit: int = 1


class Reader:
    """One reading of one epoch."""

    def __init__(self, order: Order, line: Connection) -> None:
        self._order = order
        self._line = line
        self._credit = threading.Semaphore(order.credit)
        self._spool = Spool(order.root, order.folder, order.leaf)
        self._chunker = Chunker(
            order.counting, start=order.start, most_rows=order.most_rows, most_bytes=order.most_bytes
        )

    def run(self) -> None:
        """Read to the end, or as far as there is credit; every chunk is durable before the driver hears of it."""
        threading.Thread(target=self._listen, daemon=True, name="fdf-credit").start()
        order, start = self._order, self._order.start
        self._credit.acquire()
        for records in self._chunks():
            held = int(row_bytes(records).sum())
            entry = self._spool.write(records, epoch=order.epoch, start=start, row_bytes=held)
            reach("chunk-spooled")
            self._spool.note(entry)
            reach("chunk-journaled")
            self._line.send(("chunk", entry))
            start = entry.stop
            # Nothing is pulled from the stream before the next chunk may be made.
            self._credit.acquire()
        end = Entry(epoch=order.epoch, start=start, end=True)
        self._spool.note(end)
        self._line.send(("end", end))

    @property
    def at(self) -> int:
        """The record that comes next."""
        return self._chunker.next

    def _listen(self) -> None:
        """Take credit until the driver hangs up or is gone, and then end, whatever the stream is at."""
        try:
            while True:
                self._line.recv_bytes()
                self._credit.release()
        except (EOFError, OSError):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(_TEARDOWN)
            os._exit(1)

    def _chunks(self) -> Iterator[pa.RecordBatch]:
        """Yield the chunks to the stream's end; a fault that may pass is waited for, and the stream reopened."""
        attempt = 0
        while True:
            reached = self._chunker.next
            try:
                yield from self._opened()
                break
            except Exception as error:
                if not is_transient(error):
                    raise
                attempt = 1 if self._chunker.next > reached else attempt + 1
                what = f"reading the stream of `{self._order.leaf}` at record {self._chunker.next}"
                wait_or_give_up(error, what=what, attempt=attempt)
        yield from self._chunker.rest()

    def _opened(self) -> Iterator[pa.RecordBatch]:
        """Yield the chunks of the stream as opened at the record reached, having found the one before it again."""
        order, chunker = self._order, self._chunker
        known = chunker.last or order.last
        at = chunker.next - (known is not None)
        batches = order.source.stream(schema=order.counting.schema, start=at)
        for batch in batches:
            self._refuse_extra(batch)
            if known is not None:
                records = as_records(batch, order.counting)
                if not records.num_rows:
                    continue
                if fingerprint(records.slice(0, 1)) != known:
                    raise changed(order.leaf, f"record {at} is another one now")
                known = None
                batch = batch.after(at)  # noqa: PLW2901 (what is left of it)
            yield from chunker.add(batch)
            succeeded()
        if known is not None:
            raise changed(order.leaf, f"it ends before record {at} now, and had more than that before")

    def _refuse_extra(self, batch: SourceBatch) -> None:
        """Raise BadFile for columns that the fixed schema does not have, where they are not to be dropped."""
        extra = {*batch.extra_columns} - {*self._order.known_columns}
        if extra and self._order.source.extra_columns == "error":
            raise BadFile(
                Problem(
                    code="FDF412",
                    message=f"the stream of `{self._order.leaf}` has the columns {sorted(extra)}, which its schema "
                    "does not have",
                    help="declare them with `schema:`, or leave them out with `extra_columns: drop`",
                )
            )


def main(descriptor: int) -> None:
    """Read what the driver orders, and end when it hangs up."""
    # Whoever started us may have had it ignored; here it says that the driver is gone.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        _serve(Connection(descriptor))
        threading.Event().wait()


def _serve(line: Connection) -> None:
    order: Order = cloudpickle.loads(line.recv_bytes())
    reader = Reader(order, line)
    try:
        reader.run()
    except KeyboardInterrupt:
        raise
    except (FdfError, TransientError) as error:
        _fail(line, error)
    except BaseException as error:  # noqa: BLE001 (the stream is the user's own code, and may fail in any way)
        _fail(line, failure(order.leaf, error, reader.at))


def failure(leaf: str, error: BaseException, record: int) -> StageFailed:
    """Return what a stream raised as an error that says where it was."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return StageFailed(
        Problem(
            code="FDF445",
            message=f"the stream of `{leaf}` failed at record {record}: {type(error).__name__}: {error}{where}",
            help="correct it and run again: it goes on where it was, and what was committed is safe",
        )
    )


def _fail(line: Connection, error: BaseException) -> None:
    with suppress(OSError):
        line.send(("failed", error))
