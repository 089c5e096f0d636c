"""Makes corpora of text: documents as they are, or made anew from their lines, as parquet or as JSON lines."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 1000
# Every system keeps it: NeMo Curator's filters fail on a file of which a filter before them keeps nothing.
PLAIN = """\
A corpus of one document tells how long a program takes before it does any work on the text that it was given.
Most of that time goes into loading libraries, and some of it into starting the processes that share the work.
Nobody minds a second when the run lasts for an hour, but it hides what matters when the corpus is small.
So the cost of starting is measured by itself, with this page, and is taken away from the cost of a longer run.
What is left then depends on the rules alone: how words are found, which of them return, and how lines come to an end.
"""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A folder of parquet files with the columns `id` and `text`."""

    folder: Path
    documents: int
    mb: float
    """Bytes of text in UTF-8, in millions."""


def make_corpus(
    paths: list[Path], folder: Path, *, where: str | None, mb: float | None, docs: int | None, files: int
) -> Corpus:
    """Make (once) a corpus from these files, of as many documents as are asked for."""
    asked = json.dumps([[str(path.resolve()) for path in paths], where, mb, docs, files])
    place = folder / f"corpus-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
    if not place.exists():
        documents = [(str(row["id"]), row["text"]) for row in text_rows(paths, where=where)]
        if mb is not None:
            documents = from_lines([text for _, text in documents], mb * 1e6)
        write(documents[:docs], place, files=files)
    held = [pq.read_table(file)["text"] for file in sorted(place.iterdir())]
    size = sum(sum(len(text.as_py().encode()) for text in texts) for texts in held)
    return Corpus(folder=place, documents=sum(map(len, held)), mb=size / 1e6)


def make_single(folder: Path) -> Corpus:
    """Make a corpus of one document that every filter keeps."""
    place = folder / "corpus-single"
    shutil.rmtree(place, ignore_errors=True)
    write([("plain", PLAIN)], place, files=1)
    return Corpus(folder=place, documents=1, mb=len(PLAIN) / 1e6)


def as_json_lines(folder: Path) -> Path:
    """Return a folder with a corpus's files as documents/*.jsonl.gz of {id, text, source}; make it if it is absent."""
    place = folder.with_name(f"{folder.name}-jsonl")
    documents = place / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.glob("*.parquet")):
        packed = documents / f"{file.stem}.jsonl.gz"
        if not packed.exists() or packed.stat().st_mtime < file.stat().st_mtime:
            with gzip.open(packed, "wt", encoding="utf-8") as out:
                for row in pq.read_table(file).to_pylist():
                    out.write(json.dumps(row | {"source": file.stem}) + "\n")
    return place


def text_rows(paths: list[Path], *, where: str | None) -> Iterator[dict[str, Any]]:
    """Yield the rows with a text that UTF-8 can hold, where a column has a value; without `id`, they go by number."""
    column, _, value = (where or "").partition("=")
    for number, row in enumerate(rows(paths)):
        if (not column or str(row.get(column)) == value) and is_text(row.get("text")):
            yield row | {"id": row.get("id", number)}


def rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the files, in order."""
    for path in paths:
        if path.suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        else:
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as held:
                yield from map(json.loads, held)


def is_text(value: object) -> bool:
    """Tell texts that UTF-8 can hold from nulls and lone surrogates, which no side reads."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def from_lines(texts: list[str], size: float) -> list[tuple[str, str]]:
    """Make documents of log-normal length of neighbouring lines, from places drawn at random, until there is enough."""
    lines = [line for text in texts for line in text.splitlines() if line]
    draw = random.Random(7)  # noqa: S311 (the same corpus every time)
    made: list[tuple[str, str]] = []
    while size > 0:
        start = draw.randrange(len(lines))
        text = "\n".join(lines[start : start + max(1, int(draw.lognormvariate(3.5, 1)))])
        made.append((f"made-{len(made)}", text))
        size -= len(text.encode())
    return made


def write(documents: list[tuple[str, str]], folder: Path, *, files: int) -> None:
    """Write the documents into files of about the same number; the folder appears when all are there."""
    print(f"making {folder.name}: {len(documents):,} documents", file=sys.stderr)
    aside = folder.with_suffix(".part")
    aside.mkdir(parents=True, exist_ok=True)
    share = -(-len(documents) // files)
    for number in range(files):
        part = documents[number * share : (number + 1) * share]
        if part:
            table = pa.table({"id": [name for name, _ in part], "text": [text for _, text in part]})
            pq.write_table(table, aside / f"{number:03}.parquet", compression="zstd", row_group_size=ROWS_PER_GROUP)
    aside.rename(folder)
