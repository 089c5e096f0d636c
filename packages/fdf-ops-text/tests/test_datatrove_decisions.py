"""Our decisions against those that datatrove 0.10.1 took, on edge cases and on real documents."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
from pathlib import Path

import pyarrow as pa
import pytest

from fdf.sharing import sharing
from fdf_ops_text.c4_quality import C4QualityFilter
from fdf_ops_text.fineweb_quality import FineWebQualityFilter
from fdf_ops_text.gopher_quality import GopherQualityFilter
from fdf_ops_text.gopher_repetition import GopherRepetitionFilter
from fdf_ops_text.remove_lines import RemoveLines

GOLD = Path(__file__).parent / "gold"
FILTERS = {
    "gopher_quality": GopherQualityFilter(),
    "gopher_repetition": GopherRepetitionFilter(),
    "c4": C4QualityFilter(),
    "c4_no_terminal": C4QualityFilter(terminal_punct=False),
    "fineweb": FineWebQualityFilter(),
}
NAMES_IN_DATA = {"c4": "c4_quality", "c4_no_terminal": "c4_quality_noterm", "fineweb": "fineweb_quality"}


def decisions(operator, texts: list[str]) -> list[str]:
    """Return "keep" or the reason for each text."""
    verdict = operator.verdict(pa.record_batch({"text": texts}))
    return [verdict.reasons[code - 1] if code else "keep" for code in verdict.codes]


@pytest.fixture(scope="module")
def gold() -> dict[str, tuple[str, dict]]:
    """Return each edge case by its name: the text, and what datatrove decided."""
    spec = importlib.util.spec_from_file_location("edge_cases", GOLD / "edge_cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with gzip.open(GOLD / "datatrove-0.10.1.jsonl.gz", "rt", encoding="utf-8") as held:
        rows = {row["sha256"]: row for row in list(map(json.loads, held))[1:]}
    return {name: (text, rows[hashlib.sha256(text.encode()).hexdigest()]) for name, text in module.cases()}


@pytest.mark.parametrize("name", FILTERS)
def test_every_edge_case_is_decided_as_datatrove_does(name, gold):
    got = decisions(FILTERS[name], [text for text, _ in gold.values()])
    wanted = [row[name] for _, row in gold.values()]
    differing = {case: (w, g) for case, w, g in zip(gold, wanted, got, strict=True) if w != g}
    assert differing == {}


@pytest.mark.parametrize(("name", "terminal_punct"), [("c4", True), ("c4_no_terminal", False)])
def test_what_c4_keeps_is_rewritten_as_datatrove_does(name, terminal_punct, gold):
    kept = {case: (text, row[f"{name}_text"]) for case, (text, row) in gold.items() if row[name] == "keep"}
    batch = pa.record_batch({"text": [text for text, _ in kept.values()]})
    rewritten = RemoveLines(terminal_punct=terminal_punct).refine(batch)["text"].to_pylist()
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in rewritten]
    differing = [case for (case, (_, w)), g in zip(kept.items(), digests, strict=True) if not w.startswith(g[: len(w)])]
    assert len(kept) > 100
    assert differing == []


@pytest.mark.parametrize("name", FILTERS)
def test_real_documents_are_decided_as_datatrove_does(name, real_data):
    folder = real_data / "web_mdn"
    taken = (folder / "datatrove_decisions.jsonl").read_text().splitlines()
    wanted = {row["id"]: row for row in map(json.loads, taken)}
    texts = {}
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            texts |= {row["id"]: row["text"] for row in map(json.loads, lines) if row["id"] in wanted}
    assert len(texts) == len(wanted) == 1000
    with sharing():
        got = dict(zip(texts, decisions(FILTERS[name], list(texts.values())), strict=True))
    differing = {i: (row[NAMES_IN_DATA.get(name, name)], got[i]) for i, row in wanted.items()}
    assert {i: pair for i, pair in differing.items() if pair[0] != pair[1]} == {}
