"""A recipe that is wrong is refused before any row is read: every mistake at its place, with what to do about it."""

from __future__ import annotations

import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

RECIPE = """\
name: "bad"
input: { type: "parquet", path: "in/*.parquet" }
stages:
  - name: "clean"
    operators:
      - { id: "large", kind: "filter", op: "ThresholdFilter", params: { field: "n", ge: 2 } }
      - { id: "count", kind: "score", op: "TextStatistics" }
output: { type: "parquet", path: "out" }
"""
HERE = "@@"
"""Stands in a recipe before what must be pointed at."""


def marked(text: str) -> tuple[str, str]:
    """Return the recipe without its mark, and the place of the mark as messages tell it."""
    before, _, after = text.partition(HERE)
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return before + after, f"--> recipe.yaml:{line}:{column}\n"


@pytest.fixture
def unreadable(tmp_path) -> None:
    """Put a parquet file in place whose footer is fine and of which no row can be read."""
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "a.parquet"
    pq.write_table(pa.table({"text": ["one", "two"], "n": [1, 2], "title": ["a", "b"]}), file)
    data = file.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    file.write_bytes(b"PAR1" + b"\0" * (len(data) - footer - 4) + data[-footer:])


@pytest.mark.usefixtures("unreadable")
@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        pytest.param(
            '"out" }', '"out", @@shard_sise: 1 }', ["`shard_sise`", "did you mean `shard_size`?"], id="unknown key"
        ),
        pytest.param(
            '"out" }', '"out", @@path: "two" }', ["duplicate key `path`", "first on line 8"], id="duplicate key"
        ),
        pytest.param(
            '"ThresholdFilter"',
            '@@"TresholdFilter"',
            ["`TresholdFilter`", "did you mean `ThresholdFilter`?", "fdf ops list"],
            id="misspelt operator",
        ),
        pytest.param(
            "ge: 2",
            "@@gee: 2",
            ["`gee` for ThresholdFilter", "did you mean `ge`?", "fdf ops show ThresholdFilter"],
            id="misspelt parameter",
        ),
        pytest.param(
            'field: "n"',
            "field: @@[1]",
            ["`field` must be a string", "fdf ops show ThresholdFilter"],
            id="wrong type of a parameter",
        ),
        pytest.param(
            'name: "clean"', "name: @@7", ["`name` must be a string, and is a number"], id="wrong type of a key"
        ),
        pytest.param(
            'id: "count"', 'id: @@"large"', ["two operators have the id `large`", "rename one"], id="duplicate id"
        ),
        pytest.param(
            'kind: "filter"', 'kind: @@"score"', ["`ThresholdFilter`", "it is of kind `filter`"], id="wrong kind"
        ),
        pytest.param(
            'path: "in/*.parquet"',
            'path: "@@{{where}}/*.parquet"',
            ["undefined name `where`", "define it under `vars`"],
            id="undefined variable",
        ),
        pytest.param(
            '"in/*.parquet" }',
            '"in/*.parquet"\n@@stages',
            ["not YAML: expected ',' or '}'", "it belongs to what begins on line 2"],
            id="not YAML",
        ),
        pytest.param(
            'field: "n"',
            'field: "m"',
            ["`large` (ThresholdFilter) needs the column `m`", "the columns are: text, n, title"],
            id="missing column",
        ),
        pytest.param(
            '"TextStatistics" }',
            '"TextStatistics" }\n      - @@{ id: "again", kind: "score", op: "TextStatistics" }',
            ["`again` (TextStatistics) writes the column", "which `count` writes already", "write_fields"],
            id="two operators writing one column",
        ),
    ],
)
def test_a_mistake_is_told_at_its_place_before_any_row_is_read(fdf, tmp_path, right, wrong, says):
    assert right in RECIPE
    text, place = marked(RECIPE.replace(right, wrong, 1))
    told = fdf.refuses(text, code=2, says=says)
    if HERE in wrong:
        assert place in told
    else:
        assert "--> recipe.yaml:6:" in told
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "fdf-home").exists()


def test_an_alias_bomb_costs_neither_time_nor_memory(fdf, tmp_path):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(levels) + "\n")
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2); sys.argv[0] = 'fdf';"
        " from fdf.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "bomb.yaml"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "aliases" in done.stderr


def test_a_recipe_that_is_no_text_is_refused(fdf, tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"name: \xff\xfe\n")
    done = fdf("run", "recipe.yaml")
    assert done.exit_code == 2
    assert "recipe.yaml" in done.stderr
    assert "UTF-8" in done.stderr


def test_nothing_that_was_committed_suffers_from_a_mistake_made_later(fdf, tmp_path, committed):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["one", "two"], "n": [1, 2]}), tmp_path / "in" / "a.parquet")
    fdf.finishes(RECIPE)
    before = committed(tmp_path / "out")
    fdf.refuses(RECIPE.replace('"n"', '"m"'), code=2, says=["`m`"])
    after = committed(tmp_path / "out")
    assert after.manifest == before.manifest
    assert after.column("text") == before.column("text") == ["two"]


@pytest.mark.parametrize(
    ("written", "line", "says"),
    [
        ('  path: "nowhere/*.parquet"', 4, ["no file matches nowhere/*.parquet"]),
        ("  path: kept.parquet\n  columns:\n    body: txt\n    url: link", 5, ["asks for `txt`", "asks for `link`"]),
        ("  path: kept.parquet\n  columns: { a: text, b: text }", 5, ["reads `text` as `a` and as `b`", "one name"]),
        ("  path: kept.parquet\n  schema: { text: strin }", 5, ["`strin` is not the name of a type"]),
        ("  path: [kept.parquet, other.parquet]", 4, ["column `text` is string in ", "other.parquet"]),
    ],
)
def test_what_is_wrong_with_the_input_is_told_by_its_line(fdf, written, line, says):
    pq.write_table(pa.table({"text": ["a"]}), fdf.folder / "kept.parquet")
    pq.write_table(pa.table({"text": [[1]]}), fdf.folder / "other.parquet")
    recipe = f"name: places\ninput:\n  type: parquet\n{written}\noutput: {{ type: parquet, path: out }}\n"
    fdf.refuses(recipe, code=2, says=[*says, f"--> recipe.yaml:{line}:3"])
