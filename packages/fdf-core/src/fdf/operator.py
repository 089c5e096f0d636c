"""The five kinds of operator: what a building block promises, and the one verb of each kind.

An operator is a frozen, keyword-only dataclass. Its fields are its parameters; its verb takes an Arrow record batch
and returns Arrow. This module holds the contract only; operators live in `fdf.operators` and in packages.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, TypeAlias

import pyarrow as pa

from fdf.verdict import Verdict

Exactness = Literal["bitwise", "numeric", "free"]
Columns: TypeAlias = dict[str, pa.Array | pa.ChunkedArray | None]
"""Columns by name; None removes the column (refiners only)."""
Verb = Literal["prepare", "infer", "finish"]
"""What an operator that runs a model does with rows, one after the other; see `fdf.models.contract`."""
VERBS: frozenset[Verb] = frozenset({"prepare", "infer", "finish"})


class Partial(dict[str, "pa.Array | pa.ChunkedArray | None"]):
    """Columns of a batch of which some rows failed: `errors` has a string per row, null where all is well.

    What the columns hold of a failed row does not count: `on_error` decides, as for a row that raised. A verb that
    knows which rows are at fault says so at the price of one call, where an exception is searched for by halving.
    """

    def __init__(self, columns: Columns, *, errors: pa.Array) -> None:
        super().__init__(columns)
        self.errors = errors


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one instance of an operator asks for: CPU cores, GPUs (a fraction packs), bytes of memory (0: no limit)."""

    cpus: float = 1
    gpus: float = 0
    memory: int = 0


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an operator may use in `setup`; one per worker."""

    operator_id: str
    seed: int
    cache_dir: Path
    device: str = "cpu"
    dtype: str = "float32"
    verbs: frozenset[Verb] = VERBS
    """Which verbs this worker will call of an operator that runs a model; others ignore it."""
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("fdf.operator"))


def cache_dir() -> Path:
    """Return where operators may keep what is dear to make again: `$FDF_CACHE`, else the user's cache folder."""
    asked = os.environ.get("FDF_CACHE")
    return Path(asked) if asked else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fdf"


@dataclass(frozen=True)
class Expansion:
    """New rows made by a generator: `batch`, and for each the index of its parent row in the batch it came from.

    Parents are dropped from the stream as `expanded` unless `keep_parent`; a parent's rows follow it in order.
    """

    batch: pa.RecordBatch
    parent: pa.Array
    keep_parent: bool = False


def recipe_name(field_name: str) -> str:
    """Return what a recipe calls this parameter: `in_` is written `in`, so that a Python keyword can be a name.

    >>> recipe_name("in_"), recipe_name("min_words")
    ('in', 'min_words')
    """
    return field_name.removesuffix("_")


class Operator(ABC):
    """The base of the five kinds. Subclass a kind, not this."""

    kind: ClassVar[str]
    version: ClassVar[str]
    exactness: ClassVar[Exactness] = "bitwise"
    depends: ClassVar[tuple[str, ...]] = ()
    """Distributions whose installed version decides the output, and so belongs to the fingerprint."""
    extras: ClassVar[tuple[str, ...]] = ()
    """Extras of its package that bring what the operator needs with one parameter or another; listings tell them."""
    resources: ClassVar[Resources] = Resources()
    batch_rows: ClassVar[int | None] = None
    """How many rows one call gets at most where the recipe has no `batch_size`; None: what the reader gives."""
    modality: ClassVar[str] = "any"

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the columns that the verb looks at. The default is the parameter `field` or `fields`."""
        named = getattr(self, "fields", None) or getattr(self, "field", None)
        if named is None:
            raise NotImplementedError(f"{type(self).__name__} has no parameter `field`: define reads(schema)")
        return (named,) if isinstance(named, str) else tuple(named)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the columns that the verb returns, with their types on this input; None marks a removed column."""
        return {}

    def assets(self) -> dict[str, str]:
        """Return the digest or revision of what the parameters name but do not hold (a list, a model), by its name.

        It belongs to the fingerprint: other content under the same path gives other results. Asked once, by the plan.
        """
        return {}

    def fetch(self) -> None:
        """Bring what `assets` named onto this machine. Called once per machine, after the plan and before any setup."""

    def setup(self, context: Context) -> None:
        """Load what the verb needs, into `self.runtime`. Called once per worker, before the first batch."""

    def teardown(self) -> None:
        """Release what `setup` took. Called once, also after a failure."""

    @property
    def runtime(self) -> Any:
        """Whatever `setup` loaded: a namespace that belongs to this process and is never pickled or compared."""
        held = self.__dict__.get("_runtime")
        if held is None:
            held = self.__dict__["_runtime"] = SimpleNamespace()
        return held

    def params(self) -> dict[str, Any]:
        """Return the parameters as JSON values, named as in a recipe: all of them, defaults included."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {recipe_name(f.name): _jsonable(getattr(self, f.name)) for f in fields if f.init}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_runtime"}


class Score(Operator):
    """Adds columns; changes nothing else."""

    kind = "score"

    @abstractmethod
    def score(self, batch: pa.RecordBatch) -> Columns:
        """Return the new columns, each as long as the batch. A null field gives a null score."""


class Evaluator(Operator):
    """Adds `eval.*` columns and folds the whole dataset into one report, which may carry gates."""

    kind = "evaluator"

    def evaluate(self, batch: pa.RecordBatch) -> Columns:
        """Return the `eval.*` columns; none by default."""
        return {}

    @abstractmethod
    def state(self, batch: pa.RecordBatch) -> bytes:
        """Return this batch's contribution. Merged states must not depend on how rows were cut into batches."""

    @abstractmethod
    def merge(self, a: bytes, b: bytes) -> bytes:
        """Fold two contributions, `a` before `b`; at most 64 KiB."""

    def metrics(self, schema: pa.Schema) -> tuple[str, ...] | None:
        """Return the metrics that `require:` may name on this input, or None where only the data can tell."""
        return None

    @abstractmethod
    def report(self, state: bytes) -> dict[str, Any]:
        """Return the verdict on the dataset as JSON values; nested keys are joined by dots in `require:`."""


class Filter(Operator):
    """Drops rows, each with a reason."""

    kind = "filter"
    reasons: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Judge each row. A filter says itself whether a null is kept or dropped."""


class Refiner(Operator):
    """Replaces or removes columns; the same rows in the same order."""

    kind = "refiner"

    @abstractmethod
    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Return the replaced columns; None removes one. A null stays null."""


class Generator(Operator):
    """Adds generated columns, or new rows that name their parent."""

    kind = "generator"
    expands: ClassVar[bool] = False
    """True for a generator that returns an `Expansion`: its new rows may hold other values in existing columns."""

    @abstractmethod
    def generate(self, batch: pa.RecordBatch) -> Columns | Expansion:
        """Return generated columns, or an `Expansion`."""


KINDS: dict[str, type[Operator]] = {k.kind: k for k in (Score, Evaluator, Filter, Refiner, Generator)}


def _jsonable(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value
