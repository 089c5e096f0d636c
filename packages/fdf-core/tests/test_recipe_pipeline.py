"""`fdf.Pipeline`: a recipe written in Python equals the one written in YAML."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from fdf import recipe
from fdf.errors import RecipeError
from fdf.operators.column_stats import ColumnStats
from fdf.operators.threshold import ThresholdFilter
from fdf.recipe import Pipeline, Step

YAML = """\
name: web
seed: 7
input: { type: parquet, path: in/ }
stages:
  - name: clean
    materialize: { path: "out/{{run_id}}/clean", mode: overwrite }
    operators:
      - { id: filter.low, kind: filter, op: ThresholdFilter, params: { field: score, ge: 0.5 } }
      - { id: stats, kind: evaluator, op: ColumnStats, require: ["rows >= 1"], when: "lang = 'en'" }
output: { type: parquet, path: final/, shard_size: 64 MiB }
"""


def pipeline() -> Pipeline:
    return (
        Pipeline("web", seed=7)
        .read("parquet", path="in/")
        .stage(
            "clean",
            [
                ("filter.low", ThresholdFilter(field="score", ge=0.5)),
                Step(ColumnStats(), id="stats", require=["rows >= 1"], when="lang = 'en'"),
            ],
            path="out/{{run_id}}/clean",
            mode="overwrite",
        )
        .write("parquet", path="final/", shard_size="64 MiB")
    )


def test_python_and_yaml_that_say_the_same_make_the_same_recipe():
    ours, theirs = pipeline().recipe(), recipe.load(YAML)
    assert ours.resolved == theirs.resolved
    assert (ours.config_hash, ours.run_id) == (theirs.config_hash, theirs.run_id)
    assert [o.operator for o in ours.stages[0].operators] == [o.operator for o in theirs.stages[0].operators]
    assert ours.stages[0].materialize == theirs.stages[0].materialize


def test_the_instance_handed_in_is_the_one_that_runs():
    operator = ThresholdFilter(field="score", ge=0.5)
    built = Pipeline("p").read("parquet", path="x").stage("s", [operator]).recipe()
    assert built.stages[0].operators[0].operator is operator
    assert built.stages[0].operators[0].id == "filter.ThresholdFilter"
    assert built.stages[0].operators[0].distribution == "fdf-core"


def test_an_override_reaches_an_operator_made_in_python():
    built = pipeline().recipe(sets=["stages.clean.operators.filter.low.params.ge=0.9"])
    assert built.stages[0].operators[0].operator == ThresholdFilter(field="score", ge=0.9)


def test_a_common_beginning_can_be_kept():
    start = Pipeline("p").read("parquet", path="x")
    one = start.stage("a", [ThresholdFilter(field="x", ge=1)])
    two = start.stage("b", [ThresholdFilter(field="x", ge=2)])
    assert [s.name for s in one.recipe().stages] == ["a"]
    assert [s.name for s in two.recipe().stages] == ["b"]


def test_a_mapping_like_in_yaml_is_an_operator_too():
    given = {"id": "f", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "x", "ge": 1}}
    built = Pipeline("p").read("parquet", path="x").stage("s", [given]).recipe()
    assert built.stages[0].operators[0].operator == ThresholdFilter(field="x", ge=1)


def test_mistakes_made_in_python_are_told_together_with_where_they_are():
    twice = ThresholdFilter(field="x", ge=1)
    wrong = Pipeline("p").read("parquet", pth="x").stage("s", [twice, twice]).write("parquet", path="o", mode="append")
    with pytest.raises(RecipeError) as caught:
        wrong.recipe()
    assert sorted(p.code for p in caught.value.problems) == ["FDF110", "FDF113", "FDF204"]


def test_a_class_in_place_of_an_instance_says_what_to_do():
    with pytest.raises(RecipeError, match="is no operator"):
        Pipeline("p").stage("s", [ThresholdFilter])


@pytest.mark.parametrize("make", [lambda t: t, lambda t: t.to_pylist(), lambda t: __import__("polars").from_arrow(t)])
def test_rows_in_memory_are_an_input(tmp_path, monkeypatch, make):
    monkeypatch.setenv("FDF_HOME", str(tmp_path))
    rows = make(pa.table({"text": ["a", "b", None]}))
    built = Pipeline("p").read(rows, name="mine").stage("s", [ThresholdFilter(field="n", ge=1)]).recipe()
    source = built.input.source
    assert (built.input.name, source.type) == ("mine", "memory")
    (split,) = source.splits()
    (batch,) = source.read(split.slices[0], schema=pa.schema({"text": pa.string()}))
    assert batch.rows.column("text").to_pylist() == ["a", "b", None]


def test_paths_and_tuples_are_plain_data_and_objects_are_a_finding():
    start = Pipeline("p").stage("s", [ThresholdFilter(field="n", ge=1)])
    assert start.read("parquet", path=(Path("a"), Path("b"))).recipe().input.source.path == ["a", "b"]
    with pytest.raises(RecipeError, match=r"`input.path`") as caught:
        start.read("parquet", path=object()).recipe()
    assert caught.value.problems[0].code == "FDF104"
