"""Filters JSON lines with dolma: its Gopher tagger, then its mixer with the published bounds of dolma_decisions.py.

    .fdf/peers/dolma/bin/python benchmarks/peers/dolma_run.py INPUT OUTPUT PROCESSES

INPUT holds documents/*.jsonl.gz of {id, text, source}: dolma reads nothing else, and leaves its attributes beside them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nltk
from dolma_decisions import LEAST, MOST, ORDER

EXPERIMENT = "gopher_rules"
TAGGER = "gopher_v1"


def main(source: str, target: str, processes: str) -> None:
    """Tag the documents, then mix those that no rule excludes."""
    # dolma asks for a download of sentence models when it is imported; none of this needs them.
    nltk.download = lambda *_, **__: False
    from dolma.cli.__main__ import main as dolma

    shutil.rmtree(Path(source) / "attributes", ignore_errors=True)
    documents = f"{source}/documents/*.jsonl.gz"
    tagging = ["--documents", documents, "--taggers", TAGGER, "--experiment", EXPERIMENT, "--processes", processes]
    dolma(["tag", *tagging])
    stream = {
        "name": "kept",
        "documents": [documents],
        "attributes": [EXPERIMENT],
        "output": {"path": target, "max_size_in_bytes": 1 << 30, "discard_fields": ["attributes"]},
        "filter": {"include": [], "exclude": exclusions()},
    }
    work = {"input": f"{target}-work/input", "output": f"{target}-work/output"}
    config = Path(target).with_name("dolma.json")
    config.write_text(json.dumps({"streams": [stream], "work_dir": work, "processes": int(processes)}))
    dolma(["-c", str(config), "mix"])


def exclusions() -> list[str]:
    """Return the mixer's conditions: a document with an attribute out of bounds goes."""
    conditions = []
    for attribute in ORDER:
        name = f"@.{EXPERIMENT}__{TAGGER}__{attribute}"
        for sign, bounds in (("<", LEAST), (">", MOST)):
            if attribute in bounds:
                conditions.append(f"$.attributes[?({name} && {name}[0] && {name}[0][2] {sign} {bounds[attribute]})]")
    return conditions


if __name__ == "__main__":
    main(*sys.argv[1:])
