"""Rows that a Python function makes: a stream, read in its order by a process of its own.

`function` is `my_source.py:documents`, beside the recipe, or `module:name`. It is called with `args` and returns an
iterable (a generator, as a rule) of dicts, one per row, or of Arrow batches or tables. Called again it must give the
same rows in the same order: a run that is resumed goes on at the record that it had reached. A function with a
parameter `start` is asked to begin at that record; of any other the records before it are passed over.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from fdf.errors import BadFile, FdfError, PlanError, Problem, StageFailed, TransientError, did_you_mean
from fdf.fingerprint import sha256_hex
from fdf.schema import plain_schema
from fdf.sources.base import Reject, Slice, Source, SourceBatch, Split
from fdf.sources.conform import conform, in_batches, unify
from fdf.sources.file_source import with_declared
from fdf.sources.naming import declared_schema
from fdf.sources.stored_files import BYTES, PATH, is_bytes
from fdf.storage.retry import retrying

SAMPLE_ROWS = 1000
BATCH_ROWS = 1000
BATCH_BYTES = 16 << 20
_MISFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError, ValueError)
_TELLS_NOTHING_OF_ROWS = frozenset({"identity", "on_bad_file", "extra_columns"})


@dataclass(frozen=True, kw_only=True)
class PythonSource(Source):
    """Rows from a function in a Python file or module."""

    type: ClassVar[str] = "python"

    function: str
    """`my_source.py:documents`, relative to the recipe, or `module:name`."""
    args: dict[str, Any] = field(default_factory=dict)
    """What it is called with, by name."""

    def __post_init__(self) -> None:
        left, _, name = self.function.rpartition(":")
        if not left or not name.isidentifier():
            raise PlanError(
                f"`function: {self.function}` names no function",
                help="write `my_source.py:documents`, a file beside the recipe, or `module:name`",
            )

    @property
    def indexed(self) -> bool:
        return False

    def beside(self, folder: Path) -> Self:
        """Return the source with its file looked for in this folder, where the recipe is."""
        placed = dataclasses.replace(self)
        placed.__dict__["_folder"] = str(folder.absolute())
        return placed

    def options(self) -> dict[str, Any]:
        """Return every option that decides what rows come out, the sha256 of the function's file among them."""
        fields = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _TELLS_NOTHING_OF_ROWS
        }
        return {"type": self.type, "version": self.version, **fields, "sha256": self._sha256()}

    def splits(self) -> Iterator[Split]:
        raise PlanError(f"`{self.function}` is a stream: it has no splits", help="use stream()")

    def read(self, piece: Slice, *, schema: pa.Schema) -> Iterator[SourceBatch]:
        raise PlanError(f"`{self.function}` is a stream: it has no slices", help="use stream()")

    def physical_schema(self) -> pa.Schema:
        """Return the columns of the first 1,000 rows, with `schema:` in place of what was found; where that says what
        every column is, nothing is run."""
        declared = declared_schema(self.schema, self.columns)
        if declared and not set((self.columns or {}).values()) - declared.keys():
            return pa.schema(list(declared.items()))
        try:
            found = retrying(partial(self._sampled, declared), what=f"`{self.function}`")
        except (FdfError, TransientError):
            raise
        except Exception as error:  # whatever the user's function raises
            message = f"`{self.function}` failed in its first {SAMPLE_ROWS} rows: {type(error).__name__}: {error}"
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise StageFailed(
                Problem(
                    code="FDF445",
                    message=f"{message} ({frame.filename}:{frame.lineno})",
                    help="correct it, and run again",
                )
            ) from error
        return with_declared(unify(found, of_files=True), declared)

    def _sampled(self, declared: dict[str, pa.DataType]) -> list[tuple[str, pa.Schema]]:
        """Return the columns of the first rows."""
        found: list[tuple[str, pa.Schema]] = []
        rows: list[dict[str, Any]] = []
        count = 0
        for item in self._items(0):
            if isinstance(item, dict):
                rows.append(item)
                count += 1
            else:
                found.append((f"rows from {count} on", plain_schema(item.schema)))
                count += item.num_rows
            if count >= SAMPLE_ROWS:
                break
        if rows:
            found.append(("the rows", _inferred(rows, declared)))
        if not count:
            raise PlanError(f"`{self.function}` has no rows", help="see what it is called with: `args:`")
        return found

    def stream(self, *, schema: pa.Schema, start: int) -> Iterator[SourceBatch]:
        """Yield the records from number `start` on; where the function fails, first all that it gave before."""
        position = start
        for group in self._groups(start):
            if isinstance(group, list):
                yield self._of_rows(group, position, schema)
                position += len(group)
                continue
            for batch in group.to_batches():
                positions = pa.array(np.arange(position, position + batch.num_rows))
                for part, where in in_batches(batch, positions):
                    yield conform(part, schema=schema, positions=where, max_row_bytes=self.max_row_bytes)
                position += batch.num_rows

    def _groups(self, start: int) -> Iterator[list[dict[str, Any]] | pa.Table]:
        """Yield tables as they come, and dicts in lists of bounded rows and bytes."""
        held: list[dict[str, Any]] = []
        weight = 0
        try:
            for item in self._items(start):
                if isinstance(item, dict):
                    held.append(item)
                    weight += sum(len(v) for v in item.values() if isinstance(v, (str, bytes)))
                    if len(held) < BATCH_ROWS and weight < BATCH_BYTES:
                        continue
                if held:
                    yield held
                    held, weight = [], 0
                if not isinstance(item, dict):
                    yield item
        except Exception:
            if held:
                yield held
            raise
        if held:
            yield held

    def _of_rows(self, rows: list[dict[str, Any]], start: int, schema: pa.Schema) -> SourceBatch:
        """Return rows given as dicts; one with a value that does not fit is a reject."""
        bad: dict[int, str] = {}
        columns = [_column([_value(row.get(f.name), f) for row in rows], f, bad) for f in schema]
        extra = tuple(dict.fromkeys(n for row in rows for n in row if n not in schema.names))
        positions = pa.array(np.arange(start, start + len(rows)))
        rejects = tuple(
            Reject(position=start + n, error=why, raw=repr(rows[n]).encode(errors="replace")[:4096])
            for n, why in sorted(bad.items())
        )
        if not len(schema):
            return SourceBatch(pa.record_batch({"_": positions}).select([]), positions, (), extra)
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        if bad:
            mask = pa.array([n not in bad for n in range(len(rows))])
            batch, positions = batch.filter(mask), positions.filter(mask)
        made = conform(batch, schema=schema, positions=positions, rejects=rejects, max_row_bytes=self.max_row_bytes)
        return SourceBatch(made.rows, made.positions, made.rejects, extra)

    def _items(self, start: int) -> Iterator[dict[str, Any] | pa.Table]:
        """Yield what the function yields from record `start` on: dicts, and tables with at least one row."""
        function = self._loaded()
        seeks = "start" in inspect.signature(function).parameters
        made = function(**self.args, **({"start": start} if seeks else {}))
        if not isinstance(made, Iterable):
            raise self._wrong(f"returns {_kind(made)}")
        left = 0 if seeks else start
        for item in made:
            if isinstance(item, dict):
                if left:
                    left -= 1
                else:
                    yield item
                continue
            table = _as_table(item)
            if table is None:
                raise self._wrong(f"yields {_kind(item)}")
            passed = min(left, table.num_rows)
            left -= passed
            if passed < table.num_rows:
                yield table.slice(passed)

    def _loaded(self) -> Callable[..., Any]:
        """Return the function. Raises PlanError where it is not there, StageFailed where its file has changed."""
        left, _, name = self.function.rpartition(":")
        known = self.__dict__.get("_known_sha256")
        path = self._path()
        if path is not None and known != self._digest(path) and known is not None:
            raise StageFailed(
                Problem(
                    code="FDF431",
                    message=f"`{path}` of the source `{self.function}` has changed in the run",
                    help="run the recipe again: what was committed before the change stays safe",
                )
            )
        try:
            module = _module(path) if left.endswith(".py") and path is not None else import_module(left)
        except Exception as error:  # whatever the user's module raises on import
            raise PlanError(
                Problem(
                    code="FDF231",
                    message=f"`{left}` cannot be loaded: {type(error).__name__}: {error}",
                    about="function",
                    help=f"`python {left}` shows where; it may import what is installed, not the files beside it",
                )
            ) from error
        found = getattr(module, name, None)
        if not callable(found):
            there = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == left]
            raise PlanError(
                Problem(
                    code="FDF232",
                    message=f"`{left}` has no function `{name}`",
                    about="function",
                    hint=did_you_mean(name, there or vars(module)),
                )
            )
        function: Callable[..., Any] = found
        return function

    def _sha256(self) -> str | None:
        if "_known_sha256" not in self.__dict__:
            path = self._path()
            self.__dict__["_known_sha256"] = None if path is None else self._digest(path)
        sha256: str | None = self.__dict__["_known_sha256"]
        return sha256

    def _digest(self, path: Path) -> str:
        try:
            return sha256_hex(path.read_bytes())
        except OSError as error:
            there = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
            raise PlanError(
                Problem(
                    code="FDF230",
                    message=f"cannot read the file `{path}` of the source `{self.function}`: {error.strerror}",
                    about="function",
                    hint=did_you_mean(path.name, there),
                    help="the path in `function:` is relative to the recipe",
                )
            ) from error

    def _path(self) -> Path | None:
        left = self.function.rpartition(":")[0]
        if left.endswith(".py"):
            return Path(self.__dict__.get("_folder", "."), Path(left).expanduser()).absolute()
        try:
            file = getattr(import_module(left), "__file__", None)
        except Exception:  # noqa: BLE001 (told when it is loaded to be called)
            return None
        return Path(file) if file else None

    def _wrong(self, does: str) -> BadFile:
        return BadFile(
            f"`{self.function}` {does}, which holds no rows",
            help="have it yield a dict per row, or Arrow batches or tables",
        )


def _as_table(item: Any) -> pa.Table | None:
    if isinstance(item, pa.Table):
        return item
    if isinstance(item, pa.RecordBatch):
        return pa.Table.from_batches([item])
    if hasattr(item, "__arrow_c_stream__"):
        return pa.table(item)
    return None


def _value(value: Any, field: pa.Field) -> Any:
    """Return a value, of a file as `datasets` gives it undecoded (a dict) the bytes where these are wanted."""
    is_file = isinstance(value, dict) and value.keys() <= {BYTES, PATH} and is_bytes(field.type)
    return value.get(BYTES) if is_file else value


def _column(values: list[Any], field: pa.Field, bad: dict[int, str]) -> pa.Array:
    """Return values in the wanted type; where one does not fit, its row is noted and the value null."""
    try:
        return pa.array(values, field.type)
    except _MISFIT:
        pass
    fitting = []
    for number, value in enumerate(values):
        try:
            pa.array([value], field.type)
            fitting.append(value)
        except _MISFIT as error:
            bad.setdefault(number, f"column `{field.name}`: {str(error).splitlines()[0][:200]}")
            fitting.append(None)
    return pa.array(fitting, field.type)


def _inferred(rows: list[dict[str, Any]], declared: dict[str, pa.DataType]) -> pa.Schema:
    """Return the columns of rows given as dicts, each with every key that one of them has."""
    fields = []
    for name in dict.fromkeys(name for row in rows for name in row):
        if name in declared:
            fields.append(pa.field(name, declared[name]))
            continue
        try:
            fields.append(pa.field(name, pa.array([row.get(name) for row in rows]).type))
        except _MISFIT as error:
            raise PlanError(
                f"the values of `{name}` do not share one type: {str(error).splitlines()[0]}",
                help=f"declare its type, such as `schema: {{ {name}: string }}`",
            ) from error
    return plain_schema(pa.schema(fields))


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _module(path: Path) -> Any:
    name = f"fdf_source_file_{sha256_hex(str(path))[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PlanError(f"`{path}` is not a Python file", help="name a file ending in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses and type hints look their module up by name.
    spec.loader.exec_module(module)
    return module


__all__ = ["PythonSource"]
