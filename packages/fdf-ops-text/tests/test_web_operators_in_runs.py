from __future__ import annotations

import pyarrow as pa
import pytest

import fdf
from fdf.errors import PlanError
from fdf_ops_text.fix_unicode import FixUnicode
from fdf_ops_text.language_filter import LanguageFilter
from fdf_ops_text.language_scorer import LanguageScorer
from fdf_ops_text.tokens import TokenCounter
from fdf_ops_text.url.filter import URLFilter


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))


def run(tmp_path, rows, *operators):
    pipeline = fdf.Pipeline("web").read(rows).stage("s", list(operators), path=str(tmp_path / "s"))
    return fdf.run(pipeline, runner="serial")


def test_changed_list_runs_the_stage_again_and_an_equal_one_does_not(tmp_path):
    rows = pa.table({"url": ["http://a.com/1", "http://b.com/2"]})
    blocked = tmp_path / "domains"

    def ids():
        result = run(tmp_path, rows, URLFilter(domain_files=(str(blocked),)))
        manifest = result.stages[0].manifest
        return manifest["fingerprint"], manifest["counts"]["rows_out"]

    blocked.write_text("a.com\n")
    first = ids()
    blocked.write_text("a.com\n")
    assert ids() == first
    blocked.write_text("a.com\nb.com\n")
    second = ids()
    assert (first[1], second[1]) == (1, 0)
    assert first[0] != second[0]


def test_missing_list_stops_the_plan(tmp_path):
    with pytest.raises(PlanError, match="`domain_files` of URLFilter"):
        run(tmp_path, pa.table({"url": ["x"]}), URLFilter(domain_files=(str(tmp_path / "none"),)))


def test_row_that_is_no_utf8_is_quarantined_alone(tmp_path):
    held = pa.array([b"A fine text in English.", b"caf\xe9", b"Ein deutscher Satz.", None], pa.binary())
    rows = pa.table({"text": pa.Array.from_buffers(pa.string(), len(held), held.buffers())})
    result = run(tmp_path, rows, FixUnicode(), LanguageScorer(), LanguageFilter(languages=("de",)), TokenCounter())
    counts = result.stages[0].manifest["counts"]
    assert (counts["rows_quarantined"], counts["rows_dropped"], counts["rows_out"]) == (1, 1, 2)
