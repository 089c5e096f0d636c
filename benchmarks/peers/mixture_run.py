"""Draws rows from a mixture with one of the tools, as Python values, and says which came and what that cost.

python benchmarks/peers/mixture_run.py TOOL CASE ROWS OUT.npz WEIGHT...

CASE holds s000.parquet and so on (for litdata, folders of that name) with the columns source, size and text. Drawing
ends after ROWS rows or where the first source ends. CPU seconds are those of this process and all its threads, from
when the tool has been imported to the last row.
"""

from __future__ import annotations

import array
import importlib
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

SEED = 42
MODULES = {
    "hugging": ("datasets",),
    "grain": ("grain", "pyarrow.parquet"),
    "litdata": ("litdata",),
    "fdf": ("fdf.plan.compile", "fdf.runner.run", "fdf.stage.mixing", "fdf.stage.reading"),
}
Drawn = Iterator[tuple[int, int, str]]


def hugging_face(sources: list[Path], weights: list[float]) -> Drawn:
    """Interleave streamed parquet with probabilities."""
    from datasets import interleave_datasets, load_dataset

    streams = [load_dataset("parquet", data_files=str(s), split="train", streaming=True) for s in sources]
    mixed = interleave_datasets(streams, probabilities=weights, seed=SEED, stopping_strategy="first_exhausted")
    return ((row["source"], row["size"], row["text"]) for row in mixed)


def grain(sources: list[Path], weights: list[float]) -> Drawn:
    """Mix iterators over parquet."""
    import grain as tool

    streams = [tool.experimental.ParquetIterDataset(str(s)) for s in sources]
    mixed = tool.IterDataset.mix(streams, weights)
    return ((int(row["source"]), int(row["size"]), row["text"]) for row in mixed)


def litdata(sources: list[Path], weights: list[float]) -> Drawn:
    """Combine datasets in litdata's own format."""
    from litdata import CombinedStreamingDataset, StreamingDataset

    streams = [StreamingDataset(str(s.with_suffix(""))) for s in sources]
    mixed = CombinedStreamingDataset(streams, seed=SEED, weights=weights, iterate_over_all=False)
    return ((row["source"], row["size"], row["text"]) for row in mixed)


def fdf(sources: list[Path], weights: list[float], *, unit: str, rows: int) -> Drawn:
    """Draw FDF's schedule and read its ranges, as a worker does, but write nothing.

    A range holds up to 65,536 rows, so it is told how many are wanted: no others are decided or read.
    """
    from fdf.plan.compile import compile_plan
    from fdf.runner.run import load_run
    from fdf.stage.mixing import MixtureRun
    from fdf.stage.reading import open_task

    listed = [
        {"name": s.stem, "weight": w, "source": {"type": "parquet", "path": str(s)}}
        for s, w in zip(sources, weights, strict=True)
    ]
    recipe = {
        "name": "mixture-bench",
        "input": {"type": "mixture", "unit": unit, "datasets": listed},
        "output": {"type": "parquet", "path": "never-written"},
    }
    (stage,) = compile_plan(load_run(recipe)).stages
    assert stage.mixture is not None
    for task in MixtureRun(stage.mixture, limit=rows).tasks(stage.job):
        for parcel in open_task(task, stage.job).parcels:
            data = parcel.rows.data
            columns = [data.column(name).to_pylist() for name in ("source", "size", "text")]
            yield from zip(*columns, strict=True)


def main(name: str, case: str, rows: str, out: str, *given: str) -> None:
    """Draw the rows, then write their sources and sizes."""
    sources = sorted(Path(case).glob("*.parquet"))
    weights = [float(w) for w in given]
    tools: dict[str, Any] = {"hugging_face": hugging_face, "grain": grain, "litdata": litdata}
    for module in MODULES[name.partition("_")[0]]:
        importlib.import_module(module)
    started = time.process_time()
    if name in tools:
        drawn = tools[name](sources, weights)
    else:
        drawn = fdf(sources, weights, unit=name.removeprefix("fdf_"), rows=int(rows))
    came, sizes = array.array("q"), array.array("q")
    characters = 0
    for source, size, text in islice(drawn, int(rows)):
        came.append(source)
        sizes.append(size)
        characters += len(text)
    spent = time.process_time() - started
    Path(out).write_bytes(came.tobytes() + sizes.tobytes())
    print(json.dumps({"cpu_s": spent, "rows": len(came), "characters": characters}))


if __name__ == "__main__":
    main(*sys.argv[1:])
