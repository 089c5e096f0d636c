"""Mixtures under recipes that go looking for trouble: ids, counts and ends hold where features meet."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import FdfError, PlanError, RecipeError


@pytest.fixture
def mix(home, tmp_path):
    """Run a mixture of tables (or paths) with equal weights."""

    def run(
        data: dict[str, Any],
        *,
        stages: list[dict[str, Any]] | None = None,
        source: dict[str, Any] | None = None,
        name: str = "m",
        **keys: Any,
    ) -> Any:
        datasets = []
        for leaf, given in data.items():
            path = tmp_path / f"{leaf}.parquet"
            if isinstance(given, dict):
                pq.write_table(pa.table(given), path)
            else:
                path = given
            kind = "parquet" if path.suffix == ".parquet" else "jsonl"
            datasets.append({"name": leaf, "weight": 1, "source": {"type": kind, "path": str(path), **(source or {})}})
        recipe = {
            "name": name,
            "input": {"type": "mixture", "datasets": datasets, **keys},
            "stages": [{"name": "s", "operators": []}, *(stages or [])],
        }
        return fdf.run(recipe, runner="serial")

    return run


def rows_of(result, stage=-1):
    made = result.stages[stage]
    return pa.concat_tables([pq.read_table(Path(made.root) / e["path"]) for e in made.manifest["outputs"]])


def mixture_of(result, stage=-1):
    return result.stages[stage].manifest["mixture"]


def buckets(*listed, **keys):
    return {"name": keys.pop("name", "again"), "mixture": {"buckets": list(listed), **keys}}


def test_ids_stay_unique_where_a_stage_repeats_what_the_input_repeated(mix):
    twice = {"epochs": 2, "weight": 1}
    stages = [
        buckets({"name": "a", **twice}, name=name, on_exhausted="repeat", total=total)
        for name, total in (("second", 40), ("third", 80))
    ]
    result = mix({"one": {"n": list(range(10))}}, stages=stages, on_exhausted="repeat", total=20)
    for stage, copies in ((0, 2), (1, 4), (2, 8)):
        table = rows_of(result, stage)
        assert Counter(table["n"].to_pylist()) == dict.fromkeys(range(10), copies)
        assert len(set(table["__fdf__/id"].to_pylist())) == 10 * copies


@pytest.mark.parametrize(
    ("unit", "first", "second", "each"),
    [
        ("tokens", {"tokens": [7] * 30, "text": ["x"] * 30}, {"text": ["y" * 20] * 30}, (7, 5)),
        ("images", {"image": [b"i"] * 30}, {"images": [[b"i", b"j"]] * 30}, (1, 2)),
        ("bytes", {"text": ["x" * 9] * 30}, {"image": [b"i" * 11] * 30}, (9, 11)),
    ],
)
def test_kept_rows_are_counted_by_what_their_own_dataset_has(mix, unit, first, second, each):
    again = buckets({"name": "all", "weight": 1}, unit=unit)
    result = mix({"first": first, "second": second}, stages=[again], unit=unit, on_exhausted="renormalize")
    expected = {"first": {"rows": 30, "units": 30 * each[0]}, "second": {"rows": 30, "units": 30 * each[1]}}
    leaves = mixture_of(result, 0)["leaves"]
    assert {leaf["name"]: leaf["delivered"] for leaf in leaves} == expected
    assert {leaf["name"]: leaf["final"] for leaf in leaves} == expected
    assert mixture_of(result)["final"] == expected
    assert mixture_of(result)["leaves"][0]["delivered"] == {"rows": 60, "units": 30 * sum(each)}


def test_a_stage_that_would_repeat_without_end_is_refused(mix):
    with pytest.raises(PlanError, match="never end"):
        mix({"one": {"n": [1, 2]}}, stages=[buckets({"name": "a", "weight": 1}, on_exhausted="repeat")])


def test_points_by_step_and_by_units_must_rise_together(mix):
    schedule = [{"at": 100, "weights": {"one": 2}}, {"at_step": 2, "weights": {"one": 3}}]
    with pytest.raises(RecipeError, match="must rise"):
        mix({"one": {"n": [1]}, "two": {"n": [2]}}, units_per_step=10, schedule=schedule)


def test_a_column_that_breaks_after_it_was_measured_is_passed_by(mix, tmp_path):
    path = tmp_path / "broken.parquet"
    table = pa.table({"text": [f"t{i}" for i in range(2000)], "image": [bytes([i % 251]) * 400 for i in range(2000)]})
    pq.write_table(table, path, row_group_size=500, use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(2).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 64] = b"\xff" * 64
    path.write_bytes(data)
    good = {"text": ["g" * 5] * 2000}
    result = mix({"good": good, "bad": path}, unit="bytes", source={"on_bad_file": "skip"}, on_exhausted="renormalize")
    counts, leaves = result.stages[0].manifest["counts"], {n["name"]: n for n in mixture_of(result)["leaves"]}
    assert leaves["bad"]["planned"]["rows"] == 2000
    assert 0 < leaves["bad"]["final"]["rows"] < 2000
    assert leaves["good"]["final"]["rows"] == 2000
    assert counts["rows_in"] == counts["rows_out"] == 2000 + leaves["bad"]["final"]["rows"]
    assert any(i.get("error") for i in result.stages[0].manifest["inputs"])
    with pytest.raises(FdfError, match=r"broken\.parquet"):
        mix({"good": good, "bad": path}, unit="bytes", on_exhausted="renormalize", name="strict")


def test_what_was_measured_of_a_file_that_broke_does_not_hide_it_later(mix, tmp_path):
    path = tmp_path / "cut.jsonl.gz"
    rows = "".join(json.dumps({"text": f"{i * 7919 % 65536:016b}" * 20}) + "\n" for i in range(30_000))
    whole = gzip.compress(rows.encode())
    path.write_bytes(whole[: len(whole) - 2000])
    result = mix({"cut": path}, source={"on_bad_file": "skip"}, unit="bytes")
    assert 0 < rows_of(result).num_rows < 30_000
    with pytest.raises(FdfError, match=r"cut\.jsonl\.gz cannot be read"):
        mix({"cut": path}, unit="bytes", name="strict")


@pytest.mark.parametrize("exact", [True, False])
def test_buckets_of_all_quantiles_hold_all_rows(mix, exact):
    halves = [
        {"name": name, "weight": 1, "quantile": {"field": "n", "exact": exact, "ge": low, "lt": high}}
        for name, low, high in (("low", 0, 0.5), ("high", 0.5, 1))
    ]
    result = mix({"one": {"n": list(range(100))}}, stages=[buckets(*halves, on_exhausted="renormalize")])
    assert sorted(rows_of(result)["n"].to_pylist()) == list(range(100))
    assert mixture_of(result)["left_out"] == []


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int32(), 8), pa.large_list(pa.int32()), pa.list_(pa.int32())], ids=["fixed", "large", "list"]
)
def test_lists_of_every_kind_are_counted(mix, kind):
    tokens = {"tokens": pa.array([[1] * 8] * 20 + [None], kind)}
    images = {"images": pa.array([[1] * 8] * 20 + [None], kind)}
    for unit, data in (("tokens", tokens), ("images", images)):
        result = mix({"one": data}, unit=unit, name=unit)
        assert mixture_of(result)["leaves"][0]["delivered"] == {"rows": 21, "units": 160}


def test_a_file_that_changed_under_an_unfinished_run_is_read_as_it_is_now(mix, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()

    def write(name: str, mark: str, cut: int = 0) -> None:
        lines = "".join(json.dumps({"text": f"{mark}{i * 7919 % 65536:016b}" * 20}) + "\n" for i in range(30_000))
        data = gzip.compress(lines.encode())
        (folder / name).write_bytes(data[: len(data) - cut])

    # The one that is whole is measured first, with this name for the source.
    write("0.jsonl.gz", "a")
    write("1.jsonl.gz", "a", cut=3000)
    with pytest.raises(FdfError, match="cannot be read"):
        mix({"zz": folder})
    # As many rows of the same sizes: nothing but the file's version tells them apart.
    write("0.jsonl.gz", "b")
    write("1.jsonl.gz", "b")
    texts = rows_of(mix({"zz": folder}))["text"].to_pylist()
    assert len(texts) == 60_000
    assert {text[0] for text in texts} == {"b"}


def test_a_file_that_changes_between_measuring_and_reading_fails_and_runs_again(home, tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["a"] * 50}), path)
    source = {"type": "parquet", "path": str(path)}
    recipe = {
        "name": "m",
        "input": {"type": "mixture", "datasets": [{"name": "one", "weight": 1, "source": source}]},
        "stages": [{"name": "s", "operators": []}],
    }

    def change(event):
        if event.kind == "split_started":
            pq.write_table(pa.table({"text": ["b"] * 20}), path)

    with pytest.raises(FdfError, match=r"holds 20 of the 50 rows"):
        fdf.run(recipe, runner="serial", on_event=change)
    assert rows_of(fdf.run(recipe, runner="serial"))["text"].to_pylist() == ["b"] * 20
