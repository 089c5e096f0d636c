"""Recomputes what a manifest claims of its files: sizes, checksums, row counts, its own id, and that nothing else is
there for a reader to pick up."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fdf.report.committed import CommittedStage
from fdf.stage.manifest import identity
from fdf.stage.receipt_folder import INDEX, ReceiptFolder
from fdf.storage.base import Store

BLOCK = 4 << 20
AT_ONCE = 4
PARTS = ("outputs", "dropped", "quarantine")


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One thing that is not as the manifest says."""

    file: str
    problem: str


@dataclass(kw_only=True)
class Verification:
    """What was looked at in one stage directory, and what was found."""

    root: str
    stage: str
    id: str
    files: int = 0
    bytes: int = 0
    rows: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    uncommitted: list[str] = field(default_factory=list)
    """Files of an unfinished or superseded run: known to its receipts, in no manifest."""

    @property
    def ok(self) -> bool:
        """Say whether everything is as the manifest says."""
        return not self.mismatches

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain JSON values."""
        return {**asdict(self), "ok": self.ok}


def verify(stage: CommittedStage) -> Verification:
    """Read every file of a committed stage and compare it with the manifest."""
    manifest = stage.manifest
    found = Verification(root=stage.root, stage=stage.name, id=manifest["id"])
    store = stage.store()
    entries = [entry for part in PARTS for entry in manifest[part]]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for entry, problems in zip(entries, pool.map(lambda e: _check_file(store, e), entries), strict=True):
            found.files += 1
            found.bytes += entry["bytes"]
            found.mismatches += [Mismatch(file=entry["path"], problem=p) for p in problems]
    found.rows = sum(entry["rows"] for entry in manifest["outputs"])
    found.mismatches += [Mismatch(file=stage.layout.manifest, problem=p) for p in _check_manifest(manifest)]
    named = {entry["path"] for entry in entries}
    extra = [path for path in _present(stage, store) if path not in named]
    known = _named_by_receipts(stage, store) if extra else set()
    found.uncommitted = [path for path in extra if path in known]
    found.mismatches += [
        Mismatch(file=p, problem="is there, but no manifest names it") for p in extra if p not in known
    ]
    return found


def _check_file(store: Store, entry: dict[str, Any]) -> list[str]:
    digest, size = hashlib.sha256(), 0
    try:
        with store.open(entry["path"]) as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
                size += len(block)
    except FileNotFoundError:
        return ["is missing"]
    problems = []
    if size != entry["bytes"]:
        problems.append(f"has {size:,} bytes, not {entry['bytes']:,}")
    if digest.hexdigest() != entry["sha256"]:
        problems.append(f"has sha256 {digest.hexdigest()[:12]}…, not {entry['sha256'][:12]}…")
    if problems:
        return problems
    rows = _rows(store, entry["path"])
    return [] if rows == entry["rows"] else [f"has {rows:,} rows, not {entry['rows']:,}"]


def _rows(store: Store, path: str) -> int:
    with store.open(path) as stream:
        if path.endswith(".parquet"):
            return int(pq.ParquetFile(stream).metadata.num_rows)
        if path.endswith(".jsonl.zst"):
            with pa.CompressedInputStream(stream, "zstd") as text:
                return sum(block.count(b"\n") for block in iter(lambda: text.read(BLOCK), b""))
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            # A sample is a run of members with the same name up to the first dot.
            return len({member.name.partition(".")[0] for member in tar})


def _check_manifest(manifest: dict[str, Any]) -> Iterator[str]:
    if identity(manifest) != manifest["id"]:
        yield f"has id {manifest['id'][:12]}…, but its content gives {identity(manifest)[:12]}…"
    counts = manifest["counts"]
    gone = sum(counts[k] for k in ("rows_out", "rows_dropped", "rows_expanded", "rows_quarantined"))
    if counts["rows_in"] + counts["rows_generated"] != gone:
        yield f"does not account for every row: {counts}"
    for part, count in (("outputs", "rows_out"), ("quarantine", "rows_quarantined")):
        rows = sum(entry["rows"] for entry in manifest[part])
        if rows != counts[count]:
            yield f"lists {rows:,} rows in `{part}`, but counts {counts[count]:,} as `{count}`"
    rows = sum(entry["rows"] for entry in manifest["dropped"])
    if rows not in (0, counts["rows_dropped"]):  # 0: the stage keeps no dropped rows
        yield f"lists {rows:,} dropped rows, but counts {counts['rows_dropped']:,}"


def _present(stage: CommittedStage, store: Store) -> Iterator[str]:
    """Yield the files that a reader of the data, dropped or quarantine folder would find."""
    layout = stage.layout
    for folder in (layout.data, layout.dropped, layout.quarantine):
        for file in store.list(folder):
            # Readers pass hidden names by, such as those of a driver that was killed while it tried the store.
            if not any(part.startswith((".", "_")) for part in file.path.removeprefix(folder).split("/")):
                yield file.path


def _named_by_receipts(stage: CommittedStage, store: Store) -> set[str]:
    top = stage.layout.receipts
    folders: dict[str, list[str]] = {}
    for file in store.list(top):
        folder, _, name = file.path.rpartition("/")
        if not name.startswith(INDEX):
            folders.setdefault(f"{folder}/", []).append(file.path)
    named: set[str] = set()
    for folder, paths in folders.items():
        for _, receipt in ReceiptFolder(store, folder).read(paths):
            named |= {f.path for f in receipt.files} if receipt is not None else set()
    return named
