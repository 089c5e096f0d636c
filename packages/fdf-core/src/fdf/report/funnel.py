"""The funnel: how many rows went into each operator, how many came out, and why the others did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FunnelLine:
    """One operator, or (with `operator` None) reading the stage's input."""

    stage: str
    operator: str | None
    kind: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]
    """Rows by reason, the most frequent first."""
    added: int
    """Rows that a generator made, less the parents that they replaced."""
    quarantined: int

    def to_json(self) -> dict[str, Any]:
        """Return the line as plain JSON values."""
        return asdict(self)


def funnel(manifest: Mapping[str, Any]) -> list[FunnelLine]:
    """Return the lines of one stage in the order of its operators.

    Rows that could not be read have no operator: they show in a line of their own, as does a stage without operators,
    with what its mixture left out.
    """
    stage, counts, operators = manifest["stage"], manifest["counts"], manifest["operators"]
    unread = counts["rows_quarantined"] - sum(o["rows_quarantined"] for o in operators)
    left_out = sum(bucket["rows"] for bucket in (manifest.get("mixture") or {}).get("left_out", ()))
    lines = []
    if unread or not operators:
        lines.append(
            FunnelLine(
                stage=stage,
                operator=None,
                kind="read" if operators else "mix" if left_out else "write",
                rows_in=counts["rows_in"],
                rows_out=counts["rows_in"] - unread - left_out,
                dropped={"mixture": left_out} if left_out else {},
                added=0,
                quarantined=unread,
            )
        )
    return lines + [_line(stage, operator) for operator in operators]


def _line(stage: str, operator: Mapping[str, Any]) -> FunnelLine:
    dropped = {reason: n for reason, n in operator["dropped"].items() if n}
    return FunnelLine(
        stage=stage,
        operator=operator["id"],
        kind=operator["kind"],
        rows_in=operator["rows_in"],
        rows_out=operator["rows_out"],
        dropped=dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0]))),
        added=operator["rows_generated"] - operator["rows_expanded"],
        quarantined=operator["rows_quarantined"],
    )
