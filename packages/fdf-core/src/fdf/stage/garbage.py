"""Finds and removes what nothing references below one stage's directory: leftovers of runs that were killed,
superseded or given up.

It is for `fdf gc`. A commit cleans up after itself; this is for what no later commit came to clean. Whatever is in
doubt stays: a file goes only if it has FDF's own name, is older than the grace, and neither the manifest nor a receipt
that a run may still use names it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fdf.errors import StageFailed
from fdf.plan.compile import FORMAT
from fdf.plan.job import OUTPUT_LAYOUT, STAGE_LAYOUT, Layout
from fdf.stage.directory import SHARD_NAME
from fdf.stage.manifest import manifest_files
from fdf.stage.manifest_file import read_manifest
from fdf.stage.receipt_folder import INDEX, ReceiptFolder
from fdf.storage import open_store
from fdf.storage.base import Entry, Store
from fdf.storage.local import LocalStore, abandoned_scratch, others_at_work, remove_scratch

DAY = 24 * 3600.0

What = Literal["receipts", "lists", "data", "dropped", "quarantine", "spool", "probes", "scratch"]

_NEEDED = ("stage", "generation", "run_id", "outputs", "dropped", "quarantine")
_GENERATION = re.compile(r"[0-9a-f]{32}-.+")
_RECEIPT = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}\.json|" + INDEX + r"[0-9a-f]{12}\.jsonl\.zst")
_LIST = re.compile(r"manifest\.outputs-[0-9a-f]{12}\.parquet")
_SPOOLED = re.compile(r"/\d+-\d{12}(\.journal|-[0-9a-f]{12}\.arrow)$")
_PROBE = re.compile(r"\.fdf-probe-[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What the records of runs say about receipts."""

    run_ids: Collection[str]
    """The runs that are recorded."""
    generations: Collection[str]
    """The names of the receipt folders from which an unfinished run resumes."""
    complete: bool = True
    """False where a record cannot be read: any receipt may then be an unfinished run's."""


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """One file (of `scratch`: a folder) that nothing references: its path below the root, what it is, its bytes."""

    path: str
    what: What
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StageGarbage:
    """What was found below one root."""

    root: str
    stage: str | None
    """None where nothing is committed."""
    leftovers: tuple[Leftover, ...]
    notes: tuple[str, ...]
    """Why something was left alone that may look like garbage."""
    seen: tuple[str, frozenset[str]] = field(default=("", frozenset()), repr=False)
    """The manifest's tag and the receipts that the finding rests on."""
    layout: Layout = STAGE_LAYOUT


def find_garbage(root: str, *, claims: Claims, grace: float, now: float | None = None) -> StageGarbage:
    """Return what nothing references below a root, and remove nothing. `grace` is in seconds.

    Raises StageFailed where the manifest cannot be read or judged.
    """
    store = open_store(root)
    now = time.time() if now is None else now
    notes: list[str] = []
    if isinstance(store, LocalStore) and grace < DAY and others_at_work(store.root):
        grace = DAY
        notes.append("another process is at work there: what is younger than 24 hours stays")
    leftovers = [*_scratch(store, before=now - grace)]
    found = _committed(store)
    if found is None:
        notes.append("nothing is committed there yet: receipts and files stay, to be resumed from")
        return StageGarbage(root=root, stage=None, leftovers=tuple(leftovers), notes=tuple(notes))
    layout, manifest, tag = found
    directory = _Directory(store, layout, manifest, claims=claims, before=now - grace)
    leftovers += directory.leftovers(notes)
    return StageGarbage(
        root=root,
        stage=str(manifest["stage"]),
        leftovers=tuple(leftovers),
        notes=tuple(notes),
        seen=(tag, frozenset(directory.receipts)),
        layout=layout,
    )


def remove_garbage(garbage: StageGarbage) -> bool:
    """Remove what was found, receipts before their files; False, and nothing is removed, where a run has committed a
    split or the stage since."""
    store = open_store(garbage.root)
    chosen = [leftover for leftover in garbage.leftovers if leftover.what != "scratch"]
    if chosen:
        tag, receipts = garbage.seen
        current = store.read_tagged(garbage.layout.manifest)
        if current is None or current[1] != tag:
            return False
        if {e.path for e in store.list(garbage.layout.receipts)} != receipts:
            return False
        store.delete([leftover.path for leftover in chosen if leftover.what == "receipts"])
        store.delete([leftover.path for leftover in chosen if leftover.what != "receipts"])
    if isinstance(store, LocalStore):
        remove_scratch(Path(store.root, leftover.path) for leftover in garbage.leftovers if leftover.what == "scratch")
    return True


def _committed(store: Store) -> tuple[Layout, dict[str, Any], str] | None:
    for layout in (STAGE_LAYOUT, OUTPUT_LAYOUT):
        found = read_manifest(store, layout.manifest)
        if found is None or not str(found[0].get("format", "")).startswith("fdf/"):
            continue
        manifest, tag = found
        if manifest["format"] != FORMAT:
            raise StageFailed(
                f"{store.root}/{layout.manifest} has the format {manifest['format']}, and this FDF knows {FORMAT}",
                help="use the FDF that wrote it: nothing was removed there",
            )
        missing = [key for key in _NEEDED if key not in manifest]
        if missing:
            raise StageFailed(
                f"{store.root}/{layout.manifest} is not a whole manifest: it lacks `{missing[0]}`",
                help="restore it, or move the folder away and run again: nothing was removed there",
            )
        return layout, manifest, tag
    return None


class _Directory:
    """One committed directory as it was listed."""

    def __init__(
        self, store: Store, layout: Layout, manifest: dict[str, Any], *, claims: Claims, before: float
    ) -> None:
        self._store = store
        self._layout = layout
        self._manifest = manifest
        self._claims = claims
        self._before = before
        self._entries = list(store.list())
        self.receipts = [e.path for e in self._entries if e.path.startswith(layout.receipts)]

    def leftovers(self, notes: list[str]) -> list[Leftover]:
        """Return what nothing references, and note what is spared."""
        found = list(self._unreferenced(notes))
        own = next((e for e in self._entries if e.path == self._layout.manifest), None)
        if found and (own is None or not self._old(own)):
            # Readers of the manifest before this one (`keep: 1`) still have their time.
            notes.append(f"{len(found)} files stay for now: what replaced them was committed within the grace")
            return []
        return found

    def _unreferenced(self, notes: list[str]) -> Iterator[Leftover]:
        spared: list[str] = []
        for folder, entries in self._generations().items():
            if self._superseded(folder, entries, notes):
                yield from (Leftover(path=e.path, what="receipts", bytes=e.size) for e in entries)
            else:
                spared += [e.path for e in entries]
        yield from self._files(spared, notes)
        yield from self._spools(notes)
        lists = (self._manifest.get("lists") or {}).get("file")
        for entry in self._entries:
            name = entry.path.removeprefix(self._layout.meta)
            if _LIST.fullmatch(name) and name != lists and self._old(entry):
                yield Leftover(path=entry.path, what="lists", bytes=entry.size)
            elif _PROBE.fullmatch(entry.path) and self._old(entry):
                yield Leftover(path=entry.path, what="probes", bytes=entry.size)

    def _old(self, entry: Entry) -> bool:
        # Some remote file systems tell no time; then nobody knows the age.
        return 0 < entry.mtime < self._before

    def _generations(self) -> dict[str, list[Entry]]:
        """Return the receipts by the name of their folder; files of other names are not FDF's."""
        found: dict[str, list[Entry]] = {}
        for entry in self._entries:
            folder, _, name = entry.path.removeprefix(self._layout.receipts).partition("/")
            if (
                entry.path.startswith(self._layout.receipts)
                and _GENERATION.fullmatch(folder)
                and _RECEIPT.fullmatch(name)
            ):
                found.setdefault(folder, []).append(entry)
        return found

    def _superseded(self, folder: str, entries: list[Entry], notes: list[str]) -> bool:
        """Say whether no run will look at a folder of receipts any more."""
        if folder == self._manifest["generation"]:
            return False
        why = self._needed_by(folder, entries)
        if why is not None:
            notes.append(f"{len(entries)} receipts of {folder[:12]}… and their files stay: {why}")
        return why is None

    def _spools(self, notes: list[str]) -> Iterator[Leftover]:
        """Yield what streams were spooled for and no unfinished run takes up again; a commit removes its own."""
        spool = self._layout.spool
        found: dict[str, list[Entry]] = {}
        for entry in self._entries:
            folder = entry.path.removeprefix(spool).partition("/")[0]
            if entry.path.startswith(spool) and _GENERATION.fullmatch(folder) and _SPOOLED.search(entry.path):
                found.setdefault(folder, []).append(entry)
        for folder, entries in found.items():
            why = self._needed_by(folder, entries)
            if why is not None:
                notes.append(f"{len(entries)} files of the spool {folder[:12]}… stay: {why}")
                continue
            yield from (Leftover(path=e.path, what="spool", bytes=e.size) for e in entries)

    def _needed_by(self, folder: str, entries: list[Entry]) -> str | None:
        """Say why a generation may still be needed by a run; None where it is not."""
        why = None
        if folder in self._claims.generations:
            why = "an unfinished run resumes from them (fdf runs list)"
        elif not self._claims.complete:
            why = "a run's record cannot be read, so they may be an unfinished run's"
        elif self._manifest["run_id"] not in self._claims.run_ids:
            why = f"run {self._manifest['run_id']} is not recorded here: use the FDF_HOME of the runs that write there"
        elif not all(self._old(entry) for entry in entries):
            why = "a run has added to them within the grace"
        return why

    def _files(self, spared: list[str], notes: list[str]) -> Iterator[Leftover]:
        """Yield the shards, dropped and quarantined rows that neither the manifest nor a spared receipt names."""
        named = manifest_files(self._manifest)
        found: dict[str, tuple[Leftover, str]] = {}
        layout = self._layout
        folders: tuple[tuple[str, What], ...] = (
            (layout.data, "data"),
            (layout.dropped, "dropped"),
            (layout.quarantine, "quarantine"),
        )
        for entry in self._entries:
            for folder, what in folders:
                shard = SHARD_NAME.fullmatch(entry.path[len(folder) :]) if entry.path.startswith(folder) else None
                if shard is not None and entry.path not in named and self._old(entry):
                    leftover = Leftover(path=entry.path, what=what, bytes=entry.size)
                    found[entry.path] = leftover, shard.group(1)
        if not found:
            return
        promised = self._promised(spared, locations={location for _, location in found.values()})
        if promised is None:
            notes.append(f"{len(found)} files stay: a receipt cannot be read that may name them; run the stage again")
            return
        yield from (leftover for path, (leftover, _) in found.items() if path not in promised)

    def _promised(self, paths: Iterable[str], *, locations: set[str]) -> set[str] | None:
        """Return the files that receipts of these locations name; None where a receipt cannot be read."""
        reader = ReceiptFolder(self._store, self._layout.receipts)
        named: set[str] = set()
        singles = []
        for path in paths:
            name = path.rsplit("/", 1)[1]
            if not name.startswith(INDEX):
                # A file's name begins with its split's location, and so does its receipt's.
                singles += [path] if name[:12] in locations else []
                continue
            receipts = reader.read_index(path)
            if not receipts:
                return None
            named |= {f.path for r in receipts for f in r.files}
        try:
            for _, receipt in reader.read(singles):
                if receipt is None:
                    return None
                named |= {f.path for f in receipt.files}
        except FileNotFoundError:
            return None
        return named


def _scratch(store: Store, *, before: float) -> Iterator[Leftover]:
    """Yield the scratch folders that no living process holds."""
    if not isinstance(store, LocalStore):
        return
    for folder in abandoned_scratch(store.root):
        try:
            stats = [path.stat() for path in (folder, *folder.rglob("*"))]
        except FileNotFoundError:  # another process sweeps it at this moment
            continue
        if max(s.st_mtime for s in stats) < before:
            path = folder.relative_to(store.root).as_posix()
            yield Leftover(path=path, what="scratch", bytes=sum(s.st_size for s in stats[1:]))
