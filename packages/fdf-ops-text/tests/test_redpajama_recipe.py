from __future__ import annotations

import gzip
import json
import os
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from references import rpv2

import fdf
from fdf_ops_text.redpajama_signals import SIGNALS, english_stop_words

ROOT = Path(__file__).parents[3]
WEB = Path(os.environ.get("FDF_TEST_DATA", ROOT / "../shared/data")) / "web_mdn" / "mdn-00003-of-00016.jsonl.gz"
RECIPE = ROOT / "packages/fdf-ops-text/src/fdf_ops_text/pipelines/redpajama_v2_signals.yaml"


@pytest.mark.skipif(not WEB.exists(), reason="needs the test data (FDF_TEST_DATA)")
def test_bundled_recipe_writes_the_signals_of_web_pages_beside_them(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    with gzip.open(WEB, "rb") as file:
        lines = list(islice(file, 150))
    with gzip.open(tmp_path / "pages.jsonl.gz", "wb") as file:
        file.writelines(lines)
    out = tmp_path / "out"
    sets = (f"vars.input={tmp_path}/*.jsonl.gz", f"vars.output={out}")
    result = fdf.run(str(RECIPE), sets=sets, runner="serial")
    rows = pa.concat_tables(pq.read_table(out / entry["path"]) for entry in result.manifest["outputs"]).to_pylist()
    pages = [json.loads(line) for line in lines]
    assert [row["text"] for row in rows] == [page["text"] for page in pages]
    stop_words = frozenset(english_stop_words())
    for row in rows:
        told = {name: row[name] for name in SIGNALS}
        wanted = rpv2.signals(row["text"], stop_words)
        for name, spans in wanted.items():
            if isinstance(spans, list):
                wanted[name] = [{"start": start, "end": end, "value": value} for start, end, value in spans]
        assert told == wanted
