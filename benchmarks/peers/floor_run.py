"""Reads parquet files and writes them again with pyarrow, zstd level 3, one thread: what no operator can go below.

python benchmarks/peers/floor_run.py INPUT OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def main(source: str, target: str) -> None:
    """Copy the files, row group by row group."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    Path(target).mkdir(parents=True)
    for file in sorted(Path(source).iterdir()):
        reader = pq.ParquetFile(file)
        out = Path(target) / file.name
        with pq.ParquetWriter(out, reader.schema_arrow, compression="zstd", compression_level=3) as writer:
            for number in range(reader.num_row_groups):
                writer.write_table(reader.read_row_group(number, use_threads=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
