"""Recipes on real data, checked against a reading of it with gzip, json and tarfile."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import fdf


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))


def part(root: Path, manifest: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [row for entry in manifest[name] for row in pq.read_table(root / entry["path"]).to_pylist()]


def test_web_pages_are_scored_filtered_and_written_as_parquet(tmp_path, real_data):
    files = sorted((real_data / "web_mdn").glob("mdn-0000[03]-of-*.jsonl.gz"))
    assert len(files) == 2
    pages: dict[str, dict[str, Any]] = {}
    for file in files:
        prefix = hashlib.sha256(f"web\0{file.name}".encode()).hexdigest()[:16]
        offset = 0
        with gzip.open(file) as lines:
            for line in lines:
                pages[f"{prefix}:{offset}"] = json.loads(line)
                offset += len(line)
    recipe = {
        "name": "web",
        "input": {"type": "jsonl", "name": "web", "path": [str(f) for f in files]},
        "stages": [
            {
                "name": "clean",
                "materialize": {"path": str(tmp_path / "clean"), "drops": "full"},
                "operators": [
                    {"id": "count", "kind": "filter", "op": "WordCountFilter", "params": {"min_words": 80}},
                    {"id": "quality", "kind": "score", "op": "TextQualityScorer"},
                    {
                        "id": "good",
                        "kind": "filter",
                        "op": "ThresholdFilter",
                        "params": {"field": "text_quality_score", "ge": 0.6},
                    },
                ],
            }
        ],
        "output": {"type": "parquet", "path": str(tmp_path / "out")},
    }
    result = fdf.run(recipe, runner="local", workers=2)
    kept = part(tmp_path / "out", result.manifest, "outputs")
    dropped = part(tmp_path / "clean", result.manifests["clean"], "dropped")
    assert result.manifests["clean"]["counts"]["rows_in"] == len(pages)
    assert {r["__fdf__/id"] for r in kept} | {r["__fdf__/id"] for r in dropped} == pages.keys()
    assert len(kept) + len(dropped) == len(pages)
    assert [r["__fdf__/id"] for r in kept] == [i for i in pages if i in {r["__fdf__/id"] for r in kept}]
    for row in (*kept, *dropped):
        page = pages[row["__fdf__/id"]]
        assert {name: row[name] for name in page} == page
    short = {i for i, page in pages.items() if len(page["text"].split()) < 80}
    assert {r["__fdf__/id"] for r in dropped if r["__fdf__/dropped_by"] == "count"} == short
    bad = [r for r in dropped if r["__fdf__/dropped_by"] == "good"]
    assert bad
    assert all(json.loads(r["__fdf__/drop_evidence"])["value"] < 0.6 for r in bad)
    assert all(0.6 <= r["text_quality_score"] <= 1 for r in kept)
    assert ds.dataset(str(tmp_path / "out")).count_rows() == len(kept)


def samples(files: list[Path]) -> list[dict[str, bytes]]:
    """Return each sample's members by extension, in order."""
    found: list[dict[str, bytes]] = []
    for file in files:
        last = None
        with tarfile.open(file) as archive:
            for member in archive:
                key, _, extension = member.name.partition(".")
                if key != last:
                    found.append({})
                    last = key
                data = archive.extractfile(member)
                assert data is not None
                found[-1][extension] = data.read()
    return found


def image_of(sample: dict[str, bytes]) -> bytes:
    (image,) = (data for extension, data in sample.items() if extension in ("jpg", "png", "gif", "webp", "jpeg"))
    return image


def test_images_are_filtered_on_their_caption_and_written_as_webdataset_and_parquet(tmp_path, real_data):
    files = sorted((real_data / "wds").glob("*.tar"))
    everything = samples(files)
    wanted = [s for s in everything if len(s["txt"].decode()) >= 20]
    assert 0 < len(wanted) < len(everything)
    ids = {}
    for kind in ("parquet", "webdataset"):
        recipe = {
            "name": f"captions-{kind}",
            "input": {"type": "webdataset", "name": "alt", "path": f"{real_data}/wds/*.tar"},
            "stages": [
                {
                    "name": "captions",
                    "materialize": {"path": str(tmp_path / kind / "captions")},
                    "operators": [
                        {
                            "id": "long",
                            "kind": "filter",
                            "op": "ExpressionFilter",
                            "params": {"keep": "length(text) >= 20"},
                        },
                        {"id": "count", "kind": "score", "op": "TextStatistics"},
                    ],
                }
            ],
            "output": {"type": kind, "path": str(tmp_path / kind / "out"), "shard_size": 4 << 20},
        }
        result = fdf.run(recipe, runner="serial")
        counts = result.manifests["captions"]["counts"]
        assert (counts["rows_in"], counts["rows_out"]) == (len(everything), len(wanted))
        assert counts["rows_quarantined"] == 0
        ids[kind] = [s.manifest["counts"]["rows_out"] for s in result.stages]
        if kind == "parquet":
            rows = part(tmp_path / kind / "out", result.manifest, "outputs")
            assert [(r["text"], r["image"]) for r in rows] == [(s["txt"].decode(), image_of(s)) for s in wanted]
            continue
        written = samples([tmp_path / kind / "out" / e["path"] for e in result.manifest["outputs"]])
        assert len(result.manifest["outputs"]) > 1
        assert [(s["txt"], image_of(s)) for s in written] == [(s["txt"], image_of(s)) for s in wanted]
    assert ids["parquet"] == ids["webdataset"]
