"""What models in turn cost over many small splits: one split per worker at a time, and groups of them.

    python benchmarks/turns.py --splits 24 --loading 1 --rounds 3

Two models that do not fit on the one GPU that the runner is made to see: each sleeps while it is loaded and computes
next to nothing, on the CPU. The rounds alternate. Figures are in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fdf
from fdf.models.contract import ModelScore
from fdf.operator import Context
from fdf_runner_local import LocalRunner, runner
from fdf_runner_local.crew import Crew


@dataclass(frozen=True, kw_only=True)
class Slow(ModelScore):
    """A model that is slow to load. Notes each load in `log`."""

    field: str = "n"
    column: str = "first"
    loading: float = 1.0
    log: str = ""

    version = "1"

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return one float per row."""
        return {self.column: pa.float32()}

    def setup_device(self, context: Context) -> None:
        """Sleep, as if weights were read."""
        time.sleep(self.loading)
        with Path(self.log).open("a") as log:
            log.write(f"{self.column}\n")

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Return the numbers."""
        numbers = prepared.column(self.field).to_numpy().astype(np.float32)
        return pa.record_batch({self.column: pa.array(numbers, pa.float32())})


class OneByOne(Crew):
    """A crew whose workers have one split in hand, as it was before there were groups."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "together": False})


def measure(place: Path, crew: type[Crew], options: argparse.Namespace, *, name: str) -> str:
    """Run the stage once; return how often a model was loaded, and how long it took."""
    log = place / f"{name}.log"
    steps = [
        {"id": column, "kind": "score", "op": f"{__file__}:Slow", "resources": {"gpus": gpus},
         "params": {"column": column, "loading": options.loading, "log": str(log)}}
        for column, gpus in (("first", 0.5), ("second", 1))
    ]  # fmt: skip
    recipe = {
        "name": name,
        "input": {"type": "parquet", "path": str(place / "*.parquet")},
        "stages": [{"name": "only", "materialize": {"path": str(place / name)}, "operators": steps}],
    }
    runner.Crew = crew
    local = LocalRunner(workers=options.workers)
    before, began = os.times(), time.perf_counter()
    fdf.run(recipe, runner=local)
    seconds = time.perf_counter() - began
    local.close()
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    loads = len(log.read_text().splitlines())
    return f"{loads} | {seconds:.1f} | {spent:.1f} | {os.getloadavg()[0]:.1f}"


def main() -> None:
    """Measure both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=24)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--loading", type=float, default=1.0, help="seconds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runner.gpu_count = lambda: 1
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["FDF_HOME"] = str(place / "home")
        for number in range(options.splits):
            n = pa.array(range(number * options.rows, (number + 1) * options.rows), pa.int64())
            pq.write_table(pa.table({"n": n}), place / f"{number:05}.parquet")
        print("splits in hand | loads | seconds | CPU s | load of the machine")
        for turn in range(options.rounds):
            print("one per worker |", measure(place, OneByOne, options, name=f"one-{turn}"))
            print("a group |", measure(place, Crew, options, name=f"group-{turn}"))


if __name__ == "__main__":
    main()
