"""Small mixtures for the tests of training: sources on disk, the recipe over them, and what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = {"web": 1200, "code": 900, "math": 400}
EQUAL = {"a": 0.5, "b": 0.5}
WEIGHTS = {"web": 0.5, "code": 0.3, "math": 0.2}


def write_sources(folder: Path, rows: dict[str, int]) -> Path:
    """Write texts of log-normal lengths, two files per source with row groups of 200 rows."""
    rng = np.random.default_rng(11)
    for name, count in rows.items():
        texts = [f"{name} {i} ".ljust(n, "x") for i, n in enumerate(rng.lognormal(4, 1, count).astype(int) + 9)]
        (folder / name).mkdir(parents=True)
        for part, cut in enumerate((slice(0, count // 2), slice(count // 2, None))):
            table = pa.table({"text": texts[cut], "n": list(range(count))[cut]})
            pq.write_table(table, folder / name / f"{part}.parquet", row_group_size=200)
    return folder


def mixture(sources: Path, weights: dict[str, float], **settings: Any) -> dict[str, Any]:
    """Return the recipe of a mixture without stages and output."""
    datasets = [
        {"name": n, "source": {"type": "parquet", "path": str(sources / n)}, "weight": w} for n, w in weights.items()
    ]
    mixing = {"type": "mixture", "unit": "bytes", "on_exhausted": "renormalize", **settings}
    return {"name": "mixed", "input": {**mixing, "datasets": datasets}}


def written(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a recipe that writes small shards of small row groups."""
    output = {"type": "parquet", "path": str(folder), "row_group_rows": 300, "shard_size": 10_000}
    return {**recipe, "stages": [{"name": "s", "operators": []}], "output": output}
