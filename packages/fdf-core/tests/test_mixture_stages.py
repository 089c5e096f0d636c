"""Mixtures over the rows of a stage: buckets, quantiles, modalities, and what is left out."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import PlanError, StageFailed


def rows_of(result, stage=-1):
    root = Path(result.stages[stage].root)
    entries = result.stages[stage].manifest["outputs"]
    return pa.concat_tables([pq.read_table(root / e["path"]) for e in entries])


@pytest.fixture
def scored(tmp_path):
    rng = np.random.default_rng(3)
    folder = tmp_path / "in"
    folder.mkdir()
    for part in range(4):
        quality = rng.random(500)
        texts = [f"{part}-{i} ".ljust(int(n), "x") for i, n in enumerate(rng.lognormal(4, 0.7, 500) + 8)]
        pq.write_table(pa.table({"text": texts, "quality": quality}), folder / f"{part}.parquet")
    return folder


def recipe(tmp_path, folder, mixture, *, name="buckets"):
    return {
        "name": name,
        "input": {"type": "parquet", "path": str(folder)},
        "stages": [
            {"name": "read", "operators": []},
            {"name": "mix", "materialize": {"drops": "full"}, "mixture": mixture},
        ],
        "output": {"type": "parquet", "path": str(tmp_path / f"out-{name}")},
    }


BUCKETS = (
    {"name": "high", "where": "quality >= 0.8", "weight": 0.6},
    {"name": "mid", "where": "quality >= 0.5", "weight": 0.3, "cap": 15_000},
    {"name": "rest", "weight": 0.1},
)


def test_buckets_have_their_shares_and_the_rest_is_dropped_with_its_bucket(home, tmp_path, scored):
    asked = recipe(tmp_path, scored, {"unit": "bytes", "buckets": list(BUCKETS)})
    result = fdf.run(asked, runner="serial")
    table, manifest = rows_of(result, 1), result.stages[1].manifest

    def bucket(quality):
        return "high" if quality >= 0.8 else "mid" if quality >= 0.5 else "rest"

    names = [bucket(q) for q in table["quality"].to_pylist()]
    assert [t[-1] for t in table["__fdf__/tags"].to_pylist()] == names
    shares = {"high": Fraction(6, 10), "mid": Fraction(3, 10), "rest": Fraction(1, 10)}
    delivered, units, worst = dict.fromkeys(shares, 0), 0, Fraction(0)
    sizes = [len(t) for t in table["text"].to_pylist()]
    for name, size in zip(names, sizes, strict=True):
        delivered[name] += size
        units += size
        worst = max(worst, *(abs(delivered[n] - w * units) for n, w in shares.items()))
    assert Fraction(manifest["mixture"]["max_abs_deviation"]) == worst < manifest["mixture"]["bound"]
    counts = manifest["counts"]
    assert counts["rows_in"] == 2000 == counts["rows_out"] + counts["rows_dropped"]
    dropped = pa.concat_tables([pq.read_table(Path(result.stages[1].root) / e["path"]) for e in manifest["dropped"]])
    assert set(dropped["__fdf__/drop_reason"].to_pylist()) == {"mixture"}
    told = [json.loads(e)["bucket"] for e in dropped["__fdf__/drop_evidence"].to_pylist()]
    assert told == [bucket(q) for q in dropped["quality"].to_pylist()]
    both = sorted([*table["__fdf__/id"].to_pylist(), *dropped["__fdf__/id"].to_pylist()])
    assert both == sorted(rows_of(result, 0)["__fdf__/id"].to_pylist())
    left = {b["name"]: b["rows"] for b in manifest["mixture"]["left_out"]}
    assert left == {n: told.count(n) for n in ("high", "mid", "rest") if told.count(n)}


def test_quantiles_split_the_rows_of_the_stage_before(home, tmp_path, scored):
    quality = np.sort(pq.read_table(scored)["quality"].to_numpy())
    for exact in (True, False):
        buckets = [
            {"name": "top", "quantile": {"field": "quality", "ge": 0.9, "exact": exact}, "weight": 1},
            {"name": "rest", "weight": 1},
        ]
        mixture = {"unit": "rows", "buckets": buckets, "on_exhausted": "renormalize"}
        result = fdf.run(recipe(tmp_path, scored, mixture, name=f"q{exact}"), runner="serial")
        leaf = result.stages[1].manifest["mixture"]["leaves"][0]
        if exact:
            # The 1,800th of 2,000 values is the least that nine in ten do not exceed.
            assert leaf["quantile"]["from"] == quality[1799]
            assert leaf["delivered"]["rows"] == 201
        else:
            assert abs(leaf["quantile"]["from"] / quality[1799] - 1) < 1 / 64
            assert leaf["quantile"]["by"] == "a histogram of the column"


def test_nested_buckets_and_rows_that_fit_none(home, tmp_path, scored):
    buckets = [
        {
            "name": "good",
            "where": "quality >= 0.5",
            "weight": 0.8,
            "buckets": [
                {"name": "long", "where": "length(text) >= 80", "weight": 0.75},
                {"name": "short", "where": "length(text) < 40", "weight": 0.25},
            ],
        },
        {"name": "poor", "where": "quality < 0.2", "weight": 0.2},
    ]
    result = fdf.run(
        recipe(tmp_path, scored, {"unit": "rows", "buckets": buckets, "on_exhausted": "renormalize"}),
        runner="serial",
    )
    source = pq.read_table(scored).to_pylist()
    good = [r for r in source if r["quality"] >= 0.5]
    mixture = result.stages[1].manifest["mixture"]
    assert [leaf["weight"] for leaf in mixture["leaves"]] == ["3/5", "1/5", "1/5"]
    assert {leaf["name"]: leaf["delivered"]["rows"] for leaf in mixture["leaves"]} == {
        "long": sum(len(r["text"]) >= 80 for r in good),
        "short": sum(len(r["text"]) < 40 for r in good),
        "poor": sum(r["quality"] < 0.2 for r in source),
    }
    assert {b["name"]: b["rows"] for b in mixture["left_out"]} == {
        "good": sum(40 <= len(r["text"]) < 80 for r in good),
        "(no bucket)": sum(0.2 <= r["quality"] < 0.5 for r in source),
    }


def test_modalities_are_buckets(home, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    images = pa.array([b"x" if i % 4 == 0 else None for i in range(400)], pa.binary())
    pq.write_table(pa.table({"text": [f"t{i}" for i in range(400)], "image": images}), folder / "a.parquet")
    buckets = [
        {"name": "pairs", "where": "modality = 'image_text'", "weight": 1},
        {"name": "text", "where": "modality = 'text'", "weight": 1},
    ]
    result = fdf.run(recipe(tmp_path, folder, {"unit": "rows", "buckets": buckets}), runner="serial")
    table = rows_of(result)
    assert table["image"].is_valid().to_pylist().count(True) == 100
    assert table.num_rows in (199, 200)


def test_an_empty_bucket_ends_at_once_or_is_an_error(home, tmp_path, scored):
    buckets = [{"name": "none", "where": "quality > 2", "weight": 1}, {"name": "all", "weight": 1}]
    with pytest.raises(StageFailed, match="`none` has no rows"):
        fdf.run(recipe(tmp_path, scored, {"unit": "rows", "buckets": buckets}), runner="serial")
    going_on = {"unit": "rows", "buckets": buckets, "on_exhausted": "renormalize"}
    result = fdf.run(recipe(tmp_path, scored, going_on, name="goes-on"), runner="serial")
    assert result.stages[1].manifest["counts"]["rows_out"] == 2000


def test_a_predicate_on_a_missing_column_is_a_plan_error(home, tmp_path, scored):
    buckets = [{"name": "a", "where": "qualty > 0.5", "weight": 1}, {"name": "b", "weight": 1}]
    with pytest.raises(PlanError, match="qualty"):
        fdf.run(recipe(tmp_path, scored, {"unit": "rows", "buckets": buckets}), runner="serial")
    buckets = [{"name": "a", "quantile": {"field": "qualty", "ge": 0.5}, "weight": 1}, {"name": "b", "weight": 1}]
    with pytest.raises(PlanError, match="bucket `a` needs the column `qualty`"):
        fdf.run(recipe(tmp_path, scored, {"unit": "rows", "buckets": buckets}), runner="serial")


def test_a_mixture_cannot_be_the_first_stage(home, tmp_path, scored):
    asked = recipe(tmp_path, scored, {"unit": "rows", "buckets": [{"name": "a", "weight": 1}]})
    asked["stages"] = asked["stages"][1:]
    with pytest.raises(PlanError, match="it is the first"):
        fdf.run(asked, runner="serial")


def test_a_rerun_does_nothing_and_another_weight_runs_again(home, tmp_path, scored):
    asked = recipe(tmp_path, scored, {"unit": "bytes", "buckets": list(BUCKETS)})
    first = fdf.run(asked, runner="serial")
    again = fdf.run(asked, runner="serial")
    assert again.stages[1].manifest["id"] == first.stages[1].manifest["id"]
    changed = [{**b, "weight": 1} for b in BUCKETS]
    other = fdf.run(recipe(tmp_path, scored, {"unit": "bytes", "buckets": changed}), runner="serial")
    assert other.stages[1].manifest["id"] != first.stages[1].manifest["id"]
