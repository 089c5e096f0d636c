"""Whatever a recipe holds, checking it answers with findings: it never raises, hangs or answers differently twice."""

from __future__ import annotations

import copy

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf import recipe
from fdf.recipe.document import read_text

BASE = yaml.safe_load("""
name: base
seed: 1
vars: { low: 0.5, where: out }
input: { type: parquet, path: [a, b], columns: { text: content }, max_row_bytes: 1 MiB }
stages:
  - name: clean
    materialize: { path: "{{where}}/{{stage}}", mode: incremental, drops: ids, keep: 1 }
    min_errors: 5
    operators:
      - { id: f, kind: filter, op: ThresholdFilter, params: { field: x, ge: "{{low}}" }, when: "a > 1" }
      - { id: e, kind: evaluator, op: ColumnStats, require: ["rows > 1"], resources: { cpus: 1 } }
  - name: mix
    mixture: { unit: rows, buckets: [{ name: a, where: "x > 1", weight: 1 }, { name: b, weight: 2 }] }
output: { type: parquet, path: out, shard_size: 1 MiB }
""")
MIXTURE = {
    "type": "mixture",
    "datasets": [{"name": "a", "source": {"type": "parquet", "path": "p"}, "weight": 1, "cap": 5}],
    "schedule": [{"at": 0, "weights": {"a": 1}, "ramp": "linear"}],
    "on_exhausted": "fallback:a",
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["{{low}}", "{{", "{{x}}", "mixture", "parquet", "ThresholdFilter", "a:b", "x.py:y", "fdf-core:X"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def places(value, steps=()):
    yield steps
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*steps, key))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_recipe_with_anything_in_any_place_is_checked_to_the_end(data):
    changed = copy.deepcopy(BASE)
    if data.draw(st.booleans()):
        changed["input"] = copy.deepcopy(MIXTURE)
    for _ in range(data.draw(st.integers(1, 3))):
        steps = data.draw(st.sampled_from(sorted(places(changed), key=repr)))
        if not steps:
            continue
        holder = changed
        for step in steps[:-1]:
            holder = holder[step]
        if data.draw(st.booleans()):
            holder[steps[-1]] = data.draw(values)
        elif isinstance(holder, dict):
            holder[data.draw(st.text(max_size=6))] = holder.pop(steps[-1])
    problems = recipe.check(changed)
    assert problems == recipe.check(changed)
    assert all(p.code.startswith("FDF") and p.render() for p in problems)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-{}[]&*!|>%@`'\"#,? \n\t0.1~<"), max_size=60))
def test_any_text_is_a_recipe_or_a_list_of_findings(text):
    problems = recipe.check(f"{text}\n")
    assert problems
    for problem in problems:
        assert problem.place is None or (problem.place.line >= 1 and problem.place.column >= 1)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("abst.gescl01=[{: "), max_size=30))
def test_any_override_is_applied_or_a_finding(text):
    recipe.check(BASE, sets=[text, f"stages.{text}", f"stages.clean.operators.{text}=1"])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), values))
def test_plain_data_written_as_yaml_is_read_back_as_it_was(data):
    text = yaml.safe_dump(data, allow_unicode=True, default_style='"') if data else "{}\n"
    wanted = yaml.safe_load(text)
    if "nan" not in text and "inf" not in text:
        assert read_text(text).data == wanted
