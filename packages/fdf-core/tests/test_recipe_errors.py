"""A recipe's mistakes: all told at once, each at its line and column, with what was probably meant."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from fdf import recipe, registry
from fdf.errors import RecipeError
from fdf.recipe import parameters

FIVE = """\
name: five-mistakes
input:
  type: parquet
  path: data/*.parquet
  colums: { text: content }
stages:
  - name: clean
    materialise: { path: out/clean }
    operators:
      - id: filter.words
        kind: filter
        op: TresholdFilter
      - id: filter.score
        kind: score
        op: ThresholdFilter
        params: { fild: score, ge: 0.5 }
output: { type: parquet, path: out/final }
"""


def found(source, **options):
    """The findings as (code, line, column, hint)."""
    problems = recipe.check(source, **options)
    return [(p.code, p.place and p.place.line, p.place and p.place.column, p.hint) for p in problems]


def only(source, **options):
    problems = recipe.check(source, **options)
    assert len(problems) == 1, [p.render() for p in problems]
    return problems[0]


def minimal(**changes):
    return {
        "name": "m",
        "input": {"type": "parquet", "path": "x"},
        "output": {"type": "parquet", "path": "o"},
        **changes,
    }


def with_operator(**changes):
    operator = {"id": "f", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "a", "ge": 1}, **changes}
    return minimal(stages=[{"name": "s", "operators": [operator]}])


def test_five_mistakes_are_told_at_once_with_line_column_and_suggestion():
    assert found(FIVE) == [
        ("FDF110", 5, 3, "did you mean `columns`?"),
        ("FDF110", 8, 5, "did you mean `materialize`?"),
        ("FDF201", 12, 13, "did you mean `ThresholdFilter`?"),
        ("FDF205", 14, 15, "it is of kind `filter`"),
        ("FDF213", 16, 19, "did you mean `field`?"),
    ]


def test_an_unknown_parameter_reads_as_the_design_shows_it(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "name: r\ninput: { type: parquet, path: x }\nstages:\n  - name: s\n    operators:\n      - id: f\n"
        "        kind: filter\n        op: ThresholdFilter\n        params:\n          field: a\n          gee: 0.5\n"
    )
    with pytest.raises(RecipeError) as caught:
        recipe.load(file)
    assert str(caught.value) == (
        "error[FDF213]: unknown parameter `gee` for ThresholdFilter\n"
        f"  --> {file}:11:11\n"
        "   |\n"
        "11 |           gee: 0.5\n"
        "   |           ^^^ did you mean `ge`?\n"
        "   = help: fdf ops show ThresholdFilter"
    )


@pytest.fixture
def readme_recipe():
    data = Path(os.environ.get("FDF_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
    file = data.parent / "vlm-recipe-v1.yaml"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    if not any(o.name == "TextQualityScorer" for o in registry.operators()):
        pytest.skip("fdf-ops-text is not installed")
    return file


def test_the_readme_recipe_lacks_only_the_packages_that_are_not_installed(readme_recipe, monkeypatch):
    module = sys.modules["fdf.registry.entries"]
    found = module._entries

    def without_vision(group, restrict):
        return tuple(e for e in found(group, restrict) if e.distribution != "fdf-ops-vision")

    monkeypatch.setattr(module, "_entries", without_vision)
    problems = recipe.check(readme_recipe)
    assert [(p.code, p.place.line, p.help) for p in problems] == [
        ("FDF203", 37, "pip install fdf-ops-vision"),
        ("FDF203", 44, "pip install fdf-ops-vision"),
    ]
    assert "`SigLIPEncoder`" in problems[0].message
    assert "`LLaVACaptioner`" in problems[1].message


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("name: [a,\n", "FDF101", 2, 1),
        ("name: a\n\tseed: 1\n", "FDF101", 2, 1),
        ("name: a\nname: b\ninput: {type: parquet, path: x}\noutput: {type: parquet, path: y}\n", "FDF102", 2, 1),
        ("- name\n- input\n", "FDF112", 1, 1),
        ("\n\n", "FDF112", 1, 1),
        ("a: 1\n---\nb: 2\n", "FDF101", 2, 1),
        ("name: \x07\n", "FDF101", 1, 7),
        ("name: *nobody\n", "FDF101", 1, 7),
        ("[" * 5000 + "\n", "FDF103", None, None),
    ],
)
def test_yaml_that_is_no_yaml_is_a_finding(text, code, line, column):
    problem = only(text)
    assert problem.code == code
    assert (problem.place and problem.place.line, problem.place and problem.place.column) == (line, column)


def test_an_alias_bomb_is_refused_before_it_expands():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    problem = only("\n".join(levels) + "\n")
    assert problem.code == "FDF103"
    assert "aliases" in problem.hint


def test_an_alias_inside_its_own_value_is_refused():
    assert ("FDF104", 1, 7, None) in found("name: &a [*a]\ninput: {}\n")


def test_a_tag_never_constructs_anything():
    problems = found("name: !!python/object/apply:os.system ['true']\ninput: {type: parquet, path: x}\nstages: []\n")
    assert ("FDF104", 1, 7, "remove the tag") in problems


def test_a_recipe_that_is_not_there_or_not_text_is_a_finding(tmp_path):
    assert only(tmp_path / "gone.yaml").code == "FDF105"
    (tmp_path / "binary.yaml").write_bytes(b"name: \xff\n")
    assert "not UTF-8 text" in only(tmp_path / "binary.yaml").message


def test_scalars_are_those_of_yaml_1_2(tmp_path):
    params = "{ field: 007, in: [no, 1:30, 2024-01-01, 1_000_000, 1e-3, 0x10, ~, '1'] }"
    text = (
        "name: on\ninput: {type: parquet, path: x}\nstages:\n- name: s\n  operators:\n"
        f"  - {{id: f, kind: filter, op: ThresholdFilter, params: {params}}}\n"
    )
    values = recipe.loading.read_text(text).data["stages"][0]["operators"][0]["params"]
    assert values == {"field": "007", "in": ["no", "1:30", "2024-01-01", 1_000_000, 0.001, 16, None, "1"]}


def test_merge_keys_add_what_is_not_there():
    document = recipe.loading.read_text("a: &base {x: 1, y: 2}\nb: {<<: *base, y: 3}\n")
    assert document.data["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
def test_a_number_that_json_cannot_hold_is_refused(number):
    text = f"name: m\ninput: {{type: parquet, path: x}}\noutput: {{type: parquet, path: y}}\nvars: {{a: {number}}}\n"
    assert found(text)[0][:3] == ("FDF104", 4, 11)


@pytest.mark.parametrize(
    ("changes", "code", "at"),
    [
        ({"seed": "one"}, "FDF112", "seed"),
        ({"name": "a b"}, "FDF113", "name"),
        ({"provenance": "some"}, "FDF113", "provenance"),
        ({"input": {"type": "parquet"}}, "FDF111", "input.path"),
        ({"input": {"type": "parquet", "path": 3}}, "FDF113", "input.path"),
        ({"input": {"type": "parquets", "path": "x"}}, "FDF240", "input.type"),
        ({"input": {"type": "huggingface", "path": "a/b", "streaming": "yes"}}, "FDF113", "input.streaming"),
        ({"output": {"type": "parquet", "path": "x", "shard_size": "huge"}}, "FDF113", "output.shard_size"),
        ({"output": {"type": "parquet", "path": "x", "mode": "append"}}, "FDF113", "output.mode"),
        ({"output": {"type": "parket", "path": "x"}}, "FDF250", "output.type"),
        ({"stages": [{"name": "output", "operators": []}]}, "FDF140", "stages[0].name"),
        ({"stages": [{"name": "a", "operators": []}, {"name": "a", "operators": []}]}, "FDF140", "stages[1].name"),
        ({"stages": [{"name": "a"}]}, "FDF111", "stages[0]"),
        ({"stages": [{"name": "a", "operators": [], "max_error_rate": 2}]}, "FDF113", "stages[0].max_error_rate"),
        (
            {"stages": [{"name": "a", "operators": [], "materialize": {"keep": 2}}]},
            "FDF113",
            "stages[0].materialize.keep",
        ),
    ],
)
def test_a_dict_is_checked_like_yaml_and_says_where(changes, code, at):
    problem = only(minimal(**changes))
    assert problem.code == code
    assert f"`{at}`" in problem.message


@pytest.mark.parametrize(
    ("changes", "code", "at"),
    [
        ({"batch_size": 0}, "FDF113", "batch_size"),
        ({"on_error": "skip"}, "FDF113", "on_error"),
        ({"params": {"field": "a", "ge": "much"}}, "FDF211", "params.ge"),
        ({"params": {}}, "FDF210", "params"),
        ({"kind": "score"}, "FDF205", "kind"),
        ({"kind": []}, "FDF113", "kind"),
        ({"require": ["a < 1"]}, "FDF207", "require"),
        ({"when": "max(a) > 3"}, "FDF221", "when"),
        ({"op": "no_such_module_anywhere:Filter"}, "FDF201", "op"),
        ({"op": "fdf-core:NoSuch"}, "FDF201", "op"),
        ({"resources": {"gpu": 1}}, "FDF110", "resources.gpu"),
    ],
)
def test_an_operators_mistakes_are_told_at_their_place(changes, code, at):
    problem = only(with_operator(**changes))
    assert problem.code == code
    assert f"`stages[0].operators[0].{at}" in problem.message


def test_two_operators_of_one_id_are_a_finding_also_across_stages():
    operator = {"id": "f", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "a", "ge": 1}}
    stages = [{"name": n, "operators": [operator]} for n in "ab"]
    assert only(minimal(stages=stages)).code == "FDF204"


def test_a_key_in_the_wrong_place_is_told_where_it_belongs():
    problem = only(minimal(stages=[{"name": "s", "operators": [], "batch_size": 3}]))
    assert problem.hint == "`batch_size` belongs to an operator"


def test_a_misspelt_required_key_is_one_finding():
    problem = only(minimal(stages=[{"nam": "s", "operators": []}]))
    assert (problem.code, problem.hint) == ("FDF110", "did you mean `name`?")


def test_a_recipe_with_nothing_to_do_is_refused():
    assert only({"name": "m", "input": {"type": "parquet", "path": "x"}, "stages": []}).code == "FDF141"


def test_a_broken_operator_package_is_named_with_the_command_that_mends_it(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("raise OSError('no disk')\n")
    monkeypatch.syspath_prepend(tmp_path)
    problem = only(with_operator(op="broken_module:F"))
    assert "OSError: no disk" in problem.message


def test_a_value_with_an_undefined_template_is_one_finding_whatever_type_was_asked_for():
    assert only(with_operator(params={"field": "a", "ge": "{{nobody}}"})).code == "FDF120"
    assert only(minimal(seed="{{nobody}}")).code == "FDF120"
    assert only(minimal(input={"type": "parquet", "path": "x", "max_row_bytes": "{{nobody}}"})).code == "FDF120"


def test_secrets_appear_neither_in_the_resolved_recipe_nor_in_an_error():
    text = (
        "name: s\ninput: {type: parquet, path: 's3://user:hunter2@host/x?X-Amz-Signature=hunter2'}\n"
        "output: {type: parquet, path: o, password: hunter2}\n"
    )
    problem = only(text)
    assert problem.place.text == "output: {type: parquet, path: o, password: *******}"
    loaded = recipe.load(re.sub(", password: hunter2", "", text))
    assert "hunter2" not in str(loaded.resolved)
    assert loaded.resolved["input"]["path"] == "s3://***@host/x?X-Amz-Signature=***"


def test_findings_of_parameters_name_each_value_once():
    from fdf.operators.threshold import ThresholdFilter

    _, findings = parameters.check(ThresholdFilter, {"field": "a", "ge": {"x": 1}})
    assert [(f.fault, f.at) for f in findings] == [("value", ("ge",))]
