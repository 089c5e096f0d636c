"""Operators for the engine's tests. Each raises on a batch that holds a row whose text is its `poison`."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fdf.operator import Columns, Evaluator, Expansion, Filter, Generator, Refiner, Score
from fdf.verdict import Rule, Verdict, above


def refuse(batch: pa.RecordBatch, poison: str | None) -> None:
    if poison is not None and poison in batch.column("text").to_pylist():
        raise ValueError(f"cannot take {poison}")


@dataclass(frozen=True, kw_only=True)
class Lengths(Score):
    """Add the number of characters of `text`."""

    into: str = "length"
    poison: str | None = None
    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {self.into: pa.int32()}

    def score(self, batch: pa.RecordBatch) -> Columns:
        refuse(batch, self.poison)
        return {self.into: pc.utf8_length(batch.column("text"))}


@dataclass(frozen=True, kw_only=True)
class Short(Filter):
    """Drop rows with a long or missing text."""

    most: int = 3
    poison: str | None = None
    version = "1"
    reasons = ("too_long", "missing")

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        refuse(batch, self.poison)
        text = batch.column("text")
        return Verdict.first(too_long=above(pc.utf8_length(text), self.most), missing=Rule(pc.is_null(text)))


@dataclass(frozen=True, kw_only=True)
class Upper(Refiner):
    """Replace `text` by its upper case."""

    poison: str | None = None
    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"text": pa.string()}

    def refine(self, batch: pa.RecordBatch) -> Columns:
        refuse(batch, self.poison)
        return {"text": pc.utf8_upper(batch.column("text"))}


@dataclass(frozen=True, kw_only=True)
class Spell(Refiner):
    """Replace the number `k` by its digits, as text."""

    poison: str | None = None
    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text", "k")

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"k": pa.string()}

    def refine(self, batch: pa.RecordBatch) -> Columns:
        refuse(batch, self.poison)
        return {"k": pc.cast(batch.column("k"), pa.string())}


@dataclass(frozen=True, kw_only=True)
class Echo(Generator):
    """Add a column that repeats `text`, and nothing where `k` is missing."""

    into: str = "echo"
    poison: str | None = None
    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text", "k")

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {self.into: pa.string()}

    def generate(self, batch: pa.RecordBatch) -> Columns:
        refuse(batch, self.poison)
        text = batch.column("text")
        said = pc.binary_join_element_wise(text, text, "")
        return {self.into: pc.if_else(pc.is_valid(batch.column("k")), said, None)}


@dataclass(frozen=True, kw_only=True)
class Fan(Generator):
    """Make `len(text) % 3` new rows of each row (of an empty batch it would make none, but refuses to try)."""

    keep_parent: bool = False
    poison: str | None = None
    version = "1"
    expands = True

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"text": pa.string(), "copy": pa.int64()}

    def generate(self, batch: pa.RecordBatch) -> Expansion:
        if batch.num_rows == 0:
            raise ValueError("there is nothing to expand")
        refuse(batch, self.poison)
        texts, copies, parents = [], [], []
        # The last row first: the engine owes the order of parents, not the operator.
        for row in reversed(range(batch.num_rows)):
            text = batch.column("text")[row].as_py()
            for copy in range(len(text or "") % 3):
                texts.append(f"{text}{copy}")
                copies.append(copy)
                parents.append(row)
        made = pa.record_batch({"text": pa.array(texts, pa.string()), "copy": pa.array(copies, pa.int64())})
        return Expansion(made, pa.array(parents, pa.int64()), keep_parent=self.keep_parent)


@dataclass(frozen=True, kw_only=True)
class TextSum(Evaluator):
    """Report rows and characters; gates look at `rows`, `chars` and `by.name`."""

    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def state(self, batch: pa.RecordBatch) -> bytes:
        chars = pc.sum(pc.utf8_length(batch.column("text"))).as_py() or 0
        return json.dumps({"rows": batch.num_rows, "chars": chars}).encode()

    def merge(self, a: bytes, b: bytes) -> bytes:
        one, two = json.loads(a), json.loads(b)
        return json.dumps({k: one[k] + two[k] for k in one}).encode()

    def report(self, state: bytes) -> dict[str, Any]:
        return {**json.loads(state), "by": {"name": 1}}


@dataclass(frozen=True, kw_only=True)
class Slow(Score):
    """Add a constant after sleeping, so that a test can act in the middle of a run."""

    seconds: float = 0.01
    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"waited": pa.float64()}

    def score(self, batch: pa.RecordBatch) -> Columns:
        time.sleep(self.seconds)
        return {"waited": pa.repeat(self.seconds, batch.num_rows)}


@dataclass(frozen=True, kw_only=True)
class Murder(Score):
    """Kill the process that meets `victim`, `times` times; the marks are left in `folder`."""

    victim: str
    folder: str
    times: int = 1
    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"alive": pa.bool_()}

    def score(self, batch: pa.RecordBatch) -> Columns:
        if self.victim in batch.column("text").to_pylist():
            done = len(list(Path(self.folder).iterdir()))
            if done < self.times:
                Path(self.folder, str(done)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return {"alive": pa.repeat(True, batch.num_rows)}


@dataclass(frozen=True, kw_only=True)
class Wrong(Score):
    """Break the contract in the `way` that is asked for."""

    way: str
    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"n": pa.int64()}

    def setup(self, context: Any) -> None:
        if self.way == "setup":
            raise OSError("no such model")

    def score(self, batch: pa.RecordBatch) -> Columns:
        rows = batch.num_rows
        answers: dict[str, Any] = {
            "short": {"n": pa.array(range(rows - 1))},
            "type": {"n": pa.array(["x"] * rows)},
            "extra": {"n": pa.array(range(rows)), "m": pa.array(range(rows))},
            "nothing": {},
            "not a dict": pa.array(range(rows)),
        }
        return answers.get(self.way, {"n": pa.array(range(rows))})


@dataclass(frozen=True, kw_only=True)
class Unfit(TextSum):
    """Report what JSON cannot hold."""

    way: str

    def report(self, state: bytes) -> dict[str, Any]:
        if self.way == "raises":
            raise ZeroDivisionError
        return {"rows": float("nan") if self.way == "nan" else object()}


@dataclass(frozen=True, kw_only=True)
class Flaky(Score):
    """Meet a fault that passes after `times` calls; the marks are left in `folder`."""

    folder: str
    times: int
    version = "1"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        return ("text",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        return {"n": pa.int64()}

    def score(self, batch: pa.RecordBatch) -> Columns:
        from fdf.errors import TransientError

        done = len(list(Path(self.folder).iterdir()))
        if done < self.times:
            Path(self.folder, str(done)).touch()
            raise TransientError("the network is away")
        return {"n": pa.array(range(batch.num_rows))}
