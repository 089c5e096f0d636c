"""Writes what a peer decides on each document of a corpus: what the scripts *_decisions.py have in common.

A script is run in its peer's environment (benchmarks/peers/<peer>.txt), which benchmarks/parity.py makes:

    .fdf/peers/<peer>/bin/python benchmarks/peers/<peer>_decisions.py CORPUS.jsonl.gz --out DECISIONS.jsonl

The first line written names the versions and the command; each line after it holds a document's id and what the
script's deciders say of its text. With `--gold` a document goes by the SHA-256 of its text instead of its id, and
deciders that only tests need speak too.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

KEEP = "keep"
Decider = Callable[[str], Mapping[str, "str | int | None"]]
chosen: list[Decider] = []


def write_decisions(
    deciders: Mapping[str, Decider], *, packages: Sequence[str], gold: Sequence[Decider] = (), doc: str | None = None
) -> None:
    """Read the command line and decide on every document of the corpus, in the corpus's order."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="jsonl or jsonl.gz of {id, text}")
    parser.add_argument("--out", type=Path, required=True, help="jsonl or jsonl.gz to write")
    parser.add_argument("--filters", nargs="+", choices=deciders, default=list(deciders))
    parser.add_argument("--gold", action="store_true", help="write what tests compare with, by the digest of the text")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    chosen.extend(decider for name, decider in deciders.items() if name in asked.filters)
    chosen.extend(gold if asked.gold else ())
    jobs = ((line, asked.gold) for line in lines(asked.corpus))
    # Forked, the processes know what was chosen.
    with opened(asked.out, "wt") as out, get_context("fork").Pool(asked.processes) as pool:
        out.write(json.dumps(versions(packages) | {"command": " ".join(sys.argv)}) + "\n")
        for number, decided in enumerate(pool.imap(decide, jobs, chunksize=16), start=1):
            out.write(json.dumps(decided, ensure_ascii=False, separators=(",", ":")) + "\n")
            if number % 1000 == 0:
                print(f"{number:,} documents", file=sys.stderr)


def decide(job: tuple[str, bool]) -> dict[str, str | int | None]:
    """Return what a document is known by, and what every decider says of its text."""
    line, gold = job
    row = json.loads(line)
    decided: dict[str, str | int | None] = {"sha256": digest(row["text"])} if gold else {"id": row["id"]}
    for decider in chosen:
        decided.update(decider(row["text"]))
    return decided


def digest(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Name what the decisions hang on: the peer's packages, and Python's tables of Unicode."""
    return {name: version(name) for name in packages} | {
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
    }


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
