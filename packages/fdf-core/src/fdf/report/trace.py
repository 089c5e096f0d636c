"""Follows one row through the stages of a run: where it was kept, and where and why it left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from fdf.report.committed import CommittedStage
from fdf.report.dropped import plain
from fdf.schema import (
    DROP_EVIDENCE,
    DROP_REASON,
    DROPPED_BY,
    ERROR,
    FAILED_IN,
    GENERATED_BY,
    ID,
    REFINED_BY,
    SCORES,
    is_internal,
)

_PARTS = (("outputs", "kept"), ("dropped", "dropped"), ("quarantine", "quarantined"))


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """One stage's record of a row, or of one that was generated from it (its id then goes on after a `/`)."""

    stage: str
    id: str
    outcome: str
    """`kept`, `dropped` or `quarantined`."""
    file: str
    operator: str | None = None
    reason: str | None = None
    evidence: str | None = None
    refined_by: list[str] = field(default_factory=list)
    generated_by: list[str] = field(default_factory=list)
    scores: dict[str, float | None] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the sighting as plain JSON values."""
        return asdict(self)


def trace(row_id: str, stage: CommittedStage) -> Iterator[Sighting]:
    """Yield what a stage did with a row and with the rows made from it; nothing where it never met them."""
    store = stage.store()
    wanted = (pc.field(ID) == row_id) | pc.starts_with(pc.field(ID), f"{row_id}/")
    for part, outcome in _PARTS:
        for entry in stage.manifest[part]:
            if not entry["path"].endswith(".parquet"):
                continue
            with store.open(entry["path"]) as stream:
                if ID not in pq.ParquetFile(stream).schema_arrow.names:
                    continue
                stream.seek(0)
                found = pq.read_table(stream, filters=wanted).to_pylist()
            file = f"{stage.root.rstrip('/')}/{entry['path']}"
            for row in sorted(found, key=lambda r: str(r[ID])):
                yield _sighting(stage.name, outcome, file, row)


def unsearchable(stage: CommittedStage) -> bool:
    """Say whether a stage's kept rows cannot be searched by id: not parquet, or written without provenance."""
    outputs = stage.manifest["outputs"]
    names = {column["name"] for column in stage.manifest["schema"]}
    return ID not in names or any(not entry["path"].endswith(".parquet") for entry in outputs)


def _sighting(stage: str, outcome: str, file: str, row: dict[str, Any]) -> Sighting:
    return Sighting(
        stage=stage,
        id=row[ID],
        outcome=outcome,
        file=file,
        operator=row.get(DROPPED_BY) or row.get(FAILED_IN),
        reason=row.get(DROP_REASON) or row.get(ERROR),
        evidence=row.get(DROP_EVIDENCE),
        refined_by=row.get(REFINED_BY) or [],
        generated_by=row.get(GENERATED_BY) or [],
        scores=row.get(SCORES) or {},
        row={k: plain(v) for k, v in row.items() if not is_internal(k)},
    )
