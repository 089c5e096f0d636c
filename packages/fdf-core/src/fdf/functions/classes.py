"""How a function becomes an operator class: its signature becomes the parameters, its answer is checked and typed."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar, cast, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc

from fdf.columnstats import ColumnsState
from fdf.errors import Problem, RecipeError, StageFailed
from fdf.fingerprint import sha256_hex
from fdf.operator import Columns, Evaluator, Expansion, Filter, Generator, Operator, Refiner, Score
from fdf.schema import is_internal
from fdf.typename import parse_type
from fdf.verdict import Rule, Verdict

_SCALARS = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


@dataclass(frozen=True, kw_only=True)
class About:
    """What is declared of a function. `writes` maps columns to types; a refiner's may be "same"."""

    call: Callable[..., Any]
    name: str
    reads: tuple[str, ...] | None
    writes: Mapping[str, pa.DataType | str | None]
    rows: bool


class FunctionOperator(Operator):
    """An operator whose verb is a function."""

    about: ClassVar[About]

    def __new__(cls, *batch: Any, **parameters: Any) -> Any:
        """Make the operator; or, given a batch, answer as the bare function does."""
        if batch:
            return cls.about.call(*batch, **parameters)
        return super().__new__(cls)

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the declared columns; every column of the data where none are declared."""
        if self.about.reads is not None:
            return self.about.reads
        return tuple(n for n in schema.names if not is_internal(n))

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the declared columns."""
        kept = {
            n: schema.field(n).type for n, t in self.about.writes.items() if isinstance(t, str) and n in schema.names
        }
        return {n: kept.get(n, pa.string()) if isinstance(t, str) else t for n, t in self.about.writes.items()}

    def answer(self, batch: pa.RecordBatch) -> Any:
        """Return what the function says of a batch; of a row function, the list of its values."""
        parameters = {f.name: getattr(self, f.name) for f in dataclasses.fields(cast("Any", self))}
        if self.about.rows:
            return [self.about.call(row, **parameters) for row in batch.select(self.reads(batch.schema)).to_pylist()]
        return self.about.call(batch, **parameters)

    def columns(self, batch: pa.RecordBatch) -> Columns:
        """Return the function's answer as the declared columns."""
        types = self.writes(batch.schema)
        answer = self.answer(batch)
        if self.about.rows and len(types) > 1:
            answer = {n: [None if row is None else row[n] for row in answer] for n in types}
        elif isinstance(answer, Expansion):
            raise self._unfit("an Expansion", "columns; `@fdf.generator(expands=True, ...)` is for new rows")
        elif not isinstance(answer, Mapping):
            if len(types) != 1:
                raise self._unfit(f"one {type(answer).__name__}", f"a dict of the columns {', '.join(types)}")
            answer = dict.fromkeys(types, answer)
        if set(answer) != set(types):
            raise self._unfit(f"columns {', '.join(answer) or 'none'}", f"the columns {', '.join(types)}")
        return {name: self._array(answer[name], kind, batch.num_rows) for name, kind in types.items()}

    def _array(self, values: Any, kind: pa.DataType | None, rows: int) -> pa.Array | None:
        if kind is None:
            return None
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        array = values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)
        if len(array) != rows:
            raise self._unfit(f"{len(array)} values", f"one for each of the {rows} rows")
        return array

    def _unfit(self, got: str, wanted: str) -> Exception:
        """Return the error of an answer that does not fit. What a row function says of one row may be that row's fault;
        an answer of the wrong shape to a batch is the function's, and must not be looked for by halving: half a batch
        may happen to have the length that was returned."""
        told = f"the {self.kind} function `{self.about.name}` returned {got}; it has to return {wanted}"
        if self.about.rows:
            return TypeError(told)
        return StageFailed(
            Problem(code="FDF421", message=told, help="mend the function, then run the same command again")
        )


class _ScoreFunction(FunctionOperator, Score):
    def score(self, batch: pa.RecordBatch) -> Columns:
        return self.columns(batch)


class _RefinerFunction(FunctionOperator, Refiner):
    def refine(self, batch: pa.RecordBatch) -> Columns:
        return self.columns(batch)


class _FilterFunction(FunctionOperator, Filter):
    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        answer = self.answer(batch)
        if isinstance(answer, Verdict):
            if stray := [r for r in answer.reasons if r not in self.reasons]:
                raise self._unfit(f"the reason `{stray[0]}`", f"one of those it declares: {', '.join(self.reasons)}")
            return answer
        if isinstance(answer, pa.ChunkedArray):
            answer = answer.combine_chunks()
        keep = answer if isinstance(answer, pa.Array) else pa.array(answer, pa.bool_() if len(answer) == 0 else None)
        if not (pa.types.is_boolean(keep.type) or pa.types.is_null(keep.type)):
            raise self._unfit(f"values of {keep.type}", "booleans (True keeps) or a Verdict")
        if len(keep) != batch.num_rows:
            raise self._unfit(f"{len(keep)} values", f"one for each of the {batch.num_rows} rows")
        drop = pc.invert(pc.fill_null(keep.cast(pa.bool_()), fill_value=False))
        return Verdict.first(**{self.reasons[0]: Rule(drop)})


class _GeneratorFunction(FunctionOperator, Generator):
    expands: ClassVar[bool] = False

    def generate(self, batch: pa.RecordBatch) -> Columns | Expansion:
        if not self.expands:
            return self.columns(batch)
        answer = self.answer(batch)
        if not isinstance(answer, Expansion):
            raise self._unfit(f"a {type(answer).__name__}", "an Expansion, or to name the columns it adds in `writes`")
        return answer


class _EvaluatorFunction(FunctionOperator, Evaluator):
    def evaluate(self, batch: pa.RecordBatch) -> Columns:
        return self.columns(batch)

    def state(self, batch: pa.RecordBatch) -> bytes:
        return ColumnsState.of(self.columns(batch), rows=batch.num_rows).to_bytes()

    def merge(self, a: bytes, b: bytes) -> bytes:
        return ColumnsState.from_bytes(a).merge(ColumnsState.from_bytes(b)).to_bytes()

    def report(self, state: bytes) -> dict[str, Any]:
        return ColumnsState.from_bytes(state).report()


_BASES: dict[str, type[FunctionOperator]] = {
    "score": _ScoreFunction,
    "evaluator": _EvaluatorFunction,
    "filter": _FilterFunction,
    "refiner": _RefinerFunction,
    "generator": _GeneratorFunction,
}


def operator_class(
    function: Callable[..., Any],
    *,
    kind: str,
    reads: Sequence[str] | None = None,
    writes: Mapping[str, Any] | Sequence[str] | None = None,
    reason: str | Sequence[str] | None = None,
    rows: bool = False,
    expands: bool = False,
) -> type[Operator]:
    """Return the operator class that this function makes. Raises RecipeError (FDF233) where it cannot be one."""
    name = getattr(function, "__name__", "function")
    first, parameters = _parameters(function, name)
    about = About(
        call=function,
        name=name,
        reads=None if reads is None else ((reads,) if isinstance(reads, str) else tuple(reads)),
        writes=_written(function, name, kind, writes),
        rows=rows or first == "row",
    )
    told = (reason,) if isinstance(reason, str) else tuple(reason or (f"not_{name}",))
    namespace = {
        "__doc__": inspect.getdoc(function) or f"The {kind} function `{name}`.",
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "about": about,
        "version": _version(function),
        "reasons": told,
        "expands": kind == "generator" and (expands or writes is None),
    }
    return dataclasses.make_dataclass(
        name, parameters, bases=(_BASES[kind],), namespace=namespace, frozen=True, kw_only=True
    )


def _parameters(function: Callable[..., Any], name: str) -> tuple[str, list[tuple[str, Any, Any]]]:
    """Return the name of the first parameter, and the further ones as dataclass fields."""
    if inspect.iscoroutinefunction(function):
        raise _wrong(name, "it is not a plain function")
    given = list(inspect.signature(function).parameters.values())
    if not given or given[0].kind not in {given[0].POSITIONAL_ONLY, given[0].POSITIONAL_OR_KEYWORD}:
        raise _wrong(name, "it takes no batch")
    hints = _hints(function)
    fields: list[tuple[str, Any, Any]] = []
    for p in given[1:]:
        if p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY}:
            raise _wrong(name, f"its parameter `{p}` has no name of its own, so that a recipe could not set it")
        if p.default is p.empty:
            raise _wrong(name, f"its parameter `{p.name}` has no default")
        kind = hints.get(p.name, Any if p.default is None else type(p.default))
        if isinstance(p.default, (list, dict, set)):
            default = dataclasses.field(default_factory=partial(copy.deepcopy, p.default))
        else:
            default = dataclasses.field(default=p.default)
        fields.append((p.name, kind, default))
    return given[0].name, fields


def _written(
    function: Callable[..., Any], name: str, kind: str, writes: Mapping[str, Any] | Sequence[str] | None
) -> Mapping[str, pa.DataType | str | None]:
    if kind == "filter" or (kind == "generator" and writes is None):
        return {}
    if writes is None:
        if kind == "refiner":
            raise _wrong(
                name, "it does not say which columns it replaces", 'decorate it: @fdf.refiner(writes=["text"])'
            )
        returned = _SCALARS.get(_hints(function).get("return", float), pa.float64())
        return {name if kind == "score" else f"eval.{name}": returned}
    if not isinstance(writes, Mapping):
        return dict.fromkeys([writes] if isinstance(writes, str) else writes, "same")
    types: dict[str, pa.DataType | str | None] = {}
    for column, wanted in writes.items():
        if wanted is None and kind != "refiner":
            raise _wrong(name, f"`writes` gives no type for `{column}`; only a refiner removes columns")
        if kind == "evaluator" and not column.startswith("eval."):
            raise _wrong(name, f"an evaluator writes columns named `eval.*`, not `{column}`")
        try:
            types[column] = parse_type(wanted) if isinstance(wanted, str) else wanted
        except ValueError as error:
            raise _wrong(name, f"`writes` of `{column}`: {error}") from error
    return types


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError):
        # Annotations that exist for a type checker only: the defaults still tell the types.
        return {}


def _version(function: Callable[..., Any]) -> str:
    """Return the sha256 of the function's file; in a notebook, of its source; failing that, of its code."""
    try:
        file = Path(inspect.getsourcefile(function) or "")
        return sha256_hex(file.read_bytes() if file.is_file() else inspect.getsource(function))
    except (OSError, TypeError):
        return (
            sha256_hex(_code_text(function.__code__)) if hasattr(function, "__code__") else sha256_hex(repr(function))
        )


def _code_text(code: CodeType) -> str:
    constants = [_code_text(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return "\n".join([code.co_code.hex(), *constants, *code.co_names])


def _wrong(name: str, why: str, help: str | None = None) -> RecipeError:  # noqa: A002 (as Problem names it)
    return RecipeError(
        Problem(
            code="FDF233",
            message=f"the function `{name}` cannot be an operator: {why}",
            help=help or "write `def name(batch, *, parameter=default)`, or `def name(row, ...)` for one row at a time",
        )
    )
