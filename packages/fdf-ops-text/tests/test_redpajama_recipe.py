from __future__ import annotations

import gzip
import json
import os
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from references import rpv2

import fdf
from fdf_ops_text.redpajama_signals import SIGNALS, english_stop_words

ROOT = Path(__file__).parents[3]
WEB = Path(os.environ.get("FDF_TEST_DATA", ROOT / "../shared/data")) / "web_mdn" / "mdn-00003-of-00016.jsonl.gz"
RECIPE = ROOT / "packages/fdf-ops-text/src/fdf_ops_text/pipelines/redpajama_v2_signals.yaml"


needs_web = pytest.mark.skipif(not WEB.exists(), reason="needs the test data (FDF_TEST_DATA)")


def pages_in(folder, count):
    """Put some web pages into a folder, and return them as lines of JSON."""
    with gzip.open(WEB, "rb") as file:
        lines = list(islice(file, count))
    with gzip.open(folder / "pages.jsonl.gz", "wb") as file:
        file.writelines(lines)
    return lines


def written(result, out):
    tables = [pq.read_table(out / entry["path"]) for entry in result.manifest["outputs"]]
    return pa.concat_tables(tables).to_pylist()


@needs_web
def test_bundled_recipe_writes_the_signals_of_web_pages_beside_them(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    lines = pages_in(tmp_path, 150)
    out = tmp_path / "out"
    sets = (f"vars.input={tmp_path}/*.jsonl.gz", f"vars.output={out}")
    result = fdf.run(str(RECIPE), sets=sets, runner="serial")
    rows = written(result, out)
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


@needs_web
def test_stop_words_of_a_file_are_a_parameter_so_that_changed_ones_count_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    texts = [json.loads(line)["text"] for line in pages_in(tmp_path, 5)]
    name, listed = "rps_doc_stop_word_fraction", tmp_path / "words.txt"
    recipe = yaml.safe_load(RECIPE.read_text("utf-8"))
    recipe["stages"][0]["operators"][0]["params"] = {"signals": [name], "stop_words": str(listed)}
    sets = (f"vars.input={tmp_path}/*.jsonl.gz", f"vars.output={tmp_path / 'out'}")
    for words in (["the", "of"], ["and"]):
        listed.write_text("\n".join(words), encoding="utf-8")
        result = fdf.run(recipe, sets=sets, runner="serial")
        assert [row[name] for row in written(result, tmp_path / "out")] == [
            rpv2.signals(text, frozenset(words))[name] for text in texts
        ]
        assert json.dumps(words) in json.dumps(result.manifests["signals"])
