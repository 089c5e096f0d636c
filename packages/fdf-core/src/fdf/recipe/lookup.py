"""What an `op:` or a `type:` in a recipe stands for: a registered class, a class in a module, a function in a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from fdf import registry
from fdf.errors import Problem, RecipeError, did_you_mean
from fdf.functions import load_operator
from fdf.operator import KINDS, Operator


@dataclass(frozen=True, kw_only=True)
class Found:
    """A class, and the distribution that it came from."""

    declared: type
    distribution: str
    version: str

    @property
    def kind(self) -> str:
        """The kind of operator that the class is; empty for a source or sink."""
        return str(getattr(self.declared, "kind", ""))


def operator(op: str, *, kind: str | None, base_dir: Path) -> Found:
    """Return the operator class that `op` names; a plain function becomes an operator of this `kind`.

    Raises RecipeError or MissingDependency, without a place.
    """
    left, colon, name = op.rpartition(":")
    if colon and left.endswith(".py"):
        return _from_file(base_dir / left, name, kind, shown=left)
    if colon and not registry.is_distribution(left) and registry.known_package(name) != left:
        return _from_module(left, name, kind)
    entry = registry.find("fdf.operators", op)
    return Found(
        declared=_operator_class(registry.load_entry(entry), op),
        distribution=entry.distribution,
        version=entry.version,
    )


def source(kind: str) -> Found:
    """Return the source class of this type."""
    entry = registry.find("fdf.sources", kind)
    return Found(declared=registry.load_entry(entry), distribution=entry.distribution, version=entry.version)


def sink(kind: str) -> Found:
    """Return the sink class of this type."""
    entry = registry.find("fdf.sinks", kind)
    return Found(declared=registry.load_entry(entry), distribution=entry.distribution, version=entry.version)


def name_of(declared: type[Operator]) -> str:
    """Return what a recipe writes after `op:` for a class: its registered name, else `module:Name`."""
    home = f"{declared.__module__}:{declared.__qualname__}"
    for listed in registry.operators():
        if listed.name == declared.__name__ and registry.find("fdf.operators", listed.op).value == home:
            return listed.op
    return home


def distribution_of(module: str) -> tuple[str, str]:
    """Return the distribution that a module was installed by, and its version; the module itself where none was."""
    top = module.partition(".")[0]
    for group in registry.GROUPS:
        for entry in registry.entries(group):
            if entry.package == top:
                return entry.distribution, entry.version
    for owner in metadata.packages_distributions().get(top, []):
        return owner, metadata.version(owner)
    return top, ""


def _from_file(path: Path, name: str, kind: str | None, *, shown: str) -> Found:
    declared = _operator_class(load_operator(path, name, kind=kind), f"{shown}:{name}")
    return Found(declared=declared, distribution=shown, version=declared.version)


def _from_module(left: str, name: str, kind: str | None) -> Found:
    try:
        module = import_module(left)
    except ImportError as error:
        raise RecipeError(
            Problem(
                code="FDF201",
                message=f"`{left}` in `{left}:{name}` is neither an installed distribution nor a module: {error}",
                help="fdf ops list",
            )
        ) from error
    except Exception as error:  # the module is the user's own, and may fail in any way
        problem = Problem(code="FDF506", message=f"importing `{left}` failed: {type(error).__name__}: {error}")
        raise RecipeError(problem) from error
    found: Any = getattr(module, name, None)
    if found is None:
        there = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Operator)]
        raise RecipeError(
            Problem(code="FDF201", message=f"module `{left}` has no `{name}`", hint=did_you_mean(name, there))
        )
    distribution, version = distribution_of(left)
    if callable(found) and not isinstance(found, type) and getattr(module, "__file__", None):
        return replace(_from_file(Path(str(module.__file__)), name, kind, shown=left), distribution=distribution)
    return Found(declared=_operator_class(found, f"{left}:{name}"), distribution=distribution, version=version)


def _operator_class(found: Any, op: str) -> type[Operator]:
    declared: Any = found if isinstance(found, type) else type(found)
    if not (issubclass(declared, Operator) and getattr(declared, "kind", None) in KINDS):
        where = getattr(sys.modules.get(declared.__module__), "__file__", None) or declared.__module__
        raise RecipeError(
            Problem(
                code="FDF205",
                message=f"`{op}` is no operator (it is defined in {where})",
                hint="subclass fdf.Score, fdf.Evaluator, fdf.Filter, fdf.Refiner or fdf.Generator",
            )
        )
    if not isinstance(getattr(declared, "version", None), str):
        message = f"the class of `{op}` declares no version, so that nobody could tell when it changes"
        raise RecipeError(Problem(code="FDF214", message=message, hint='add `version = "1.0.0"` to the class'))
    checked: type[Operator] = declared
    return checked
