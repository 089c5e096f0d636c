"""Examples of dropped rows, with the reason and the evidence, from a stage's `dropped/` files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fdf.report.committed import CommittedStage
from fdf.schema import DROP_EVIDENCE, DROP_REASON, DROPPED_BY, ID, is_internal

ROWS_PER_REASON = 1000
"""How many rows of a reason are looked at for ones that kept their columns, file by file."""


@dataclass(frozen=True, kw_only=True)
class DroppedRow:
    """One dropped row; `row` holds its own columns, as far as the stage's `drops` policy kept them."""

    stage: str
    id: str
    operator: str
    reason: str
    evidence: Any
    row: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values; bytes are told by their length."""
        return asdict(self)


def dropped_examples(stages: Iterable[CommittedStage], *, count: int) -> list[DroppedRow]:
    """Return up to `count` dropped rows, in turn from each operator and reason, so that every kind of drop is seen."""
    if count <= 0:
        return []
    by_reason: dict[tuple[str, str, str], list[DroppedRow]] = {}
    for stage in stages:
        wanted = {
            (o["id"], reason): min(n, count)
            for o in stage.manifest["operators"]
            for reason, n in o["dropped"].items()
            if n
        }
        if (stage.manifest.get("mixture") or {}).get("left_out"):
            wanted["mixture", "mixture"] = count
        for (operator, reason), rows in _collect(stage, wanted).items():
            by_reason[stage.name, operator, reason] = rows
    chosen: list[DroppedRow] = []
    for turn in range(count):
        for rows in by_reason.values():
            if turn < len(rows) and len(chosen) < count:
                chosen.append(rows[turn])
    return chosen


def _collect(stage: CommittedStage, wanted: dict[tuple[str, str], int]) -> dict[tuple[str, str], list[DroppedRow]]:
    found: dict[tuple[str, str], list[DroppedRow]] = {key: [] for key in wanted}
    for batch in _batches(stage):
        if all(len(found[key]) >= n for key, n in wanted.items()):
            break
        keys = zip(batch.column(DROPPED_BY).to_pylist(), batch.column(DROP_REASON).to_pylist(), strict=True)
        for number, key in enumerate(keys):
            if key in found and len(found[key]) < wanted[key]:
                found[key].append(_row(stage.name, batch, number))
    return found


def _batches(stage: CommittedStage) -> Iterator[pa.RecordBatch]:
    """Yield dropped rows, of each file those first that kept their own columns."""
    store = stage.store()
    for entry in stage.manifest["dropped"]:
        with store.open(entry["path"]) as stream:
            table = pq.ParquetFile(stream).read()
        own = [n for n in table.column_names if not is_internal(n)]
        if own:
            empty = _all_null(table.select(own))
            table = pa.concat_tables([table.filter(pa.compute.invert(empty)), table.filter(empty)])
        yield from table.to_batches(max_chunksize=ROWS_PER_REASON)


def _all_null(table: pa.Table) -> Any:
    mask: Any = pa.array([True] * table.num_rows)
    for column in table.columns:
        mask = pa.compute.and_(mask, column.is_null())
    return mask


def _row(stage: str, batch: pa.RecordBatch, number: int) -> DroppedRow:
    row = {name: batch.column(name)[number].as_py() for name in batch.schema.names}
    evidence = row.get(DROP_EVIDENCE)
    return DroppedRow(
        stage=stage,
        id=row[ID],
        operator=row[DROPPED_BY],
        reason=row[DROP_REASON],
        evidence=json.loads(evidence) if evidence else None,
        row={k: plain(v) for k, v in row.items() if not is_internal(k) and v is not None},
    )


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; bytes are told by their length."""
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value):,} bytes>"
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 (NaN)
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
