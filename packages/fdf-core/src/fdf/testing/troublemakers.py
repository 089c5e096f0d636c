"""Operators that go wrong on purpose, for `fdf.testing.runners`. Each keeps every row that it lives to judge.

Where a parameter is a `flag`, the trouble comes once: the file is made first, and no one who finds it there makes any.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import StageFailed
from fdf.operator import Context, Filter
from fdf.verdict import Verdict

MEBIBYTE = 1 << 20
PATIENCE = 60.0


def is_killed(batch: pa.RecordBatch, *, row: int = -1, flag: str = "") -> pa.Array:
    """Kill the process from outside at this row, once."""
    if _meets(batch, row) and _first(flag):
        os.kill(os.getpid(), signal.SIGKILL)
    return _all(batch)


def segfaults(batch: pa.RecordBatch, *, row: int = -1) -> pa.Array:
    """Read from address 0 at this row, every time."""
    if _meets(batch, row):
        ctypes.string_at(0)
    return _all(batch)


def raises(batch: pa.RecordBatch, *, row: int = -1) -> pa.Array:
    """Raise at this row, every time."""
    if _meets(batch, row):
        raise ValueError(f"cannot take row {row}")
    return _all(batch)


def exits(batch: pa.RecordBatch, *, row: int = -1) -> pa.Array:
    """End the process at this row, every time."""
    if _meets(batch, row):
        os._exit(3)
    return _all(batch)


def eats_memory(batch: pa.RecordBatch, *, row: int = -1, mebibytes: int = 1024) -> pa.Array:
    """Take this much memory at this row, slowly enough to be seen doing it."""
    if _meets(batch, row):
        taken: list[bytes] = []
        while len(taken) < mebibytes // 16:
            taken.append(b"x" * (16 * MEBIBYTE))
            time.sleep(0.01)
        time.sleep(2)
    return _all(batch)


def waits(batch: pa.RecordBatch, *, row: int = -1, flag: str = "") -> pa.Array:
    """Hang at this row until the flag is there."""
    deadline = time.monotonic() + PATIENCE
    while _meets(batch, row) and not Path(flag).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return _all(batch)


def dawdles(batch: pa.RecordBatch, *, seconds: float = 0.05) -> pa.Array:
    """Take a while for every batch."""
    time.sleep(seconds)
    return _all(batch)


def fails_stage(batch: pa.RecordBatch, *, row: int = -1) -> pa.Array:
    """Fail the whole stage at this row."""
    if _meets(batch, row):
        raise StageFailed(f"row {row} fails the stage", help="leave it out")
    return _all(batch)


@dataclass(frozen=True, kw_only=True)
class Registers(Filter):
    """Note in a folder every setup and teardown of every process; fail the stage at a row."""

    folder: str
    row: int = -1

    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the number that rows are told apart by."""
        return ("n",)

    def setup(self, context: Context) -> None:
        """Note it."""
        self._note("setup")

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Keep every row."""
        if _meets(batch, self.row):
            raise StageFailed(f"row {self.row} fails the stage", help="leave it out")
        return Verdict.keep_all(batch.num_rows)

    def teardown(self) -> None:
        """Note it."""
        self._note("teardown")

    def _note(self, what: str) -> None:
        with Path(self.folder, f"{os.getpid()}.{what}").open("a") as noted:
            noted.write(".")


def _meets(batch: pa.RecordBatch, row: int) -> bool:
    return bool(pc.any(pc.equal(batch["n"], row)).as_py())


def _first(flag: str) -> bool:
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _all(batch: pa.RecordBatch) -> pa.Array:
    return pc.is_valid(batch["n"])
