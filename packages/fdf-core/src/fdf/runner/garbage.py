"""What the records of runs say about garbage: where runs wrote, which receipts an unfinished one resumes from, and
what in `$FDF_HOME` itself no run needs any more."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fdf.runner.record import RunRecord, list_records, load_record
from fdf.stage.garbage import Claims
from fdf.storage.uri import local_path

_TABLE = re.compile(r"([0-9a-f]{64})\.arrow")
_ASIDE = re.compile(r"\.[0-9a-f]{16}")
_CRASH = re.compile(r"crash-\d{8}-\d{6}-\d+\.txt")


@dataclass(frozen=True, kw_only=True)
class HomeLeftover:
    """One file of `$FDF_HOME` that nothing references."""

    path: Path
    what: Literal["memory", "crashes"]
    bytes: int


def claims_of_runs(home: Path) -> Claims:
    """Return what the records below a home claim. A run is unfinished until its record says `finished`.

    Generations are told whatever the path: a run may have been recorded under a relative one.
    """
    run_ids: set[str] = set()
    generations: set[str] = set()
    complete = True
    for folder in sorted((home / "runs").glob("*")):
        record = load_record(folder)
        if record is None:
            complete = complete and not (folder / "run.json").exists()
            continue
        run_ids.add(record.run_id)
        if record.status == "finished":
            continue
        complete = complete and set(record.stages) <= set(record.fingerprints)
        for fingerprint in record.fingerprints.values():
            generations |= {f"{fingerprint[:32]}-{g}" for g in ("0", f"{record.run_id}.{record.generation}")}
    return Claims(run_ids=frozenset(run_ids), generations=frozenset(generations), complete=complete)


def roots_of_runs(home: Path) -> list[str]:
    """Return the stage and output directories of all recorded runs, each once; local ones that are gone left out."""
    return unique_roots(root for record in list_records(home) for root in roots_of(record))


def roots_of(record: RunRecord) -> Iterator[str]:
    """Yield the directories of one run that are still there, as far as that is known without asking a store."""
    for root in record.stages.values():
        local = local_path(root)
        if local is None or Path(local).is_dir():
            yield root


def unique_roots(roots: Iterator[str]) -> list[str]:
    """Return roots in their order, each directory once however it is written."""
    found: dict[str, str] = {}
    for root in roots:
        local = local_path(root)
        found.setdefault(str(Path(local).resolve()) if local else root.rstrip("/"), root)
    return list(found.values())


def find_home_garbage(home: Path, *, grace: float, now: float | None = None) -> list[HomeLeftover]:
    """Return spooled tables that no recorded recipe reads, and tracebacks of crashes, where older than the grace."""
    before = (time.time() if now is None else now) - grace
    crashes = [p for p in _files(home / "crashes", before=before) if _CRASH.fullmatch(p.name)]
    tables = [p for p in _files(home / "memory", before=before) if _TABLE.fullmatch(p.name) or _ASIDE.fullmatch(p.name)]
    read = _recipes(home) if tables else ""
    unread = [] if read is None else [p for p in tables if p.stem not in read]
    found = [HomeLeftover(path=p, what="memory", bytes=p.stat().st_size) for p in unread]
    return found + [HomeLeftover(path=p, what="crashes", bytes=p.stat().st_size) for p in crashes]


def _files(folder: Path, *, before: float) -> Iterator[Path]:
    for path in sorted(folder.glob("*")):
        if path.is_file() and path.stat().st_mtime < before:
            yield path


def _recipes(home: Path) -> str | None:
    """Return the text of all recorded recipes, in which a table stands by its name; None where one cannot be read."""
    texts = []
    for folder in (home / "runs").glob("*"):
        try:
            texts.append((folder / "recipe.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):
            return None
    return "\n".join(texts)
