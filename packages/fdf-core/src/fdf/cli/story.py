"""The end of a run on a page: the funnel, examples of dropped rows, and where dataset and manifests are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fdf.cli.screen import columns, number, percent, plural, shortened, size, terminal_width
from fdf.report.funnel import FunnelLine, funnel

if TYPE_CHECKING:
    from rich.table import Table

    from fdf.report.dropped import DroppedRow


def funnel_table(manifests: Iterable[Mapping[str, Any]]) -> Table:
    """Return the funnel of a run: a line per operator."""
    table = columns(
        "stage", "operator", "rows in", "rows out", "kept", "why rows went", right=("rows in", "rows out", "kept")
    )
    for manifest in manifests:
        last = None
        for line in funnel(manifest):
            table.add_row(
                "" if line.stage == last else line.stage,
                line.operator or f"({line.kind})",
                number(line.rows_in),
                number(line.rows_out),
                percent(line.rows_out, line.rows_in),
                _why(line),
            )
            last = line.stage
    return table


def _why(line: FunnelLine) -> str:
    parts = [f"{n:,} {reason}" for reason, n in line.dropped.items()]
    if line.added:
        parts.append(f"{line.added:+,} generated")
    if line.quarantined:
        parts.append(f"{line.quarantined:,} quarantined")
    return ", ".join(parts)


def dropped_lines(rows: Sequence[DroppedRow]) -> list[str]:
    """Return two lines for each dropped row: why it went, and how it begins."""
    width = terminal_width()
    lines = []
    for row in rows:
        evidence = f" {json.dumps(row.evidence, ensure_ascii=False)}" if row.evidence is not None else ""
        lines.append(shortened(f"{row.operator}: {row.reason}{evidence}  ({row.id})", width=width))
        lines.append("    " + shortened(_preview(row.row), width=width - 4))
    return lines


def _preview(row: Mapping[str, Any]) -> str:
    """Return the most telling column: the text, else the whole row."""
    text = row.get("text") or row.get("caption")
    if isinstance(text, str):
        return json.dumps(shortened(text, width=400), ensure_ascii=False)
    return json.dumps(row, ensure_ascii=False) if row else "(its columns were not kept: `drops` of the stage)"


def counts_line(manifest: Mapping[str, Any]) -> str:
    """Return what a committed directory holds, in words."""
    files = manifest["outputs"]
    held = size(sum(f["bytes"] for f in files))
    return f"{manifest['counts']['rows_out']:,} rows, {plural(len(files), 'file')}, {held}"


def scores_line(scores: Mapping[str, float | None]) -> str:
    """Return scores in one line: whole numbers whole, others to four digits."""
    return "  ".join(f"{name}={_score(value)}" for name, value in scores.items())


def _score(value: float | None) -> str:
    if value is None:
        return "null"
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
