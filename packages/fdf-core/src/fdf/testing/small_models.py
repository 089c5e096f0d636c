"""Small models in numpy for `fdf.testing.models` and runners' own tests; several go wrong on purpose."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from fdf.models.contract import ModelScore, Prepared
from fdf.models.tensors import tensor, tensor_batch
from fdf.operator import Columns, Context

WEIGHTS = np.linspace(0.1, 1.0, 8, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Tiny(ModelScore):
    """Multiplies a vector made of a number by weights, in `infer`, after a latency. Notes what it does in `folder`."""

    field: str = "n"
    column: str = "said"
    folder: str = ""
    latency: float = 0.0
    loading: float = 0.0
    preparing: float = 0.0
    fits: int = 0
    trouble: str = ""
    row: int = -1

    version = "1.0.0"
    batch_rows: ClassVar[int | None] = 4

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return one float per row."""
        return {self.column: pa.float32()}

    def setup_cpu(self, context: Context) -> None:
        """Note it."""
        self.runtime.can_prepare = True
        self.note("cpu")

    def setup_device(self, context: Context) -> None:
        """Load the weights."""
        if self.trouble == "setup":
            os._exit(7)
        if self.trouble == "setup kills its parent":
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        time.sleep(self.loading)
        if self.trouble == "second loads late" and self.count(" device "):
            self.note("late")
            while self.count(" infer ") < self.row:
                time.sleep(0.05)
        self.runtime.weights = WEIGHTS
        self.note("device")
        if self.trouble == "tells":
            self.note(f"visible:{os.environ.get('CUDA_VISIBLE_DEVICES')}")

    def teardown(self) -> None:
        """Note it."""
        if hasattr(self.runtime, "weights"):
            self.note("unload")

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        """Make a vector of each number; 13 is refused."""
        assert self.runtime.can_prepare
        busy_until = time.thread_time() + self.preparing
        while time.thread_time() < busy_until:
            pass
        numbers = batch.column(self.field).to_numpy()
        if self.row in numbers:
            self.misbehave_in_worker()
        bad = numbers == 13
        errors = pa.array([f"{n} is unlucky" if b else None for n, b in zip(numbers, bad, strict=True)], pa.string())
        vectors = np.repeat(numbers[~bad].astype(np.float32)[:, None], 8, axis=1)
        return Prepared(tensor_batch({"x": vectors}), errors)

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Multiply, or make trouble."""
        time.sleep(self.latency)
        while self.trouble == "wants company" and self.count(" device ") < 2:
            time.sleep(0.05)
        while self.trouble == "second loads late" and not self.count(" late "):
            time.sleep(0.05)
        x = tensor(prepared, "x")
        if self.fits and len(x) > self.fits:
            self.note("memory")
            raise MemoryError("no room for so many")
        self.note("infer", len(x))
        if self.row in x[:, 0]:
            self.misbehave(len(x))
        return tensor_batch(
            {"y": (x @ self.runtime.weights)[1:] if self.trouble == "shape" else x @ self.runtime.weights}
        )

    def misbehave(self, rows: int) -> None:
        """Do what the trouble says, at its row."""
        if self.trouble == "raises":
            raise KeyError("this row")
        if self.trouble == "segfaults":
            ctypes.string_at(0)
        if self.trouble == "breaks the device":
            raise RuntimeError("CUDA error: device-side assert triggered")
        if self.trouble == "exits":
            os._exit(3)
        if self.trouble == "killed once" and first(Path(self.folder, "killed")):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "segfaults in company" and rows > 1:
            ctypes.string_at(0)
        if self.trouble == "hangs":
            time.sleep(3600)

    def misbehave_in_worker(self) -> None:
        """Do what the trouble says, while its row is prepared."""
        if self.trouble == "worker segfaults":
            ctypes.string_at(0)
        if self.trouble == "worker exits":
            os._exit(3)
        if self.trouble == "worker killed once" and first(Path(self.folder, "killed")):
            os.kill(os.getpid(), signal.SIGKILL)

    def finish(self, rows: pa.RecordBatch, inferred: pa.RecordBatch) -> Columns:
        """Return the products."""
        assert self.runtime.can_prepare
        return {self.column: pa.array(tensor(inferred, "y"), pa.float32())}

    def note(self, what: str, rows: int = 0) -> None:
        """Add a line: what, where, when."""
        if self.folder:
            with Path(self.folder, "noted").open("a") as noted:
                noted.write(f"{self.column} {what} {os.getpid()} {rows} {time.monotonic()}\n")

    def count(self, words: str) -> int:
        """Return how often something was noted so far, by whichever process."""
        path = Path(self.folder, "noted")
        return path.read_text().count(words) if path.exists() else 0


@dataclass(frozen=True, kw_only=True)
class Wide(Tiny):
    """Prepares a megabyte for each row."""

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        """Make a large row of each number."""
        numbers = batch.column(self.field).to_numpy().astype(np.float32)
        return Prepared(tensor_batch({"x": np.repeat(numbers[:, None], 1 << 18, axis=1)}))

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Take the first eight of each row."""
        time.sleep(self.latency)
        self.note("infer", prepared.num_rows)
        return tensor_batch({"y": tensor(prepared, "x")[:, :8] @ self.runtime.weights})


def first(flag: Path) -> bool:
    """Say whether nobody was here before."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
