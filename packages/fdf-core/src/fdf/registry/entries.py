"""The names that installed distributions announce, read from their metadata alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from fdf.errors import FdfError, Problem, RecipeError, did_you_mean

CORE = "fdf-core"
RESTRICT = "FDF_PLUGINS"
GROUPS = ("fdf.operators", "fdf.runners", "fdf.sources", "fdf.sinks", "fdf.pipelines", "fdf")
_NOUNS = {
    "fdf.operators": ("operator", "FDF201"),
    "fdf.sources": ("source type", "FDF240"),
    "fdf.sinks": ("output type", "FDF250"),
    "fdf.runners": ("runner", "FDF501"),
    "fdf.pipelines": ("pipeline", "FDF502"),
    "fdf": ("plugin", "FDF503"),
}
_LISTINGS = {
    "fdf.operators": "fdf ops list",
    "fdf.pipelines": "fdf pipelines list",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One announced name: where it would be imported from, and which distribution says so."""

    group: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def module(self) -> str:
        """The module to be imported."""
        return self.value.partition(":")[0].strip()

    @property
    def package(self) -> str:
        """The top-level package to be imported."""
        return self.module.partition(".")[0]

    @property
    def qualified(self) -> str:
        """The name as a recipe writes it where two distributions claim it: `distribution:Name`."""
        return f"{self.distribution}:{self.name}"

    @property
    def noun(self) -> str:
        """What a message calls it."""
        return _NOUNS[self.group][0]

    def folder(self) -> Path | None:
        """Return the folder of the top-level package, found without importing it; None where there is none."""
        try:
            spec = find_spec(self.package)
        except (ImportError, ValueError):
            return None
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(next(iter(spec.submodule_search_locations)))

    def resource(self) -> Path | None:
        """Return the file that a value like `package.folder:file.yaml` names, without importing the package."""
        folder = self.folder()
        if folder is None:
            return None
        module, _, name = self.value.partition(":")
        return folder.joinpath(*module.split(".")[1:], name)


def canonical(distribution: str) -> str:
    """Return a distribution's name as indexes compare it: `Fdf_Ops.Text` is `fdf-ops-text`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def entries(group: str) -> tuple[Entry, ...]:
    """List what is announced under a group, by name then distribution, as far as `FDF_PLUGINS` lets it.

    `FDF_PLUGINS` is `none`, or distribution names joined by commas; fdf-core is always there.
    """
    return _entries(group, os.environ.get(RESTRICT))


@lru_cache(maxsize=64)
def _entries(group: str, restrict: str | None) -> tuple[Entry, ...]:
    found: dict[tuple[str, str, str], Entry] = {}
    for point in metadata.entry_points(group=group):
        if point.dist is None:
            continue
        distribution = canonical(point.dist.name)
        entry = Entry(
            group=group,
            name=point.name,
            value=point.value,
            distribution=distribution,
            version=point.dist.version,
        )
        if _allowed(distribution, restrict):
            # The first on sys.path is the one that an import would find.
            found.setdefault((point.name, distribution, group), entry)
    return tuple(sorted(found.values(), key=lambda e: (e.name, e.distribution)))


def _allowed(distribution: str, restrict: str | None) -> bool:
    if not restrict or distribution == CORE:
        return True
    return distribution in {canonical(name.strip()) for name in restrict.split(",")}


def refresh() -> None:
    """Forget what was found, so that a distribution installed since then is seen."""
    _entries.cache_clear()


def is_distribution(name: str) -> bool:
    """Say whether an installed (and allowed) distribution of this name announces anything to FDF."""
    wanted = canonical(name)
    return any(entry.distribution == wanted for group in GROUPS for entry in entries(group))


def find(group: str, name: str) -> Entry:
    """Return the one entry of this name, plain or `distribution:Name`. Raises RecipeError where there is none, or
    where two distributions claim the plain name."""
    distribution, colon, bare = name.rpartition(":")
    matches = [e for e in entries(group) if e.name == bare and (not colon or e.distribution == canonical(distribution))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ambiguous(matches)
    raise unknown(group, name)


def ambiguous(matches: list[Entry]) -> FdfError:
    """Return the error for a plain name that two distributions claim."""
    first = matches[0]
    owners = " and ".join(f"`{e.distribution}`" for e in matches)
    choices = " or ".join(f"`{e.qualified}`" for e in matches)
    return RecipeError(
        Problem(
            code="FDF202",
            message=f"{first.noun} `{first.name}` is announced by {owners}",
            hint=f"write {choices}",
        )
    )


def unknown(group: str, name: str) -> FdfError:
    """Return the error for a name that nothing installed announces: what to install, or what was probably meant."""
    noun, code = _NOUNS[group]
    distribution, _, bare = name.rpartition(":")
    package = known_package(bare) if group == "fdf.operators" else None
    if package is not None and not any(e.distribution == package for e in _entries(group, None)):
        return RecipeError(
            Problem(
                code="FDF203",
                message=f"{noun} `{bare}` is in the package `{package}`, which is not installed",
                help=f"pip install {package}",
            )
        )
    hidden = sorted({e.distribution for e in _entries(group, None) if e.name == bare})
    if hidden and distribution in ("", *hidden):
        return RecipeError(
            Problem(
                code="FDF203",
                message=f"{noun} `{bare}` is in the package `{hidden[0]}`, which {RESTRICT} switches off",
                help=f"add {hidden[0]} to {RESTRICT} (now {os.environ.get(RESTRICT)!r}), or unset it",
            )
        )
    names = list(_names(group))
    there = f"there are: {', '.join(names)}" if names and group not in _LISTINGS else None
    return RecipeError(
        Problem(
            code=code,
            message=f"unknown {noun} `{name}`",
            hint=did_you_mean(name, names) or there,
            help=_LISTINGS.get(group),
        )
    )


def _names(group: str) -> Iterator[str]:
    for entry in entries(group):
        yield entry.name
        yield from (entry.qualified,) if sum(e.name == entry.name for e in entries(group)) > 1 else ()


@lru_cache(maxsize=1)
def _known() -> dict[str, str]:
    table: dict[str, list[str]] = json.loads((Path(__file__).parent / "known_operators.json").read_text("utf-8"))
    return {name: package for package, names in table.items() for name in names}


def known_package(operator: str) -> str | None:
    """Return the official package that has an operator of this name, installed or not; None for an unknown one."""
    return _known().get(operator)
