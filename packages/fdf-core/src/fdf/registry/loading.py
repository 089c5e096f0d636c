"""Importing what an entry names, and saying what to install where that fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from fdf.errors import MissingDependency, Problem
from fdf.registry.entries import GROUPS, Entry, canonical, entries, find

# Where the name that is imported differs from the name that is installed.
_MODULE_TO_DISTRIBUTION = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "open_clip": "open-clip-torch",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An announced name that cannot be imported: why, and the command that mends it."""

    entry: Entry
    problem: Problem


def load(group: str, name: str) -> Any:
    """Import and return what a name stands for, plain or `distribution:Name`.

    Raises RecipeError for a name that is unknown or claimed twice, MissingDependency where the import fails.
    """
    return load_entry(find(group, name))


def load_entry(entry: Entry) -> Any:
    """Import one entry. Raises MissingDependency that names it, what is missing and what to install."""
    module, _, attributes = entry.value.partition(":")
    try:
        loaded: Any = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            loaded = getattr(loaded, attribute)
    except ImportError as error:
        raise MissingDependency(_missing(entry, error)) from error
    except Exception as error:  # whatever a stranger's module raises on import is that package's, not ours
        raise MissingDependency(_damaged(entry, f"{type(error).__name__}: {error}")) from error
    return loaded


def broken() -> list[Broken]:
    """Try to import everything that is announced and return what fails. Imports every plugin: slow by nature."""
    found: list[Broken] = []
    for group in GROUPS:
        if group == "fdf.pipelines":  # files, not modules
            continue
        for entry in entries(group):
            try:
                load_entry(entry)
            except MissingDependency as error:
                found.append(Broken(entry=entry, problem=error.problems[0]))
    return found


def missing_module(entry: Entry, module: str) -> Problem:
    """Say that an entry's optional dependency is not installed, and the exact command that installs it."""
    top = module.partition(".")[0]
    return Problem(
        code="FDF505",
        message=f"{entry.noun} `{entry.name}` of `{entry.distribution}` needs the missing module `{top}`",
        help=f"pip install {_what_to_install(entry, top)}",
    )


def _missing(entry: Entry, error: ImportError) -> Problem:
    own = error.name is None or error.name.partition(".")[0] == entry.package
    if own or not isinstance(error, ModuleNotFoundError):
        return _damaged(entry, f"{type(error).__name__}: {error}")
    assert error.name is not None
    return missing_module(entry, error.name)


def _damaged(entry: Entry, why: str) -> Problem:
    return Problem(
        code="FDF506",
        message=f"{entry.noun} `{entry.name}` of `{entry.distribution}` {entry.version} cannot be imported: {why}",
        help=f"pip install --upgrade --force-reinstall {entry.distribution}",
    )


def _what_to_install(entry: Entry, module: str) -> str:
    wanted = {canonical(_MODULE_TO_DISTRIBUTION.get(module, module)), canonical(module)}
    try:
        requirements = metadata.requires(entry.distribution) or []
    except metadata.PackageNotFoundError:
        requirements = []
    for requirement in requirements:
        text, _, marker = requirement.partition(";")
        name = re.match(r"[\w.-]+", text.strip())
        if name is None or canonical(name[0]) not in wanted:
            continue
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", marker)
        return f'"{entry.distribution}[{extra[1]}]"' if extra else f'"{text.strip()}"'
    return _MODULE_TO_DISTRIBUTION.get(module, module)
