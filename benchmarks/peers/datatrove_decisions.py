"""Writes what datatrove decides on each document of a corpus, every filter on the original text, alone.

    .fdf/peers/datatrove/bin/python benchmarks/peers/datatrove_decisions.py CORPUS.jsonl.gz --out DECISIONS.jsonl

Runs in the environment of benchmarks/peers/datatrove.txt; benchmarks/parity.py makes that environment and calls this.
The first line written names the versions and the command; each line after it holds a document's id and, by filter, the
reason for which datatrove drops it, or "keep", or "error: ..." where the filter raised. `c4_text` and
`c4_no_terminal_text` are the SHA-256 of the text as C4 rewrote it, null where it is dropped. With `--gold` a document
goes by the SHA-256 of its text instead of its id, and its line has `words` (how many), `words_sha256` (the first 16
digits of the SHA-256 of the words joined by newlines, which no word holds) and `sentences` (how many).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import sys
import unicodedata
from collections.abc import Callable, Iterator
from importlib.metadata import version
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.text import split_into_sentences, split_into_words

KEEP = "keep"
# Those that ask for the words of the whole text come first: datatrove then cuts them once (it remembers five texts).
FILTERS: dict[str, Callable[[], Any]] = {
    "gopher_quality": GopherQualityFilter,
    "gopher_repetition": GopherRepetitionFilter,
    "fineweb": FineWebQualityFilter,
    "c4": C4QualityFilter,
    "c4_no_terminal": lambda: C4QualityFilter(filter_no_terminal_punct=False),
}
REWRITING = ("c4", "c4_no_terminal")
made: dict[str, Any] = {}


def main() -> None:
    """Decide on every document of the corpus, in the corpus's order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="jsonl or jsonl.gz of {id, text}")
    parser.add_argument("--out", type=Path, required=True, help="jsonl or jsonl.gz to write")
    parser.add_argument("--filters", nargs="+", choices=FILTERS, default=list(FILTERS))
    parser.add_argument("--gold", action="store_true", help="write what tests compare with, by the digest of the text")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    jobs = ((line, asked.filters, asked.gold) for line in lines(asked.corpus))
    with opened(asked.out, "wt") as out, Pool(asked.processes) as pool:
        out.write(json.dumps(versions() | {"command": " ".join(sys.argv)}) + "\n")
        for number, decided in enumerate(pool.imap(decide, jobs, chunksize=16), start=1):
            out.write(json.dumps(decided, ensure_ascii=False, separators=(",", ":")) + "\n")
            if number % 1000 == 0:
                print(f"{number:,} documents", file=sys.stderr)


def decide(job: tuple[str, list[str], bool]) -> dict[str, str | int | None]:
    """Return what a document is known by, the decision of each filter, and the digests of the rewritten texts."""
    line, filters, gold = job
    row = json.loads(line)
    decided: dict[str, str | int | None] = {"sha256": digest(row["text"])} if gold else {"id": row["id"]}
    for name in filters:
        if name not in made:
            made[name] = FILTERS[name]()
        document = Document(text=row["text"], id=row["id"])
        decided[name] = decision(made[name], document)
        if name in REWRITING:
            decided[f"{name}_text"] = digest(document.text) if decided[name] == KEEP else None
    if gold:
        words = split_into_words(row["text"])
        decided["words"] = len(words)
        decided["words_sha256"] = digest("\n".join(words))[:16]
        decided["sentences"] = len(split_into_sentences(row["text"]))
    return decided


def decision(step: Any, document: Document) -> str:
    """Return "keep", the reason for dropping, or what the filter raised (which would end datatrove's run)."""
    try:
        answer = step.filter(document)
    except Exception as raised:  # noqa: BLE001 (whatever it is, it is what datatrove does with this document)
        return f"error: {type(raised).__name__}"
    keeps, reason = answer if isinstance(answer, tuple) else (answer, "dropped")
    return KEEP if keeps else str(reason)


def digest(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Name what the decisions hang on: spaCy's rules, and Python's tables of Unicode."""
    packages = {name: version(name) for name in ("datatrove", "spacy", "numpy")}
    return packages | {"python": platform.python_version(), "unicode": unicodedata.unidata_version}


def lines(corpus: Path) -> Iterator[str]:
    """Yield the lines of the corpus."""
    with opened(corpus, "rt") as held:
        yield from held


def opened(path: Path, mode: str) -> Any:
    """Open a file as text, packed (without the hour) if its name says so. Only a line feed ends a line."""
    if path.suffix != ".gz":
        return path.open(mode, encoding="utf-8", newline="\n")
    binary = mode.replace("t", "b")
    packed = gzip.GzipFile("", binary, fileobj=path.open(binary), mtime=0)
    return io.TextIOWrapper(packed, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
