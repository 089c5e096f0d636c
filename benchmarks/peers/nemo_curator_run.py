"""Filters parquet files with NeMo Curator's own heuristics, those that follow Gopher's rules and FineWeb's first.

    .fdf/peers/nemo_curator/bin/python benchmarks/peers/nemo_curator_run.py INPUT OUTPUT EXECUTOR

EXECUTOR is `xenna` (the default of NeMo Curator; in batches, since streaming asks for four cores), `ray_data`, or
`none`: the same stages called one after another in this process, without Ray. The filters form one stage, in which a
dropped document is seen by no later filter. Bounds are those of the papers where NeMo Curator's defaults differ.
"""

from __future__ import annotations

import sys
from typing import Any

from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.text.filters import ScoreFilter
from nemo_curator.stages.text.filters.heuristic import repetition, string
from nemo_curator.stages.text.io.reader import ParquetReader
from nemo_curator.stages.text.io.writer import ParquetWriter
from nemo_curator.tasks import EmptyTask

FILTERS = [
    string.WordCountFilter(min_words=50, max_words=100_000),
    string.MeanWordLengthFilter(min_mean_word_length=3, max_mean_word_length=10),
    string.SymbolsToWordsFilter(max_symbol_to_word_ratio=0.1),
    string.BulletsFilter(max_bullet_lines_ratio=0.9),
    string.EllipsisFilter(max_num_lines_ending_with_ellipsis_ratio=0.3),
    string.WordsWithoutAlphabetsFilter(min_words_with_alphabets=0.8),
    string.CommonEnglishWordsFilter(min_num_common_words=2),
    # These bound the share of different lines and paragraphs from below.
    repetition.RepeatedParagraphsFilter(max_repeated_paragraphs_ratio=0.7),
    repetition.RepeatedParagraphsByCharFilter(max_repeated_paragraphs_char_ratio=0.8),
    repetition.RepeatedLinesFilter(max_repeated_line_fraction=0.7),
    repetition.RepeatedLinesByCharFilter(max_repeated_lines_char_ratio=0.8),
    *(repetition.RepeatingTopNGramsFilter(n, bound) for n, bound in ((2, 0.2), (3, 0.18), (4, 0.16))),
    *(
        repetition.RepeatingDuplicateNGramsFilter(n, bound)
        for n, bound in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    ),
    string.PunctuationFilter(max_num_sentences_without_endmark_ratio=0.88),
]


def main(source: str, target: str, executor: str) -> None:
    """Run the pipeline over the files, one after another."""
    pipeline = Pipeline(
        name="heuristics",
        stages=[
            ParquetReader(source, files_per_partition=1),
            ScoreFilter(FILTERS, text_field="text"),
            ParquetWriter(target, write_kwargs={"compression": "zstd", "compression_level": 3}),
        ],
    )
    if executor == "none":
        run_here(pipeline)
    elif executor == "ray_data":
        from nemo_curator.backends.ray_data import RayDataExecutor

        pipeline.run(RayDataExecutor())
    else:
        from nemo_curator.backends.xenna import XennaExecutor

        pipeline.run(XennaExecutor({"execution_mode": "batch"}))


def run_here(pipeline: Pipeline) -> None:
    """Call the stages of a pipeline one after another on each task."""
    pipeline.build()
    for stage in pipeline.stages:
        stage.setup(None)
    tasks: list[Any] = [EmptyTask()]
    first, *others = pipeline.stages
    made = first.process(tasks[0])
    for task in made if isinstance(made, list) else [made]:
        batch: Any = task
        for stage in others:
            if batch is not None:
                batch = stage.process(batch)


if __name__ == "__main__":
    main(*sys.argv[1:])
