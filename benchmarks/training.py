"""How fast a finished dataset is handed to training, beside reading the same columns with pyarrow alone.

    python benchmarks/training.py [--rows 400000] [--runs 3]

One process, CPU seconds; runs alternate. Documents are random words, some 970 bytes on average.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fdf


def made(folder: Path, rows: int) -> fdf.RunResult:
    """Write and run a dataset of random words."""
    rng = np.random.default_rng(1)
    words = np.array(["".join(map(chr, rng.integers(97, 123, n))) for n in rng.integers(2, 12, 5000)])
    texts = [" ".join(words[rng.integers(0, 5000, n)]) for n in rng.integers(20, 240, 4000)]
    pq.write_table(pa.table({"text": [texts[i] for i in rng.integers(0, 4000, rows)]}), folder / "in.parquet")
    recipe = fdf.Pipeline("bench").read("parquet", path=str(folder / "in.parquet"))
    return fdf.run(recipe.write("parquet", path=folder / "out"), runner="serial")


def floor(result: fdf.RunResult) -> int:
    """Read the texts as they stand, in the batches that pyarrow makes."""
    count = 0
    for entry in result.manifest["outputs"]:
        file = pq.ParquetFile(Path(result.path) / entry["path"])
        count += sum(b.num_rows for b in file.iter_batches(8192, columns=["text"], use_threads=False))
    return count


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    os.environ["FDF_HOME"] = str(folder / "home")
    result = made(folder, asked.rows)

    def arrow(rank: int, ranks: int) -> int:
        options = {"columns": ["text"], "batch_size": 256, "format": "arrow"}
        return sum(b.num_rows for b in result.to_torch(rank=rank, world_size=ranks, **options))

    def python() -> int:
        return sum(1 for _ in result.to_torch(columns=["text"], rank=0, world_size=1))

    cases: dict[str, Callable[[], int]] = {
        "pyarrow, as it stands": lambda: floor(result),
        "arrow batches of 256, one rank": lambda: arrow(0, 1),
        "arrow batches of 256, rank 0 of 8": lambda: arrow(0, 8),
        "a dict per document, one rank": python,
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    rows: dict[str, int] = {}
    for _ in range(asked.runs + 1):
        for name, case in cases.items():
            start = time.process_time()
            rows[name] = case()
            taken[name].append(time.process_time() - start)
    for name, seconds in taken.items():
        middle = statistics.median(seconds[1:])
        print(
            f"| {name} | {rows[name]} | {middle:.2f} | {min(seconds[1:]):.2f} | {max(seconds[1:]):.2f} |"
            f" {rows[name] / middle:,.0f} |"
        )


if __name__ == "__main__":
    main()
