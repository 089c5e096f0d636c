"""Mixtures as runs: what is delivered, in which order, what each row says of where it came from, what is accounted."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import PlanError, RecipeError

WEIGHTS = {"web": 0.6, "code": 0.3, "math": 0.1}


@pytest.fixture
def lengths():
    rng = np.random.default_rng(7)
    return {name: rng.lognormal(5, 1, 800).astype(int) + 1 for name in WEIGHTS}


@pytest.fixture
def sources(tmp_path, lengths):
    """Three sources of texts whose lengths are log-normal, each in three files."""
    for name, sizes in lengths.items():
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        texts = [f"{name} {i} ".ljust(n, "x") for i, n in enumerate(sizes)]
        for part in range(3):
            rows = slice(part * 300, min(800, (part + 1) * 300))
            pq.write_table(pa.table({"text": texts[rows], "n": list(range(800))[rows]}), folder / f"{part}.parquet")
    return tmp_path / "in"


def recipe(tmp_path, sources, *, weights=None, name="mixed", stages=None, **settings):
    datasets = [
        {"name": n, "source": {"type": "parquet", "path": str(sources / n)}, "weight": w}
        for n, w in (weights or WEIGHTS).items()
    ]
    return {
        "name": name,
        "input": {"type": "mixture", "unit": "bytes", "datasets": datasets, **settings},
        "stages": [{"name": "s", "operators": []}] if stages is None else stages,
        "output": {"type": "parquet", "path": str(tmp_path / f"out-{name}")},
    }


def rows_of(result, stage=-1):
    root = Path(result.stages[stage].root)
    entries = result.stages[stage].manifest["outputs"]
    return pa.concat_tables([pq.read_table(root / e["path"]) for e in entries])


def prefix_deviations(table, weights):
    """The largest distance of any source from its share, in bytes, over all prefixes: computed from the rows."""
    whole = sum(Fraction(str(w)) for w in weights.values())
    sizes = [len(t.encode()) for t in table["text"].to_pylist()]
    names = table["__fdf__/source"].to_pylist()
    delivered, units, worst = dict.fromkeys(weights, 0), 0, Fraction(0)
    for name, size in zip(names, sizes, strict=True):
        delivered[name] += size
        units += size
        worst = max(worst, *(abs(delivered[n] - Fraction(str(w)) / whole * units) for n, w in weights.items()))
    return worst, max(sizes)


def test_each_prefix_is_within_one_document_of_its_share(home, tmp_path, sources):
    result = fdf.run(recipe(tmp_path, sources), runner="serial")
    table = rows_of(result)
    worst, largest = prefix_deviations(table, WEIGHTS)
    assert worst < largest
    mixture = result.stages[0].manifest["mixture"]
    assert Fraction(mixture["max_abs_deviation"]) == worst
    assert worst < mixture["bound"]
    assert {leaf["name"]: leaf["weight"] for leaf in mixture["leaves"]} == {
        "web": "3/5",
        "code": "3/10",
        "math": "1/10",
    }
    # The default policy stops where the first source runs out.
    assert [(e["name"], e["cause"], e["then"]) for e in mixture["events"]] == [("web", "epochs", "stopped")]
    assert table["__fdf__/source"].to_pylist().count("web") == 800


def test_rows_say_where_they_came_from(home, tmp_path, sources):
    table = rows_of(fdf.run(recipe(tmp_path, sources), runner="serial"))
    names = [t.split(" ")[0] for t in table["text"].to_pylist()]
    assert table["__fdf__/source"].to_pylist() == names
    assert table["__fdf__/tags"].to_pylist() == [[n] for n in names]
    ids = table["__fdf__/id"].to_pylist()
    assert len(set(ids)) == len(ids)
    # A row's id is that of the same source read alone: the position is the row number in its file.
    places = [int(i.rsplit(":", 1)[1]) for i in ids]
    assert [n % 300 for n in table["n"].to_pylist()] == places


def test_every_runner_and_worker_count_gives_the_same_bytes(home, tmp_path, sources, monkeypatch):
    monkeypatch.setattr("fdf.mixture.ranges.MOST_ROWS", 100)
    digests = {}
    for runner, workers in (("serial", None), ("local", 1), ("local", 3)):
        asked = recipe(tmp_path, sources, name=f"{runner}{workers}", on_exhausted="renormalize")
        result = fdf.run(asked, runner=runner, workers=workers)
        digests[runner, workers] = [e["sha256"] for e in result.stages[0].manifest["outputs"]]
    assert len({tuple(d) for d in digests.values()}) == 1


def test_a_mixture_delivers_every_row_once_when_all_are_read_to_their_end(home, tmp_path, sources):
    result = fdf.run(recipe(tmp_path, sources, on_exhausted="renormalize"), runner="serial")
    table = rows_of(result)
    assert sorted(table["text"].to_pylist()) == sorted(
        t for name in WEIGHTS for t in pq.read_table(sources / name)["text"].to_pylist()
    )
    assert [leaf["epochs"] for leaf in result.stages[0].manifest["mixture"]["leaves"]] == [1.0, 1.0, 1.0]


def test_another_source_leaves_the_order_inside_the_others_alone(home, tmp_path, sources):
    two = rows_of(fdf.run(recipe(tmp_path, sources, weights={"web": 0.6, "code": 0.4}, name="two"), runner="serial"))
    three = rows_of(fdf.run(recipe(tmp_path, sources, name="three"), runner="serial"))

    def inside(table, name):
        mask = [s == name for s in table["__fdf__/source"].to_pylist()]
        return [t for t, here in zip(table["text"].to_pylist(), mask, strict=True) if here]

    for name in ("web", "code"):
        a, b = inside(two, name), inside(three, name)
        assert a[: min(len(a), len(b))] == b[: min(len(a), len(b))]
    assert inside(three, "web") != sorted(inside(three, "web"))


def test_the_seed_decides_the_order_inside_a_source(home, tmp_path, sources):
    a = rows_of(fdf.run(recipe(tmp_path, sources, seed=1, name="a"), runner="serial"))
    b = rows_of(fdf.run(recipe(tmp_path, sources, seed=2, name="b"), runner="serial"))
    assert a["text"].to_pylist() != b["text"].to_pylist()


def test_sizes_that_are_remembered_do_not_change_the_order(home, tmp_path, sources, monkeypatch):
    monkeypatch.setenv("FDF_CACHE", str(tmp_path / "cache"))
    first = fdf.run(recipe(tmp_path, sources, name="a", on_exhausted="renormalize"), runner="serial")
    assert list((tmp_path / "cache" / "mixture-sizes").rglob("*.arrow"))
    again = fdf.run(recipe(tmp_path, sources, name="b", on_exhausted="renormalize"), runner="serial")
    assert rows_of(first)["__fdf__/id"].equals(rows_of(again)["__fdf__/id"])


def test_total_stops_with_the_document_that_crosses_it(home, tmp_path, sources):
    result = fdf.run(recipe(tmp_path, sources, total=20_000), runner="serial")
    sizes = [len(t) for t in rows_of(result)["text"].to_pylist()]
    assert sum(sizes[:-1]) < 20_000 <= sum(sizes)
    assert result.stages[0].manifest["mixture"]["units"] == sum(sizes)


def test_a_repeated_epoch_marks_its_ids_and_shuffles_anew(home, tmp_path, sources):
    asked = recipe(tmp_path, sources, weights={"math": 0.9, "web": 0.1}, unit="rows", on_exhausted="repeat", total=2000)
    table = rows_of(fdf.run(asked, runner="serial"))
    mine = [
        i
        for i, s in zip(table["__fdf__/id"].to_pylist(), table["__fdf__/source"].to_pylist(), strict=True)
        if s == "math"
    ]
    assert len(set(mine)) == len(mine) == 1800
    first, second = mine[:800], mine[800:1600]
    assert not any("#" in i for i in first)
    assert all(i.endswith("#1") for i in second)
    assert sorted(i.removesuffix("#1") for i in second) == sorted(first)
    assert [i.removesuffix("#1") for i in second] != first
    assert all(i.endswith("#2") for i in mine[1600:])


def test_columns_unify_by_name(home, tmp_path):
    for name, table in (
        ("a", pa.table({"text": ["one", "two"], "score": pa.array([1, 2], pa.int32())})),
        ("b", pa.table({"content": ["three"], "score": pa.array([0.5]), "url": ["u"]})),
    ):
        (tmp_path / "in" / name).mkdir(parents=True)
        pq.write_table(table, tmp_path / "in" / name / "x.parquet")
    asked = recipe(tmp_path, tmp_path / "in", weights={"a": 1, "b": 1}, on_exhausted="renormalize")
    table = rows_of(fdf.run(asked, runner="serial"))
    rows = sorted(table.select(["text", "score", "url"]).to_pylist(), key=lambda r: r["score"])
    assert rows == [
        {"text": "three", "score": 0.5, "url": "u"},
        {"text": "one", "score": 1.0, "url": None},
        {"text": "two", "score": 2.0, "url": None},
    ]


def test_types_that_cannot_meet_name_both_sources(home, tmp_path):
    for name, table in (("a", pa.table({"text": ["x"], "n": [1]})), ("b", pa.table({"text": ["x"], "n": ["1"]}))):
        (tmp_path / "in" / name).mkdir(parents=True)
        pq.write_table(table, tmp_path / "in" / name / "x.parquet")
    with pytest.raises(PlanError, match=r"column `n` is int64 in `a` and string in `b`"):
        fdf.run(recipe(tmp_path, tmp_path / "in", weights={"a": 1, "b": 1}), runner="serial")


def test_a_row_that_cannot_be_read_is_charged_as_planned_and_set_aside(home, tmp_path):
    folder = tmp_path / "in" / "a"
    folder.mkdir(parents=True)
    lines = [json.dumps({"text": f"row {i} " + "x" * 40, "n": i}) for i in range(50)]
    lines[17] = json.dumps({"text": "row 17 " + "x" * 40, "n": "not a number"})
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    asked = recipe(tmp_path, tmp_path / "in", weights={"a": 1})
    asked["input"]["datasets"][0]["source"] = {"type": "jsonl", "path": str(folder), "schema": {"n": "int64"}}
    result = fdf.run(asked, runner="serial")
    manifest = result.stages[0].manifest
    assert manifest["counts"]["rows_in"] == 50
    assert manifest["counts"]["rows_quarantined"] == 1
    quarantined = pq.read_table(Path(result.stages[0].root) / manifest["quarantine"][0]["path"])
    assert quarantined["__fdf__/source"].to_pylist() == ["a"]
    whole = pq.read_table(Path(result.stages[0].root) / manifest["outputs"][0]["path"])
    prefix = whole["__fdf__/id"][0].as_py().split(":")[0]
    assert quarantined["__fdf__/id"].to_pylist() == [f"{prefix}:{sum(len(x) + 1 for x in lines[:17])}"]
    (leaf,) = manifest["mixture"]["leaves"]
    assert leaf["planned"] == leaf["delivered"] == {"rows": 50, "units": sum(len(json.loads(x)["text"]) for x in lines)}
    assert leaf["final"]["rows"] == 49


def test_the_output_says_what_filters_left_of_each_source(home, tmp_path, sources):
    where = {"id": "f", "kind": "filter", "op": "ExpressionFilter", "params": {"keep": "length(text) >= 100"}}
    stages = [{"name": "s", "operators": [where]}]
    result = fdf.run(recipe(tmp_path, sources, stages=stages, on_exhausted="renormalize"), runner="serial")
    leaves = result.stages[-1].manifest["mixture"]["leaves"]
    kept = rows_of(result)
    for leaf in leaves:
        mine = [
            len(t)
            for t, s in zip(kept["text"].to_pylist(), kept["__fdf__/source"].to_pylist(), strict=True)
            if s == leaf["name"]
        ]
        assert leaf["final"] == {"rows": len(mine), "units": sum(mine)}
        assert leaf["planned"]["rows"] == 800 > leaf["final"]["rows"] > 0


def test_limit_reads_the_first_rows_of_the_schedule(home, tmp_path, sources):
    whole = rows_of(fdf.run(recipe(tmp_path, sources, name="whole"), runner="serial"))
    few = rows_of(fdf.run(recipe(tmp_path, sources, name="few"), runner="serial", limit=37))
    assert few["text"].to_pylist() == whole["text"].to_pylist()[:37]


def test_a_new_file_makes_another_dataset(home, tmp_path, sources):
    asked = recipe(tmp_path, sources, on_exhausted="renormalize")
    first = fdf.run(asked, runner="serial")
    before = rows_of(first).num_rows
    pq.write_table(pa.table({"text": ["math new"], "n": [0]}), sources / "math" / "9.parquet")
    second = fdf.run(asked, runner="serial")
    hashes = [r.stages[0].manifest["mixture"]["plan_hash"] for r in (first, second)]
    assert hashes[0] != hashes[1]
    assert rows_of(second).num_rows == before + 1


def test_names_of_shards_sort_as_the_schedule_runs(home, tmp_path, sources, monkeypatch):
    monkeypatch.setattr("fdf.mixture.ranges.MOST_ROWS", 150)
    asked = recipe(tmp_path, sources, on_exhausted="renormalize")
    asked["output"]["shard_size"] = "20 KB"
    result = fdf.run(asked, runner="serial")
    for stage in result.stages:
        paths = [e["path"] for e in stage.manifest["outputs"]]
        assert len(paths) > 1
        assert paths == sorted(paths)


def test_duplicate_names_are_told(tmp_path, sources):
    asked = recipe(tmp_path, sources)
    asked["input"]["datasets"][1]["name"] = "web"
    with pytest.raises(RecipeError, match="two datasets are named `web`"):
        fdf.run(asked, runner="serial")


@pytest.mark.parametrize("kind", ["gz", "row group"])
def test_slices_that_cannot_be_entered_in_the_middle_are_read_once(home, tmp_path, monkeypatch, kind):
    import gzip

    from fdf.sources.jsonl import JsonlSource
    from fdf.sources.parquet import ParquetSource

    monkeypatch.setattr("fdf.mixture.ranges.MOST_ROWS", 200)
    for name in ("a", "b"):
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        rows = [{"text": f"{name} {i}"} for i in range(3000)]
        if kind == "gz":
            (folder / "x.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
        else:
            pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    source = JsonlSource if kind == "gz" else ParquetSource
    opened = []
    reading = source.read

    def counted(self, piece, *, schema):
        opened.append(piece)
        return reading(self, piece, schema=schema)

    monkeypatch.setattr(source, "read", counted)
    asked = recipe(tmp_path, tmp_path / "in", weights={"a": 1, "b": 3}, on_exhausted="renormalize")
    for dataset in asked["input"]["datasets"]:
        dataset["source"]["type"] = source.type
    result = fdf.run(asked, runner="serial")
    assert result.stages[0].manifest["counts"]["rows_out"] == 6000
    # Thirty ranges: once per source to measure it, and once to read it.
    assert len(opened) == 4
    assert sorted(rows_of(result)["text"].to_pylist()) == sorted(f"{n} {i}" for n in "ab" for i in range(3000))


def test_the_first_range_is_handed_out_before_a_large_source_is_measured(home, tmp_path, monkeypatch):
    from fdf.plan.compile import compile_plan
    from fdf.recipe import load
    from fdf.sources.parquet import ParquetSource
    from fdf.stage.mixing import open_mixture

    for name, files in (("large", 40), ("small", 1)):
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        for part in range(files):
            pq.write_table(pa.table({"text": [f"{name} {part} {i}" for i in range(500)]}), folder / f"{part}.parquet")
    measured = []
    reading = ParquetSource.read

    def counted(self, piece, *, schema):
        measured.append(piece.file.path)
        return reading(self, piece, schema=schema)

    monkeypatch.setattr(ParquetSource, "read", counted)
    monkeypatch.setattr("fdf.mixture.ranges.MOST_ROWS", 200)
    plan = compile_plan(load(recipe(tmp_path, tmp_path / "in", weights={"large": 1, "small": 1})))
    stage = plan.stages[0]
    tasks = open_mixture(stage.mixture, stage.job, None, None, limit=None).tasks(stage.job)
    next(tasks)
    tasks.close()
    assert 0 < len(measured) < 10


def test_groups_of_datasets_share_among_themselves(home, tmp_path, sources):
    asked = recipe(tmp_path, sources, unit="rows", on_exhausted="renormalize")
    web, code, math = asked["input"]["datasets"]
    group = {"name": "technical", "weight": 1, "datasets": [{**code, "weight": 3}, {**math, "weight": 1}]}
    asked["input"]["datasets"] = [{**web, "weight": 1}, group]
    result = fdf.run(asked, runner="serial")
    leaves = result.stages[0].manifest["mixture"]["leaves"]
    assert [(leaf["name"], leaf["weight"]) for leaf in leaves] == [("web", "1/2"), ("code", "3/8"), ("math", "1/8")]
    names = rows_of(result)["__fdf__/source"].to_pylist()
    assert all(abs(names[:n].count("code") - 3 * n / 8) < 1 for n in range(1, 1500))


def test_a_dataset_has_a_source_or_datasets(tmp_path, sources):
    asked = recipe(tmp_path, sources)
    del asked["input"]["datasets"][0]["source"]
    with pytest.raises(RecipeError, match="needs `source` or `datasets`"):
        fdf.run(asked, runner="serial")


def test_a_total_that_is_not_reached_is_said(home, tmp_path, sources):
    said = []
    fdf.run(recipe(tmp_path, sources, total=10**9), runner="serial", on_event=said.append)
    (warning,) = [e.data["message"] for e in said if e.kind == "warning"]
    assert warning.startswith("the mixture stopped at ")
    assert warning.endswith("of 1,000,000,000 bytes: `web` ended by its epochs")
