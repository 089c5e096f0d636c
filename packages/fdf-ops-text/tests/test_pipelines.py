"""The bundled recipes run as they stand on real web pages, and drop for the reasons that their sources name."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import fdf

PIPELINES = Path(__file__).parents[1] / "src/fdf_ops_text/pipelines"
PAGES = 400
# What each recipe's steps must find among a few hundred pages of MDN in many languages: operator to some reason.
FOUND = {
    "fineweb_like": {
        "filter.language": "other_language",
        "filter.repetition": "top_4_gram",
        "filter.quality": "gopher_below_alpha_threshold",
        "filter.c4": "curly_bracket",
        "filter.fineweb": "char_dup_ratio",
    },
    "refinedweb_like": {
        "filter.language": "other_language",
        "filter.repetition": "top_4_gram",
        "filter.quality": "gopher_short_doc",
        "filter.lines": "too_many_words_removed",
    },
    "dclm_like": {
        "filter.language": "other_language",
        "filter.repetition": "dup_line_frac",
        "filter.quality": "gopher_short_doc",
        "filter.lines": "too_many_words_removed",
    },
}


@pytest.mark.parametrize("name", FOUND)
def test_bundled_recipe_filters_web_pages(name, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    with gzip.open(real_data / "web_mdn/mdn-00003-of-00016.jsonl.gz", "rb") as file:
        lines = list(islice(file, PAGES))
    with gzip.open(tmp_path / "pages.jsonl.gz", "wb") as file:
        file.writelines(lines)
    sets = (f"vars.input={tmp_path}/*.jsonl.gz", f"vars.output={tmp_path / 'out'}")
    result = fdf.run(str(PIPELINES / f"{name}.yaml"), sets=sets, runner="serial")
    (stage,) = (manifest for stage, manifest in result.manifests.items() if stage != "output")
    counts = stage["counts"]
    assert counts["rows_in"] == PAGES
    assert counts["rows_quarantined"] == 0
    assert 0 < counts["rows_out"] < PAGES / 4
    dropped = {operator["id"]: operator["dropped"] for operator in stage["operators"] if operator["kind"] == "filter"}
    assert sum(sum(reasons.values()) for reasons in dropped.values()) == counts["rows_dropped"]
    assert {operator: reason in dropped[operator] for operator, reason in FOUND[name].items()} == dict.fromkeys(
        FOUND[name], True
    )
    kept = pq.read_table([tmp_path / "out" / entry["path"] for entry in result.manifest["outputs"]])
    assert set(kept["language"].to_pylist()) == {"en"}
