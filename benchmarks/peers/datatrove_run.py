"""Filters parquet files with datatrove's local executor: Gopher quality and repetition, C4 and FineWeb, as published.

    .fdf/peers/datatrove/bin/python benchmarks/peers/datatrove_run.py INPUT OUTPUT WORKERS

C4 has FineWeb's setting, `filter_no_terminal_punct=False`. A filter that drops a document ends its way, so each stops
at its first failing rule. What is dropped is not written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter


def main(source: str, target: str, workers: str) -> None:
    """Run as many tasks as there are workers, each over its share of the files."""
    LocalPipelineExecutor(
        pipeline=[
            ParquetReader(source),
            GopherQualityFilter(),
            GopherRepetitionFilter(),
            C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter(),
            ParquetWriter(target, compression="zstd"),
        ],
        tasks=int(workers),
        workers=int(workers),
        logging_dir=str(Path(target).with_name("datatrove-logs")),
    ).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
