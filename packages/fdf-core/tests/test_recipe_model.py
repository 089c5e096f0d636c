"""What a valid recipe becomes: defaults filled in, templates resolved, a stable hash and run id."""

from __future__ import annotations

import hashlib
import json

import pytest

import fdf.recipe
from fdf import recipe
from fdf.errors import RecipeError
from fdf.operator import Resources

TEXT = """\
name: web
seed: 3
vars: { root: "s3://bucket/{{name}}", least: 0.5, fields: [a, b] }
input: { type: parquet, path: "{{root}}/in/*.parquet", max_row_bytes: 1 MiB }
stages:
  - name: clean
    materialize: { path: "{{root}}/{{run_id}}/{{stage}}/", mode: overwrite, drops: full, keep: 1 }
    max_error_rate: 0.01
    operators:
      - id: filter.score
        kind: filter
        op: ThresholdFilter
        params: { field: score, ge: "{{least}}" }
        when: "lang = 'en'"
        on_error: null
        batch_size: 100
        resources: { cpus: 2, memory: 1 GiB }
      - { id: eval.stats, kind: evaluator, op: ColumnStats, require: ["null_rate.text <= 0.01", "rows>=1_000"] }
output: { type: parquet, path: out, shard_size: 64 MiB }
"""


def test_a_valid_recipe_holds_checked_instances_and_every_default():
    loaded = recipe.load(TEXT)
    assert (loaded.name, loaded.seed, loaded.provenance, loaded.description) == ("web", 3, "full", "")
    assert loaded.input.name == "input"
    assert loaded.input.source.path == "s3://bucket/web/in/*.parquet"
    assert loaded.input.source.max_row_bytes == 1 << 20
    (stage,) = loaded.stages
    assert stage.materialize == fdf.recipe.Materialize(
        path=f"s3://bucket/web/{loaded.run_id}/clean/", mode="overwrite", drops="full", keep=1
    )
    assert (stage.min_errors, stage.max_error_rate) == (10, 0.01)
    threshold, stats = stage.operators
    assert threshold.operator.params()["ge"] == 0.5
    assert (threshold.on_error, threshold.batch_size, threshold.when) == ("null", 100, "lang = 'en'")
    assert threshold.resources == Resources(cpus=2, memory=1 << 30)
    assert (threshold.distribution, threshold.write_fields) == ("fdf-core", None)
    assert (threshold.place.line, threshold.place.column) == (10, 9)
    assert [str(g) for g in stats.require] == ["null_rate.text <= 0.01", "rows >= 1000"]
    assert stats.on_error == "quarantine"
    assert (loaded.output.path, loaded.output.shard_size, loaded.output.mode) == ("out", 64 << 20, "incremental")
    assert loaded.output.sink.type == "parquet"


def test_the_config_hash_is_the_digest_of_the_resolved_recipe_without_run_id_and_budget():
    loaded = recipe.load(TEXT)
    expected = json.loads(json.dumps(loaded.resolved).replace(loaded.run_id, "{{run_id}}"))
    assert expected["stages"][0].pop("max_error_rate") == 0.01
    text = json.dumps(expected, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert loaded.config_hash == hashlib.sha256(text.encode()).hexdigest()
    assert loaded.run_id == f"web-{loaded.config_hash[:10]}"
    assert "vars" not in loaded.resolved


def test_a_given_run_id_is_used_and_leaves_the_config_hash_alone():
    loaded = recipe.load(TEXT, run_id="mine")
    assert loaded.stages[0].materialize.path == "s3://bucket/web/mine/clean/"
    assert loaded.config_hash == recipe.load(TEXT).config_hash
    with pytest.raises(RecipeError, match=r"run id `\.\./up`"):
        recipe.load(TEXT, run_id="../up")


def test_comments_order_and_spelling_of_a_recipe_do_not_change_its_hash_but_values_do():
    text = "# a comment\n" + TEXT.replace("seed: 3\n", "") + "seed: 0x3\n"
    assert recipe.load(text).config_hash == recipe.load(TEXT).config_hash
    assert recipe.load(TEXT.replace("least: 0.5", "least: 0.6")).config_hash != recipe.load(TEXT).config_hash


def test_a_value_that_is_one_template_keeps_its_type_and_text_around_it_makes_text():
    base = {"name": "t", "vars": {"n": 7, "cols": {"text": "body"}}, "output": {"type": "parquet", "path": "o-{{n}}"}}
    loaded = recipe.load({**base, "seed": "{{ n }}", "input": {"type": "parquet", "path": "x", "columns": "{{cols}}"}})
    assert loaded.seed == 7
    assert loaded.input.source.columns == {"text": "body"}
    assert loaded.output.path == "o-7"


def test_doubled_braces_write_braces():
    loaded = recipe.load({"name": "t", "description": "as {{{{x}}", "input": {"type": "parquet", "path": "x"},
                          "output": {"type": "parquet", "path": "o"}})  # fmt: skip
    assert loaded.description == "as {{x}}"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("{{rum_id}}", "did you mean `run_id`?"),
        ("{{stage}}", None),
        ("{{ run id }}", "write `{{{{` for two braces"),
        ("{{zzz}}", "there are: name, run_id, stage; or define it under `vars`"),
    ],
)
def test_an_undefined_template_is_a_finding_at_the_template(path, hint):
    text = f"name: t\noutput: {{type: parquet, path: o}}\ninput:\n  type: parquet\n  path: 'a/{path}/b'\n"
    (problem,) = recipe.check(text)
    assert problem.code in ("FDF120", "FDF121")
    assert (problem.place.line, problem.place.column, problem.hint) == (5, 12, hint)


def test_a_template_without_quotes_is_told_to_take_them():
    problem = next(p for p in recipe.check("name: t\nseed: {{n}}\ninput: {}\n") if p.place and p.place.line == 2)
    assert problem.hint == 'write a template in quotes: "{{name}}"'


def test_a_variable_may_use_those_above_it_and_not_those_below():
    good = {"name": "t", "vars": {"a": "x", "b": "{{a}}/y"}, "input": {"type": "parquet", "path": "{{b}}"},
            "output": {"type": "parquet", "path": "o"}}  # fmt: skip
    assert recipe.load(good).input.source.path == "x/y"
    assert [p.code for p in recipe.check({**good, "vars": {"b": "{{a}}/y", "a": "x"}})] == ["FDF120"]


def test_a_variable_cannot_take_a_name_of_fdfs_own():
    data = {"name": "t", "vars": {"run_id": "x"}, "input": {"type": "parquet", "path": "p"},
            "output": {"type": "parquet", "path": "o"}}  # fmt: skip
    assert [p.code for p in recipe.check(data)] == ["FDF122"]


class TestSet:
    """`--set path=value`."""

    @pytest.mark.parametrize(
        ("text", "read"),
        [
            ("seed=1_000", lambda r: r.seed == 1000),
            ("vars.least=0.75", lambda r: r.stages[0].operators[0].operator.params()["ge"] == 0.75),
            (
                "stages.clean.operators.filter.score.params.ge=2",
                lambda r: r.stages[0].operators[0].operator.params()["ge"] == 2,
            ),
            ("stages.0.operators.0.params.ge=2", lambda r: r.stages[0].operators[0].operator.params()["ge"] == 2),
            ("output={type: parquet, path: elsewhere}", lambda r: r.output.path == "elsewhere"),
            ("output.path=a=b", lambda r: r.output.path == "a=b"),
            ("output.path={{name}}/x", lambda r: r.output.path == "web/x"),
        ],
    )
    def test_changes_the_value_it_names(self, text, read):
        assert read(recipe.load(TEXT, sets=[text]))

    def test_the_longest_name_wins_where_one_is_the_beginning_of_another(self):
        operators = [
            {"id": i, "kind": "filter", "op": "ThresholdFilter", "params": {"field": "x", "ge": 1}}
            for i in ("a", "a.b")
        ]
        data = {
            "name": "t",
            "input": {"type": "parquet", "path": "p"},
            "stages": [{"name": "s", "operators": operators}],
        }
        loaded = recipe.load(data, sets=["stages.s.operators.a.b.params.ge=5"])
        assert [o.operator.params()["ge"] for o in loaded.stages[0].operators] == [1, 5]

    def test_a_new_key_is_added_with_its_parents(self):
        loaded = recipe.load(TEXT, sets=["stages.clean.operators.eval.stats.resources.memory=2 GiB"])
        assert loaded.stages[0].operators[1].resources.memory == 2 << 30

    @pytest.mark.parametrize(
        ("text", "code", "column", "hint"),
        [
            ("stages.cleen.min_errors=1", "FDF131", 1, "did you mean `clean`?"),
            ("stages.7.min_errors=1", "FDF131", 1, "there are: clean"),
            ("vars.leest=1", "FDF131", 1, "did you mean `least`?"),
            ("seed.x=1", "FDF131", 1, None),
            ("sead=1", "FDF110", 1, "did you mean `seed`?"),
            ("stages.clean.operators.filter.score.params.gee=1", "FDF213", 1, "did you mean `ge`?"),
            ("seed=[1", "FDF101", 1, None),
            ("seed=much", "FDF112", 6, None),
            ("output={type: parquet, paht: x}", "FDF110", 24, "did you mean `path`?"),
            ("seed", "FDF130", 1, "for example seed=7"),
        ],
    )
    def test_a_wrong_path_or_value_is_a_finding_in_the_option(self, text, code, column, hint):
        (problem,) = recipe.check(TEXT, sets=[text])
        assert (problem.code, problem.place.file, problem.place.column) == (code, "--set", column)
        assert problem.place.text == text
        if hint is not None:
            assert problem.hint == hint


def test_an_operator_can_be_a_class_in_a_module(tmp_path, monkeypatch):
    (tmp_path / "own_ops.py").write_text(
        "from dataclasses import dataclass\nimport fdf\n@dataclass(frozen=True, kw_only=True)\n"
        "class Keep(fdf.Filter):\n    version = '1'\n    n: int = 1\n    def verdict(self, batch):\n"
        "        return fdf.Verdict.keep_all(batch.num_rows)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    stage = {"name": "s", "operators": [{"id": "k", "kind": "filter", "op": "own_ops:Keep", "params": {"n": 4}}]}
    use = (
        recipe.load({"name": "t", "input": {"type": "parquet", "path": "p"}, "stages": [stage]}).stages[0].operators[0]
    )
    assert use.operator.n == 4
    assert use.distribution == "own_ops"


MIXTURE = """\
name: mix
input:
  type: mixture
  seed: 42
  unit: tokens
  total: 10_000_000_000
  on_exhausted: "fallback:code"
  datasets:
    - { name: web,  source: { type: parquet, path: web/ }, weight: 0.6, cap: 6_000_000_000 }
    - { name: code, source: { type: huggingface, path: a/code, columns: { text: content } }, weight: 0.3, epochs: 2 }
  schedule:
    - { at: 0 }
    - { at: 8_000_000_000, weights: { web: 0.3, code: 0.3 }, ramp: linear }
stages:
  - name: mix_by_quality
    mixture:
      unit: tokens
      buckets:
        - { name: high, where: "text_quality_score >= 0.8", weight: 0.6 }
        - name: rest
          weight: 0.1
          buckets: [{ name: en, where: "lang = 'en'", weight: 1 }, { name: other, weight: 1 }]
"""


def test_a_mixture_is_read_whole_and_asks_no_hub():
    loaded = recipe.load(MIXTURE)
    web, code = loaded.input.datasets
    assert (web.weight, web.cap, web.source.path) == (0.6, 6_000_000_000, "web/")
    assert (code.source.type, code.epochs, code.source.columns) == ("huggingface", 2, {"text": "content"})
    assert loaded.input.settings["total"] == 10_000_000_000
    assert loaded.stages[0].mixture["buckets"][1]["buckets"][0]["name"] == "en"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("fallback:code", "fallback:cod", "FDF144"),
        ("weights: { web", "weights: { wib", "FDF144"),
        ("name: code,", "name: web, ", "FDF140"),
        ("at: 8_000_000_000", "at: 0", "FDF113"),
        (", weight: 0.3, epochs", ", epochs", "FDF111"),
        ("lang = 'en'", "count(*) > 1", "FDF221"),
        ("path: a/code", "pth: a/code", "FDF110"),
        ("ramp: linear", "ramp: wobbly", "FDF113"),
    ],
)
def test_what_a_mixture_disagrees_with_itself_about_is_a_finding(old, new, code):
    assert code in [p.code for p in recipe.check(MIXTURE.replace(old, new))]


def test_a_parameter_that_is_a_python_word_is_written_without_its_underscore():
    text = TEXT.replace('params: { field: score, ge: "{{least}}" }', "params: { field: lang, in: [en, de] }")
    threshold = recipe.load(text).stages[0].operators[0].operator
    assert threshold.in_ == ("en", "de")
    assert threshold.params()["in"] == ["en", "de"]
    with pytest.raises(RecipeError, match="in_"):
        recipe.load(text.replace(" in: ", " in_: "))
