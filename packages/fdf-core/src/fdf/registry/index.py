"""`fdf-operators.json`: what a listing shows of a package's operators, kept beside its `__init__` so that it can be
read without importing the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fdf.errors import MissingDependency, Problem
from fdf.registry.entries import Entry, canonical, entries
from fdf.registry.loading import load_entry

INDEX_NAME = "fdf-operators.json"


@dataclass(frozen=True, kw_only=True)
class OperatorSummary:
    """What a listing shows of one operator. `extras` are the extras of its package that it needs."""

    kind: str = ""
    modality: str = ""
    summary: str = ""
    version: str = ""
    extras: tuple[str, ...] = ()


def read_index(entry: Entry) -> OperatorSummary:
    """Return what the package's index says of one operator; an empty summary where there is no readable index."""
    folder = entry.folder()
    found = _read(folder / INDEX_NAME) if folder is not None else {}
    said = found.get(entry.name)
    if not isinstance(said, dict):
        return OperatorSummary()
    extras = said.get("extras")
    return OperatorSummary(
        kind=str(said.get("kind", "")),
        modality=str(said.get("modality", "")),
        summary=str(said.get("summary", "")),
        version=str(said.get("version", "")),
        extras=tuple(map(str, extras)) if isinstance(extras, list) else (),
    )


@lru_cache(maxsize=256)
def _read(path: Path) -> Mapping[str, Any]:
    # A damaged index is a package's own fault and costs its summaries, not the listing.
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    listed = loaded.get("operators") if isinstance(loaded, dict) else None
    return listed if isinstance(listed, dict) else {}


def announced_by(distribution: str) -> list[Entry]:
    """Return the operators that a distribution announces. Raises MissingDependency where there is none."""
    wanted = canonical(distribution)
    announced = [e for e in entries("fdf.operators") if e.distribution == wanted]
    if not announced:
        raise MissingDependency(
            Problem(
                code="FDF504",
                message=f"no installed distribution `{distribution}` announces operators",
                hint='operators are announced under [project.entry-points."fdf.operators"] in pyproject.toml',
                help=f"pip install --no-deps -e PATH_OF_{wanted.replace('-', '_').upper()}",
            )
        )
    return announced


def build_index(distribution: str) -> dict[Path, str]:
    """Import every operator of a distribution and return the text of its index by path: one per top-level package.

    Raises MissingDependency where the distribution announces no operator or one of them cannot be imported.
    """
    by_file: dict[Path, dict[str, Any]] = {}
    for entry in announced_by(distribution):
        described = asdict(_describe(load_entry(entry)))
        folder = entry.folder()
        if folder is None:
            raise MissingDependency(
                f"`{entry.value}` is not inside a package, so there is no folder to keep {INDEX_NAME} in",
                help=f"make `{entry.package}` a package: a folder with an __init__.py",
            )
        by_file.setdefault(folder / INDEX_NAME, {})[entry.name] = described
    return {
        path: json.dumps({"format": 1, "operators": listed}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for path, listed in by_file.items()
    }


def write_index(distribution: str) -> list[Path]:
    """Write `fdf-operators.json` beside the package's `__init__` and return where: what `fdf ops index` does."""
    texts = build_index(distribution)
    for path, text in texts.items():
        path.write_text(text, "utf-8")
    _read.cache_clear()
    return sorted(texts)


def _describe(operator: Any) -> OperatorSummary:
    doc = (operator.__doc__ or "").strip()
    return OperatorSummary(
        kind=operator.kind,
        modality=operator.modality,
        summary=" ".join(doc.partition("\n\n")[0].split()),
        version=operator.version,
        extras=tuple(operator.extras),
    )
