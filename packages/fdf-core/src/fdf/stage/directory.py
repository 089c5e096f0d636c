"""One stage's directory during a run: what is already done there, what must be run, and the commit of the whole.

The directory is shared: another driver may be at work in it. Nothing here relies on being alone except where the
store says that it must be.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from fdf.errors import OtherWriter, PlanError, Problem, StageFailed
from fdf.plan.job import StageJob
from fdf.plan.model import StagePlan
from fdf.plan.task import SplitKey, Task
from fdf.schema import OPERATOR_VERSIONS
from fdf.stage.crashpoints import reach
from fdf.stage.events import Emit, Event
from fdf.stage.manifest import build, manifest_files, operator_sources
from fdf.stage.manifest_file import read_manifest, swap_manifest
from fdf.stage.receipt import Receipt
from fdf.stage.receipt_folder import INDEX, ReceiptFolder
from fdf.stage.rows import kept_schema
from fdf.stage.shard_file import FileEntry, ShardFile
from fdf.storage import open_store
from fdf.storage.base import Store

SHARD_NAME = re.compile(r"part-(?:\d+-)?([0-9a-f]{12})-[0-9a-f]{12}\.[a-z0-9.]+")
NO_SPLIT = SplitKey(location="0" * 32, version="0" * 16)


class StageDirectory:
    """Opens a stage's directory for one run. Raises PlanError where the directory is not this stage's to write."""

    def __init__(self, stage: StagePlan, *, run_id: str, config_hash: str, generation: str) -> None:
        self.stage = stage
        self.run_id = run_id
        self.store = open_store(stage.root)
        self.started = time.time()
        self.layout = stage.job.layout
        self._generation = f"{stage.fingerprint[:32]}-{generation}"
        self._config_hash = config_hash
        self._order: list[SplitKey] = []
        self._listed_all = False
        self.skipped = 0
        self.job: StageJob = replace(stage.job, receipts=f"{self.layout.receipts}{self._generation}/")
        found = read_manifest(self.store, self.layout.manifest)
        self._tag = found[1] if found else None
        self.previous: dict[str, Any] | None = found[0] if found else None
        _refuse_foreign(stage, self.store, self.previous, run_id=run_id)
        self.warnings = self._warnings()
        self._folder = ReceiptFolder(self.store, self.job.receipts)
        self._done = self._folder.load(self._sizes)

    def pending(self, tasks: Iterable[Task], emit: Emit) -> Iterator[Task]:
        """Yield the tasks that have no valid receipt yet; note the order of all."""
        for task in tasks:
            self._order.append(task.key)
            if task.key in self._done:
                self.skipped += 1
                data = {"name": task.name, "rows_in": self._done[task.key].counts["rows_in"]}
                emit(Event(kind="split_skipped", stage=self.stage.name, split=task.key.location, data=data))
                continue
            yield task
        self._listed_all = True

    def commit(
        self,
        observed: dict[str, Any],
        *,
        mixture: Callable[[Sequence[Receipt]], dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Commit the manifest and remove what it supersedes; return the manifest that is in force.

        Raises StageFailed where a receipt is missing or the error budget is exceeded, OtherWriter where another driver
        committed another result.
        """
        receipts = self._receipts()
        outputs = [f for r in receipts for f in r.outputs] or [self._empty_shard()]
        manifest = build(
            self.stage,
            self.job,
            receipts,
            outputs,
            {
                "run_id": self.run_id,
                "config_hash": self._config_hash,
                "generation": self._generation,
                "limit": self.stage.limit,
                "resumed_splits": self.skipped,
                **observed,
            },
            mixture=mixture(receipts) if mixture is not None else None,
        )
        self._check_present(manifest)
        reach("manifest-ready")
        committed = self._swap(manifest)
        reach("manifest-committed")
        self._clean(committed, receipts)
        reach("files-removed")
        return committed

    def _warnings(self) -> list[str]:
        """Return what a user should know before this stage runs."""
        found = []
        if not self.store.probe():
            found.append(
                f"{self.stage.root} cannot refuse a second writer (no conditional writes): "
                "this run must be the only one that writes there"
            )
        if self.previous is not None and self.previous.get("generation") == self._generation:
            known = self.previous.get("operator_sources", {})
            for operator_id, source in operator_sources(self.stage).items():
                if known.get(operator_id) not in (None, source):
                    found.append(
                        f"the code of `{operator_id}` changed under one version: what is committed stays as it was; "
                        "raise the operator's `version` to run it again"
                    )
        return found

    def _sizes(self) -> dict[str, int]:
        folders = (self.layout.data, self.layout.dropped, self.layout.quarantine)
        return {e.path: e.size for folder in folders for e in self.store.list(folder)}

    def _receipts(self) -> list[Receipt]:
        assert self._listed_all, "commit before all tasks were drawn"
        missing = [self._folder.path(k) for k in self._order if k not in self._done]
        try:
            for path, receipt in self._folder.read(missing):
                if receipt is None:
                    raise StageFailed(f"receipt {path} of stage `{self.stage.name}` is not readable", help="run again")
                self._done[receipt.key] = receipt
        except FileNotFoundError as error:
            self.refuse_overtaken()
            raise StageFailed(
                f"stage `{self.stage.name}` lacks a receipt: {error}",
                help="another driver may have cleaned up here; run again, and only what is missing runs",
            ) from error
        return [self._done[k] for k in self._order]

    def _empty_shard(self) -> FileEntry:
        """Write the one shard of a stage that keeps no row: no rows, but the schema."""
        constants = {OPERATOR_VERSIONS: self.job.operator_versions} if self.job.provenance == "full" else None
        file = ShardFile(self.store, self.job.sink, kept_schema(self.job), constants=constants)
        try:
            file.begin()
            file.finish()
            entry = file.place(self.layout.data, NO_SPLIT)
        finally:
            file.discard()
        assert entry is not None
        return entry

    def _check_present(self, manifest: dict[str, Any]) -> None:
        sizes = self._sizes()
        files = [f for part in ("outputs", "dropped", "quarantine") for f in manifest[part]]
        lost = [f["path"] for f in files if sizes.get(f["path"]) != f["bytes"]]
        if lost:
            self.refuse_overtaken()
            raise StageFailed(
                f"{len(lost)} files of stage `{self.stage.name}` are gone, such as {lost[0]}",
                help="another driver may have cleaned up here; run again, and only what is missing runs",
            )

    def _swap(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.previous is not None and _same(self.previous, manifest):
            return self.previous
        if swap_manifest(self.store, self.layout.manifest, manifest, self._tag):
            return manifest
        found = read_manifest(self.store, self.layout.manifest)
        if found is not None and found[0]["id"] == manifest["id"]:
            return found[0]
        raise self._overtaken()

    def refuse_overtaken(self) -> None:
        """Raise OtherWriter where another driver has committed here since: what is missing went when it cleaned up."""
        found = self.store.read_tagged(self.layout.manifest)
        if (found[1] if found else None) != self._tag:
            raise self._overtaken()

    def _overtaken(self) -> OtherWriter:
        return OtherWriter(
            f"another run committed a different result to {self.stage.root} meanwhile",
            help="run again to build on it, or give the two runs different paths",
        )

    def _clean(self, manifest: dict[str, Any], receipts: Sequence[Receipt]) -> None:
        """Remove superseded receipts, then the files that no manifest names any more; never another driver's work."""
        nothing_new = manifest is self.previous
        if self.stage.keep and nothing_new:
            # Nothing was committed, so readers of the manifest before still have their time.
            return
        # A run that commits nothing only ends what the driver of this manifest may have been killed at: whoever has
        # begun since then may still commit, and needs its receipts and files.
        before = datetime.fromisoformat(manifest["started_at"]).timestamp() if nothing_new else self.started
        keep_previous = self.stage.keep and self.previous is not None
        named = manifest_files(manifest) | (manifest_files(self.previous) if keep_previous and self.previous else set())
        kept_folders = {self._generation}
        if keep_previous and self.previous is not None:
            kept_folders.add(self.previous.get("generation", ""))
        current = {f"{self.job.receipts}{r.key.receipt_name}" for r in receipts}
        listed = list(self.store.list(self.layout.receipts))
        old_receipts = [
            e.path
            for e in listed
            if e.path not in current
            and not e.path.startswith(f"{self.job.receipts}{INDEX}")
            and e.mtime < before
            and (e.path.startswith(self.job.receipts) or e.path.split("/")[-2] not in kept_folders)
        ]
        self.store.delete(old_receipts)
        others = {e.path for e in listed if not e.path.startswith(self.job.receipts)} - {*old_receipts}
        rival = nothing_new and bool(others)
        self._folder.compact(receipts)
        if self.previous is not None and not keep_previous:
            old, new = self.previous.get("lists"), manifest.get("lists")
            if old and old != new:
                self.store.delete([self.layout.meta + old["file"]])
        own = {r.key.location[:12] for r in receipts}
        old_files = []
        for folder in (self.layout.data, self.layout.dropped, self.layout.quarantine):
            for entry in self.store.list(folder):
                shard = SHARD_NAME.fullmatch(entry.path.removeprefix(folder))
                if shard is None or entry.path in named:
                    continue
                if entry.mtime < before or (shard.group(1) in own and not rival):
                    old_files.append(entry.path)
        self.store.delete(old_files)


def _same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Say whether there is nothing to commit: the same result from the same inputs under the same gates."""
    return all(old.get(k) == new.get(k) for k in ("id", "generation", "gates_failed", "inputs"))


def check_writable(stage: StagePlan, *, run_id: str) -> None:
    """Raise PlanError where the stage's directory is not this run's to write. Reads the manifest, writes nothing."""
    store = open_store(stage.root)
    found = read_manifest(store, stage.job.layout.manifest)
    _refuse_foreign(stage, store, found[0] if found else None, run_id=run_id)


def _refuse_foreign(stage: StagePlan, store: Store, found: dict[str, Any] | None, *, run_id: str) -> None:
    if found is None:
        _refuse_foreign_files(stage, store)
        return
    owner = (found.get("pipeline"), found.get("stage"))
    if owner != (stage.job.pipeline, stage.name) and stage.mode != "overwrite":
        raise PlanError(
            Problem(
                code="FDF340",
                message=f"{stage.root} holds stage `{owner[1]}` of pipeline `{owner[0]}`",
                help="choose another path, or `mode: overwrite` to replace it",
            )
        )
    if stage.limit is not None and found.get("limit") is None and stage.mode != "overwrite":
        raise PlanError(
            Problem(
                code="FDF343",
                message=f"{stage.root} holds the result of all rows, which `--limit {stage.limit}` would replace",
                help="give the trial a place of its own with `--set`, or look at a few rows with `fdf preview`",
            )
        )
    if stage.mode == "error" and found.get("run_id") != run_id:
        raise PlanError(
            Problem(
                code="FDF341",
                message=f"{stage.root} holds the result of run {found.get('run_id')}, and `mode: error` keeps it",
                help="choose another path or another mode",
            )
        )


def _refuse_foreign_files(stage: StagePlan, store: Store) -> None:
    """Raise PlanError for a file that readers of the dataset would take for a part of it: any that is not hidden."""
    folder = stage.job.layout.data
    for entry in store.list(folder):
        name = entry.path.removeprefix(folder)
        hidden = any(part.startswith((".", "_")) for part in name.split("/"))
        if not hidden and not SHARD_NAME.fullmatch(name):
            raise PlanError(
                Problem(
                    code="FDF342",
                    message=f"{stage.root} holds files that FDF did not write, such as {name}",
                    help="choose an empty folder: whoever reads it would read these files too",
                )
            )
