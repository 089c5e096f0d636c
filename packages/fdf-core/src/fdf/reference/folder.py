"""A folder of pages: what it must hold for some distributions, how it differs from that, and writing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fdf.errors import MissingDependency, PlanError, Problem
from fdf.operator import KINDS, Operator
from fdf.recipe import operator_schema
from fdf.reference.page import MARK, Page
from fdf.reference.wording import cell
from fdf.registry import Entry, announced_by, entries, load_entry

INDEX = "index.md"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One page that is not as its operator has it: missing, stale, or left over from an operator that is gone."""

    path: Path
    state: Literal["missing", "stale", "left over"]


def pages(distributions: Sequence[str] = ()) -> dict[str, str]:
    """Return the text of each page, and of the index, by file name; of all that is installed where none is named.

    Raises MissingDependency for a distribution that announces no operators, or an operator that cannot be imported.
    """
    found: list[Entry] = []
    for distribution in distributions:
        found += announced_by(distribution)
    if not distributions:
        found += entries("fdf.operators")
    claims = Counter(entry.name for entry in set(found))
    made = [
        Page(
            entry=entry,
            declared=_operator(entry),
            name=entry.name if claims[entry.name] == 1 else f"{entry.distribution}-{entry.name}",
        )
        for entry in sorted(set(found), key=lambda e: (e.name, e.distribution))
    ]
    names = [page.name for page in made]
    return {INDEX: _index(made)} | {page.file: page.text(pages=names) for page in made}


def _operator(entry: Entry) -> type[Operator]:
    declared = load_entry(entry)
    if not (isinstance(declared, type) and issubclass(declared, Operator)):
        raise MissingDependency(
            Problem(
                code="FDF506",
                message=f"`{entry.value}`, which `{entry.distribution}` announces as {entry.noun}, is none",
                help="announce a subclass of a kind, such as fdf.Filter, or a function decorated with fdf.filter",
            )
        )
    try:
        operator_schema(declared)
    except TypeError as error:
        told = f"{entry.noun} `{entry.name}` of `{entry.distribution}` has no parameters that can be told: {error}"
        raise MissingDependency(Problem(code="FDF506", message=told)) from error
    return declared


def compare(folder: Path, wanted: dict[str, str]) -> list[Difference]:
    """Return how a folder differs from the pages that it is to hold, by path.

    A page that was not written by `write` is nobody's left-over. Raises PlanError where one stands in the way.
    """
    found = []
    for name, text in wanted.items():
        path = folder / name
        if not path.exists():
            found.append(Difference(path=path, state="missing"))
        elif not _is_ours(path):
            raise PlanError(
                Problem(
                    code="FDF002",
                    message=f"{path} was not written by `fdf ops pages`, and is in the way of a page of this name",
                    help="name another folder with --out, or move the file",
                )
            )
        elif path.read_text("utf-8") != text:
            found.append(Difference(path=path, state="stale"))
    gone = (path for path in folder.glob("*.md") if path.name not in wanted and _is_ours(path))
    found += [Difference(path=path, state="left over") for path in gone]
    return sorted(found, key=lambda difference: difference.path)


def write(folder: Path, wanted: dict[str, str]) -> list[Difference]:
    """Make a folder hold these pages, and return what was changed: left-over pages are removed, other files stay."""
    differences = compare(folder, wanted)
    folder.mkdir(parents=True, exist_ok=True)
    for difference in differences:
        if difference.state == "left over":
            difference.path.unlink()
        else:
            difference.path.write_text(wanted[difference.path.name], "utf-8", newline="\n")
    return differences


def _is_ours(path: Path) -> bool:
    with path.open("rb") as page:
        return page.read(len(MARK)) == MARK.encode()


def _index(made: list[Page]) -> str:
    parts = [MARK, "# Operators by modality and kind"]
    # What works on any data comes first.
    for modality in sorted({page.declared.modality for page in made}, key=lambda m: (m != "any", m)):
        parts.append(f"## {modality.capitalize()}" + (" data" if modality == "any" else ""))
        lines = ["| operator | kind | package | what it does |", "|---|---|---|---|"]
        for kind in KINDS:
            for page in made:
                if (page.declared.modality, page.declared.kind) == (modality, kind):
                    package = page.entry.distribution + (f"[{','.join(page.extras)}]" if page.extras else "")
                    link = f"[`{page.entry.name}`]({page.file})"
                    lines.append(f"| {link} | {kind} | {package} | {cell(page.summary)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
