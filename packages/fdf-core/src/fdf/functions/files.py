"""Operators in a file of the user's own: `op: "my_ops.py:is_long"`.

The file stands alone: it may import what is installed, not the files beside it. Its sha256 is the operator's version,
so every edit counts as a change. The file's text travels to the workers, which may be on machines that have no such
file, and is what a run uses to its end, whatever becomes of the file meanwhile.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from fdf.errors import Problem, RecipeError, did_you_mean
from fdf.fingerprint import sha256_hex
from fdf.functions.classes import FunctionOperator, operator_class
from fdf.operator import KINDS, Operator


def load_operator(path: Path, name: str, *, kind: str | None = None) -> type[Operator]:
    """Return the operator class `name` of a Python file: a class, a decorated function, or a plain one of this `kind`.

    Raises RecipeError: FDF230 the file is not there, FDF231 it cannot be loaded, FDF232 it has no such name, FDF233
    that is no operator, FDF234 the kind is missing or another.
    """
    path = path.expanduser().absolute()
    try:
        source = path.read_bytes()
    except OSError as error:
        there = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise RecipeError(
            Problem(
                code="FDF230",
                message=f"cannot read the file `{path}` of the operator `{name}`: {error.strerror}",
                hint=did_you_mean(path.name, there),
                help="the path in `op:` is relative to the recipe",
            )
        ) from error
    return _load(str(path), source, name, kind)


@cache
def _load(path: str, source: bytes, name: str, kind: str | None) -> type[Operator]:
    module = _module(path, source)
    found = getattr(module, name, None)
    if found is None:
        there = [n for n, v in vars(module).items() if _is_own(v, module)]
        raise RecipeError(
            Problem(
                code="FDF232",
                message=f"`{path}` has no `{name}`",
                hint=did_you_mean(name, there),
                help=f"it has {', '.join(there) or 'no functions or classes'}",
            )
        )
    made = found if isinstance(found, type) and issubclass(found, Operator) else _from_function(path, name, found, kind)
    if kind is not None and made.kind != kind:
        raise RecipeError(
            Problem(
                code="FDF234",
                message=f"`{path}:{name}` is a {made.kind}, and the recipe calls it a {kind}",
                help=f"write kind: {made.kind}",
            )
        )
    own_function = issubclass(made, FunctionOperator) and _is_own(made.about.call, module)
    if own_function or not hasattr(made, "version"):
        made.version = sha256_hex(source)

    def reduce(self: Operator) -> tuple[Any, ...]:
        return _restore, (path, source, name, kind, self.__getstate__())

    # Its module exists in this process only: a worker makes the class again from the text.
    made.__reduce__ = reduce  # type: ignore[method-assign,assignment]
    return made


def _from_function(path: str, name: str, found: Any, kind: str | None) -> type[Operator]:
    if not callable(found) or isinstance(found, type):
        raise RecipeError(
            Problem(
                code="FDF233",
                message=f"`{path}:{name}` is a {type(found).__name__}, neither a function nor an operator class",
                help="name a function of a batch, or a subclass of fdf.Score, Evaluator, Filter, Refiner or Generator",
            )
        )
    if kind is None:
        raise RecipeError(
            Problem(
                code="FDF234",
                message=f"`{path}:{name}` is a plain function, which does not say what kind of operator it is",
                help=f"decorate it (@fdf.filter) or write `kind:` in the recipe: {', '.join(KINDS)}",
            )
        )
    return operator_class(found, kind=kind)


@cache
def _module(path: str, source: bytes) -> ModuleType:
    name = f"fdf_operator_file_{sha256_hex(path)[:8]}_{sha256_hex(source)[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        problem = Problem(code="FDF231", message=f"`{path}` is not a Python file", help="name a file ending in .py")
        raise RecipeError(problem)
    module = module_from_spec(spec)
    # Dataclasses and type hints look their module up by name.
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 (the user's own operators)
    except Exception as error:  # whatever the user's module raises on import
        del sys.modules[name]
        raise RecipeError(
            Problem(
                code="FDF231",
                message=f"`{path}` cannot be loaded: {type(error).__name__}: {error}",
                help=f"`python {path}` shows where; it may import what is installed, not the files beside it",
            )
        ) from error
    return module


def _restore(path: str, source: bytes, name: str, kind: str | None, state: dict[str, Any]) -> Operator:
    """Make an operator again in another process."""
    operator: Operator = object.__new__(_load(path, source, name, kind))
    operator.__dict__.update(state)
    return operator


def _is_own(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__
