"""Writes the parquet files of a folder in litdata's own format, each into a folder beside it.

.fdf/peers/mix_litdata/bin/python benchmarks/peers/mixture_as_litdata.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq
from litdata.streaming.writer import BinaryWriter


def main(folder: str) -> None:
    """Convert every file."""
    for file in sorted(Path(folder).glob("*.parquet")):
        writer = BinaryWriter(str(file.with_suffix("")), chunk_bytes="64MB")
        for number, row in enumerate(pq.read_table(file).to_pylist()):
            writer.add_item(number, row)
        writer.done()
        writer.merge(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
