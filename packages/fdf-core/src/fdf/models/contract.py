"""The contract of an operator that runs a model: three verbs, so that a runner may put each where it is cheap.

`prepare` turns rows into tensors on a CPU, `infer` runs the model on its device, `finish` turns what the model said
into columns, on a CPU again. What passes between them is Arrow record batches, which cross a process border as they
are. A runner that knows nothing of this calls the operator's ordinary verb, which runs the three in this process.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import OperatorMisbehaved
from fdf.models.memory import give_back_device_memory, is_out_of_memory
from fdf.operator import Columns, Context, Exactness, Generator, Operator, Partial, Resources, Score
from fdf.sharing import follow

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` makes of some rows: a record batch with one row for each that it could take, in their order.

    `errors` has one string for each row that was given: null for those in `batch`, else why the row cannot be taken.
    None: all could.
    """

    batch: pa.RecordBatch
    errors: pa.Array | None = None


class ModelOperator(Operator):
    """The base of operators that run a model: subclass `ModelScore` or `ModelGenerator`.

    A row that has a null in a column of `reads` never reaches a verb: what it gets is null. Nor does a row that
    `prepare` refuses reach the model: it fails alone, and `on_error` says what becomes of it.
    """

    exactness: ClassVar[Exactness] = "numeric"
    resources: ClassVar[Resources] = Resources(gpus=1)
    batch_rows: ClassVar[int | None] = 32
    """How many rows one `infer` gets at most, where the recipe has no `batch_size`."""

    copies_ahead: ClassVar[bool] = False
    """Whether `infer` asks for its tensors by `fdf.models.copying.tensor_on`, so that they may be on a GPU already."""

    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    """Distributions whose versions the manifest records, though a new one alone runs nothing again."""

    def setup(self, context: Context) -> None:
        """Load what the verbs of `context.verbs` need, and nothing for the others."""
        if context.verbs & {"prepare", "finish"}:
            self.setup_cpu(context)
        if "infer" in context.verbs:
            self.setup_device(context)

    def setup_cpu(self, context: Context) -> None:
        """Load what `prepare` and `finish` need: a processor, a tokenizer. No weights."""

    def setup_device(self, context: Context) -> None:
        """Load the model onto `context.device`, in `context.dtype`."""

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        """Turn rows into what the model takes, on a CPU. The default hands on the columns of `reads`."""
        return Prepared(batch.select([n for n in self.reads(batch.schema) if n in batch.schema.names]))

    @abstractmethod
    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Run the model on its device; return one row for each that was given, in their order."""

    def finish(self, rows: pa.RecordBatch, inferred: pa.RecordBatch) -> Columns:
        """Turn what the model said of these rows into columns, on a CPU. The default returns them as they are."""
        return dict(zip(inferred.schema.names, inferred.columns, strict=True))

    def wanted(self, batch: pa.RecordBatch) -> Booleans:
        """Say which rows are for the model: by default those without a null in a column of `reads`."""
        mask = np.ones(batch.num_rows, dtype=bool)
        for name in self.reads(batch.schema):
            column = batch.column(name)
            if column.null_count:
                mask &= pc.is_valid(column).to_numpy(zero_copy_only=False)
        return mask

    def compose(self, batch: pa.RecordBatch) -> Columns:
        """Run the three verbs on rows, here and now; return a column's worth of answers for each of `writes`.

        Raises OperatorMisbehaved where the verbs' rows do not fit each other, MemoryError where the device has none
        left.
        """
        mask = self.wanted(batch)
        rows = batch
        if not mask.all():
            rows = batch.filter(pa.array(mask))
            follow(batch, rows, mask, unasked=True)
        prepared = self.prepare(rows) if rows.num_rows else Prepared(rows)
        taken = self.taken(rows, prepared)
        if not taken.all():
            rows = rows.filter(pa.array(taken))
        columns: Columns = {}
        if rows.num_rows:
            columns = self.finished(rows, self.inferred(prepared.batch))
        answered = mask.copy()
        answered[mask] = taken
        columns = {
            name: _scattered(columns[name] if rows.num_rows else pa.nulls(0, kind), answered)
            for name, kind in self.writes(batch.schema).items()
            if kind is not None
        }
        if prepared.errors is None or taken.all():
            return columns
        return Partial(columns, errors=_scattered(prepared.errors, mask))

    def taken(self, rows: pa.RecordBatch, prepared: Prepared) -> Booleans:
        """Say which rows `prepare` took. Raises OperatorMisbehaved where what it returned does not say so."""
        errors = prepared.errors
        if errors is not None and len(errors) != rows.num_rows:
            raise OperatorMisbehaved(
                f"prepare() of {type(self).__name__} returned {len(errors)} errors for {rows.num_rows} rows",
                help="`errors` has one entry for each row that was given, null where all is well",
            )
        taken: Booleans = (
            np.ones(rows.num_rows, dtype=bool) if errors is None else pc.is_null(errors).to_numpy(zero_copy_only=False)
        )
        if rows.num_rows and prepared.batch.num_rows != taken.sum():
            raise OperatorMisbehaved(
                f"prepare() of {type(self).__name__} returned {prepared.batch.num_rows} rows for {taken.sum()} "
                "without an error",
                help="its batch has one row for each row whose entry in `errors` is null",
            )
        return taken

    def inferred(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Run `infer`, here or where the runner keeps the model, holding it to its contract.

        Raises OperatorMisbehaved; MemoryError for a device's as well.
        """
        told = None
        elsewhere = getattr(self.runtime, "elsewhere", None)
        try:
            if elsewhere is not None:
                made, seconds = elsewhere(prepared)
            else:
                started = time.perf_counter()
                made = self.infer(prepared)
                seconds = time.perf_counter() - started
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            told = f"{type(error).__name__}: {error}"
        if told is not None:
            # Only out here: the exception held the frames, and they the tensors.
            give_back_device_memory()
            raise MemoryError(told)
        if not isinstance(made, pa.RecordBatch):
            raise OperatorMisbehaved(f"infer() of {type(self).__name__} returned no record batch, but {type(made)}")
        if made.num_rows != prepared.num_rows:
            raise OperatorMisbehaved(
                f"infer() of {type(self).__name__} returned {made.num_rows} rows for {prepared.num_rows}",
                help="a model operator answers for each row, in their order",
            )
        batching = getattr(self.runtime, "batching", None)
        if batching is not None:
            batching.observe(prepared.num_rows, seconds)
        return made

    def finished(self, rows: pa.RecordBatch, inferred: pa.RecordBatch) -> Columns:
        """Run `finish`, holding it to what `writes` declares. Raises OperatorMisbehaved."""
        columns = self.finish(rows, inferred)
        for name, kind in self.writes(rows.schema).items():
            values = columns.get(name)
            if values is None:
                raise OperatorMisbehaved(f"{type(self).__name__} did not return the column `{name}`, which it declares")
            if values.type != kind or len(values) != rows.num_rows:
                raise OperatorMisbehaved(
                    f"{type(self).__name__} returned {len(values)} values of {values.type} in `{name}` for "
                    f"{rows.num_rows} rows, but declares {kind}",
                    help="the model gives another shape than its configuration says",
                )
        return columns


class ModelScore(ModelOperator, Score):
    """Adds what a model says of a row: an embedding, a quality."""

    def score(self, batch: pa.RecordBatch) -> Columns:
        """Run the three verbs in this process."""
        return self.compose(batch)


class ModelGenerator(ModelOperator, Generator):
    """Adds what a model generates from a row: a caption, an answer. One value per row; it makes no new rows."""

    exactness: ClassVar[Exactness] = "free"

    def generate(self, batch: pa.RecordBatch) -> Columns:
        """Run the three verbs in this process."""
        return self.compose(batch)


def _scattered(values: pa.Array | pa.ChunkedArray, mask: Booleans) -> pa.Array:
    """Return an array as long as the mask: the values where it is true, in order, and null elsewhere."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if mask.all():
        return values
    at = np.cumsum(mask) - 1
    return values.take(pa.array(at, pa.int64(), mask=~mask))
