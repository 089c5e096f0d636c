"""Prints what a finished run did, from its committed files alone: the funnel, dropped rows with their reasons, and
where dataset and manifests are. It is also a small example of reading manifests without FDF."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

Manifest = dict[str, Any]
EXAMPLES = 5
WIDTH = 100


def main() -> int:
    """Print the story of one run."""
    parser = argparse.ArgumentParser(description="Print the funnel and five dropped rows of a finished run.")
    parser.add_argument("run", type=Path, help="the run's directory, $FDF_HOME/runs/RUN_ID")
    parser.add_argument("output", type=Path, help="the dataset that the run wrote")
    arguments = parser.parse_args()
    final = arguments.output / "__fdf__" / "manifest.json"
    if not final.is_file():
        print(f"{final} is not there: the run has not committed its output; run it again to go on", file=sys.stderr)
        return 1
    output: Manifest = json.loads(final.read_text())
    stages = {
        stage["name"]: arguments.run / stage["name"]
        for stage in output["recipe"]["stages"]
        if (arguments.run / stage["name"] / "manifest.json").is_file()
    }
    manifests = {name: json.loads((root / "manifest.json").read_text()) for name, root in stages.items()}

    print("\nThe funnel")
    for line in funnel(manifests):
        print(f"  {line}")
    print(f"\nDropped, for example (id, reason and evidence of every dropped row: {arguments.run}/*/dropped)")
    for line in examples(stages, manifests):
        print(f"  {line if len(line) <= WIDTH else line[:WIDTH] + ' ...'}")
    counts = output["counts"]
    size = sum(shard["bytes"] for shard in output["outputs"])
    print(f"\nThe dataset   {arguments.output}  ({counts['rows_out']:,} rows, {size / 1e6:.1f} MB of parquet)")
    print(f"Its manifest  {final}")
    for name, root in stages.items():
        print(f"Stage {name:<7} {root / 'manifest.json'}")
    fdf = os.path.relpath(Path(sys.executable).parent / "fdf")
    print(f"\nLook inside   {fdf} runs show {arguments.run.name}\n              {fdf} verify {arguments.output}")
    return 0


def funnel(manifests: dict[str, Manifest]) -> Iterator[str]:
    """Yield a line per operator: rows in, rows out, and how many went for which reason."""
    yield f"{'stage':<10} {'operator':<20} {'rows in':>9} {'rows out':>9}  dropped"
    for stage, manifest in manifests.items():
        for operator in manifest["operators"]:
            dropped = ", ".join(f"{n:,} {reason}" for reason, n in operator["dropped"].items() if n) or "-"
            rows = f"{operator['rows_in']:>9,} {operator['rows_out']:>9,}"
            yield f"{stage:<10} {operator['id']:<20} {rows}  {dropped}"


def examples(stages: dict[str, Path], manifests: dict[str, Manifest]) -> Iterator[str]:
    """Yield lines on a few dropped rows, in turn from each reason, so that every kind of drop is seen."""
    by_reason: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for stage, root in stages.items():
        files = [str(root / shard["path"]) for shard in manifests[stage]["dropped"]]
        if not files:
            continue
        table: pa.Table = ds.dataset(files).to_table().sort_by("__fdf__/id")
        for row in table.to_pylist():
            if row.get("text"):  # only a sample of the dropped rows is kept whole
                by_reason.setdefault((row["__fdf__/dropped_by"], row["__fdf__/drop_reason"]), []).append(row)
    turn = 0
    shown = 0
    while shown < EXAMPLES and any(len(rows) > turn for rows in by_reason.values()):
        for (operator, reason), rows in by_reason.items():
            if turn < len(rows) and shown < EXAMPLES:
                evidence = json.loads(rows[turn]["__fdf__/drop_evidence"])
                told = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in evidence.items())
                yield f"{operator}: {reason} ({told})"
                yield f"    {json.dumps(rows[turn]['text'], ensure_ascii=False)}"
                shown += 1
        turn += 1


if __name__ == "__main__":
    sys.exit(main())
