"""Operators that are not registered: a function or class in a file beside the recipe, or in a module."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fdf import recipe

OPS = """
import pyarrow.compute as pc
import fdf


@fdf.filter(reads=("text",), reason="too_short")
def is_long(batch, *, min_chars: int = 3):
    return pc.greater_equal(pc.utf8_length(batch["text"]), min_chars)


def plain(batch):
    return pc.is_valid(batch["text"])


class Unversioned(fdf.Filter):
    def verdict(self, batch):
        return fdf.Verdict.keep_all(batch.num_rows)


NUMBER = 3
"""
BATCH = pa.record_batch({"text": ["long enough", "ab", None]})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "my_ops.py").write_text(OPS)
    (tmp_path / "recipes" / "function_ops_module.py").write_text(OPS)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "recipes"


def write(folder, op, *, kind="filter", params="{}"):
    file = folder / "r.yaml"
    operator = f"{{ id: f, kind: {kind}, op: '{op}', params: {params} }}"
    file.write_text(f"name: r\ninput: {{type: parquet, path: x}}\nstages:\n- name: s\n  operators:\n  - {operator}\n")
    return file


def test_a_function_is_found_beside_the_recipe_wherever_one_stands(folder):
    use = recipe.load(write(folder, "my_ops.py:is_long", params="{min_chars: 2}")).stages[0].operators[0]
    assert use.operator.verdict(BATCH).codes.tolist() == [0, 0, 1]
    assert (use.op, use.distribution) == ("my_ops.py:is_long", "my_ops.py")
    assert use.distribution_version == use.operator.version


def test_a_plain_function_takes_the_kind_that_the_recipe_says(folder):
    use = recipe.load(write(folder, "my_ops.py:plain")).stages[0].operators[0]
    assert use.operator.kind == "filter"
    assert use.operator.verdict(BATCH).codes.tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", ["is_long", "plain"])
def test_a_function_is_found_in_a_module(folder, monkeypatch, name):
    monkeypatch.syspath_prepend(folder)
    use = recipe.load(write(folder, f"function_ops_module:{name}")).stages[0].operators[0]
    assert use.operator.verdict(BATCH).codes.tolist()[0] == 0
    assert use.distribution == "function_ops_module"


@pytest.mark.parametrize(
    ("op", "params", "code", "column"),
    [
        ("my_ops.py:is_lng", "{}", "FDF232", 32),
        ("no_ops.py:is_long", "{}", "FDF230", 32),
        ("my_ops.py:NUMBER", "{}", "FDF233", 32),
        ("my_ops.py:is_long", "{min_char: 2}", "FDF213", 62),
    ],
)
def test_what_is_wrong_with_a_function_is_told_at_its_place(folder, op, params, code, column):
    (problem,) = recipe.check(write(folder, op, params=params))
    assert (problem.code, problem.place.line, problem.place.column) == (code, 6, column)


def test_a_class_without_a_version_is_refused_in_a_module(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (problem,) = recipe.check(write(folder, "function_ops_module:Unversioned"))
    assert problem.code == "FDF214"
    assert "version" in problem.hint
