"""Every operator, runner, source, sink and store of this repository is held to its conformance suite."""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import pytest

import fdf.storage
from fdf import registry
from fdf.storage import open_store
from fdf.testing.models import ModelConformance
from fdf.testing.operators import OperatorConformance
from fdf.testing.runners import RunnerConformance
from fdf.testing.sinks import SinkConformance
from fdf.testing.sources import SourceConformance
from fdf.testing.stores import StoreConformance
from fdf.testing.streams import StreamConformance

PACKAGES = Path(__file__).parents[1] / "packages"
SUITES = (
    ModelConformance,
    OperatorConformance,
    RunnerConformance,
    SinkConformance,
    SourceConformance,
    StoreConformance,
    StreamConformance,
)


@pytest.fixture(scope="module")
def suites() -> Iterator[dict[type, list[type]]]:
    """The classes that pytest collects and runs everywhere, by the suite that they subclass."""
    found: dict[type, list[type]] = {suite: [] for suite in SUITES}
    before = set(sys.modules)
    for path in sorted(PACKAGES.glob("*/tests/test_*.py")):
        if "Conformance" not in path.read_text():
            continue
        for value in list(vars(imported(path)).values()):
            if not isinstance(value, type) or not value.__name__.startswith("Test") or is_conditional(value):
                continue
            for suite in SUITES:
                if issubclass(value, suite):
                    found[suite].append(value)
    yield found
    for name in set(sys.modules) - before:
        if name.startswith("under_a_suite_"):
            del sys.modules[name]


def imported(path: Path) -> ModuleType:
    name = f"under_a_suite_{path.parents[1].name}_{path.stem}".replace("-", "_")
    spec = spec_from_file_location(name, path)
    module = module_from_spec(spec)
    sys.modules[name] = module  # `inspect` looks a class's file up there
    spec.loader.exec_module(module)
    return module


def is_conditional(case: type) -> bool:
    return any(mark.name in ("skip", "skipif") for mark in getattr(case, "pytestmark", []))


def registered(group: str) -> dict[str, Any]:
    """Return what this repository's packages announce, by `distribution:name`."""
    own = {tomllib.loads(p.read_text())["project"]["name"] for p in PACKAGES.glob("*/pyproject.toml")}
    entries = [e for e in registry.entries(group) if e.distribution in own]
    return {e.qualified: registry.load(group, e.qualified) for e in entries}


def missing(announced: dict[str, Any], tested: set[Any]) -> list[str]:
    assert announced, "nothing is announced: are the packages installed?"
    return sorted(name for name, found in announced.items() if found not in tested)


def test_every_operator(suites):
    tested = {type(case.operator) for case in suites[OperatorConformance]}
    assert missing(registered("fdf.operators"), tested) == []


@pytest.mark.parametrize("suite", [RunnerConformance, ModelConformance])
def test_every_runner(suites, suite):
    places = [case.runner.partition(":") for case in suites[suite]]
    tested = {getattr(import_module(module), name) for module, _, name in places}
    assert missing(registered("fdf.runners"), tested) == []


def test_every_sink(suites):
    tested = {type(case.sink) for case in suites[SinkConformance]}
    assert missing(registered("fdf.sinks"), tested) == []


def test_every_source(suites):
    # A source is made by a fixture, which needs files: its code is looked at for the class that it returns.
    tested = {
        getattr(sys.modules[case.__module__], name)
        for case in (*suites[SourceConformance], *suites[StreamConformance])
        for name in re.findall(r"return (\w+)[.(]", inspect.getsource(case.source))
    }
    assert missing(registered("fdf.sources"), tested) == []


def test_every_store(suites):
    modules = [import_module(f"fdf.storage.{m.name}") for m in iter_modules(fdf.storage.__path__)]
    classes = {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "put_if_absent")
    }
    del classes["fdf.storage.base.Store"]  # the contract
    assert len(classes) >= 3
    bodies = [inspect.getsource(case.store) for case in suites[StoreConformance]]
    asked = [re.search(r'open_store\(f?"?([a-z0-9]+://)?', body) for body in bodies]
    tested = {type(open_store(f"{found.group(1) or ''}/bucket/stage")) for found in asked if found}
    assert missing(classes, tested) == []
