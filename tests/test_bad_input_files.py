"""Bad data: a bad row costs itself and is told, a bad file fails the run by its name or is passed by and listed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    return made


def recipe_for(kind: str, *, operators: list[dict[str, Any]] | None = None, **options: Any) -> dict[str, Any]:
    stages = [{"name": "one", "materialize": {"path": "one"}, "operators": operators}] if operators else []
    return {
        "name": "files",
        "input": {"type": kind, "name": "src", "path": "in", **options},
        "stages": stages,
        "output": {"type": "parquet", "path": "out"},
    }


def operator(kind: str, op: str, name: str = "it", **params: Any) -> dict[str, Any]:
    return {"id": name, "kind": kind, "op": op, "params": params}


def texts(first: int, count: int = 400) -> list[str]:
    # Enough of it, and different enough, that a compressed file has a second half.
    return [f"text {first + i} {(first + i) ** 5 % 99991}" for i in range(count)]


def written(kind: str, rows: list[str]) -> bytes:
    """Return a file of one column `text`."""
    sink = io.BytesIO()
    table = pa.table({"text": rows})
    if kind == "parquet":
        pq.write_table(table, sink)
    elif kind == "arrow":
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    elif kind == "csv.gz":
        plain = io.StringIO()
        csv.writer(plain).writerows([["text"], *([t] for t in rows)])
        return gzip.compress(plain.getvalue().encode())
    elif kind == "tar":
        with tarfile.open(fileobj=sink, mode="w") as archive:
            for number, text in enumerate(rows):
                member = tarfile.TarInfo(f"{number:04d}.txt")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
    else:
        lines = "".join(json.dumps({"text": t}) + "\n" for t in rows).encode()
        if kind == "jsonl.gz":
            return gzip.compress(lines)
        return pa.compress(lines, "zstd", asbytes=True)
    return sink.getvalue()


# --- Inputs that are not there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("in/absent.parquet", ["in/absent.parquet does not exist", "/in exists; check the rest of the path"]),
        ("nowhere/at/all", ["nowhere/at/all does not exist"]),
        ("in/*.pq", ["no file matches in/*.pq", "/in exists; check the rest of the path"]),
        ("in", ["the folder in holds no file that ends in .parquet"]),
        (["in/kept.txt", "in/absent.parquet"], ["in/absent.parquet does not exist"]),
    ],
)
def test_an_input_that_is_not_there_is_found_before_anything_runs(fdf, tmp_path, folder, path, says):
    (folder / "kept.txt").write_text("x")
    fdf.refuses(recipe_for("parquet", path=path), code=2, says=says)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "fdf-home").exists()


# --- Files that are cut off -------------------------------------------------------------------------------------------

CUT = {
    "parquet": "parquet",
    "arrow": "arrow",
    "jsonl.gz": "jsonl",
    "jsonl.zst": "jsonl",
    "csv.gz": "csv",
    "tar": "webdataset",
}
"""The source of each file name extension."""


@pytest.mark.parametrize("extension", CUT)
def test_a_file_cut_in_half_fails_the_run_by_its_name_and_once_mended_the_run_goes_on(
    fdf, folder, committed, nothing_half, extension
):
    # The columns come from the first 8 files, so this one is met while running.
    for number in range(9):
        (folder / f"{number}.{extension}").write_bytes(written(extension, texts(number * 400)))
    last = folder / f"8.{extension}"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    recipe = recipe_for(CUT[extension], operators=[operator("filter", "ExpressionFilter", keep="text NOT LIKE '% 7'")])
    fdf.refuses(recipe, code=3, says=[str(last), "`on_bad_file: skip`", "safe: 8 splits"])
    assert nothing_half(fdf.folder / "one") == 8
    assert not (fdf.folder / "out").exists()
    last.write_bytes(whole)
    done = fdf.finishes(recipe, "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["stage"] for e in events if e["event"] == "split_started"].count("one") == 1
    assert committed(fdf.folder / "out").column("text") == [t for n in range(9) for t in texts(n * 400)]


@pytest.mark.parametrize("extension", CUT)
@pytest.mark.parametrize("bad", ["a", "c"])
def test_a_file_cut_in_half_is_passed_by_on_request_and_listed(fdf, folder, committed, extension, bad):
    good = [n for n in "abc" if n != bad]
    for name in "abc":
        (folder / f"{name}.{extension}").write_bytes(written(extension, texts(ord(name) * 1000)))
    file = folder / f"{bad}.{extension}"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    fdf.finishes(recipe_for(CUT[extension], on_bad_file="skip"))
    out = committed(fdf.folder / "out")
    listed = {Path(i["uri"]).name[0]: i for i in out.manifest["inputs"]}
    assert str(file) in listed[bad]["error"]
    assert [listed[name]["error"] for name in good] == [None, None]
    found = out.column("text")
    # What stands before the cut may have been read; nothing is invented, and nothing of the other files is missing.
    assert [t for t in found if t not in set(texts(ord(bad) * 1000))] == [
        t for name in good for t in texts(ord(name) * 1000)
    ]
    before = [t for t in found if t in set(texts(ord(bad) * 1000))]
    assert before == texts(ord(bad) * 1000)[: len(before)]
    assert listed[bad]["rows"] == len(before) < 400
    assert out.counts["rows_quarantined"] == 0


# --- Lines that are no records ----------------------------------------------------------------------------------------


def test_lines_that_are_no_records_are_quarantined_by_position_and_reason(fdf, folder, tmp_path, committed):
    lines = [
        b'{"text": "first", "n": 1}',
        b'{"text": "caf\xe9", "n": 2}',
        b'{"text": "broken", "n": ',
        b"[1, 2]",
        b"not json at all",
        b'{"text": "two"} {"text": "in one line"}',
        b'{"text": "last", "n": 3}',
    ]
    (folder / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    starts = [sum(len(line) + 1 for line in lines[:i]) for i in range(len(lines))]
    done = fdf.finishes(recipe_for("jsonl"))
    assert "5 quarantined" in done.output
    out = committed(tmp_path / "out")
    assert out.column("text") == ["first", "last"]
    assert out.counts["rows_in"] == 7
    assert list(out.quarantined) == [str(starts[i]) for i in range(1, 6)]
    reasons = list(out.quarantined.values())
    assert reasons[0] == "the line is not UTF-8"
    assert [r for r in reasons[1:4] if r != "the line is not a JSON object"] == []
    assert out.column("__fdf__/raw", "quarantine") == lines[1:6]


@pytest.mark.parametrize("extension", ["jsonl", "jsonl.gz"])
def test_a_line_of_200_mb_is_quarantined_unread_within_bounded_memory(folder, tmp_path, committed, extension):
    open_file = gzip.open if extension == "jsonl.gz" else open
    with open_file(
        folder / f"a.{extension}", "wb", **({"compresslevel": 1} if extension == "jsonl.gz" else {})
    ) as file:
        file.write(b'{"text": "before"}\n{"text": "')
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"text": "after"}\n')
    peak = _peak_of_a_run(tmp_path, recipe_for("jsonl"))
    out = committed(tmp_path / "out")
    assert out.column("text") == ["before", "after"]
    assert out.quarantined == {"19": "the line is longer than max_row_bytes (67108864)"}
    (folder / f"a.{extension}").unlink()
    (folder / "b.jsonl").write_text('{"text": "before"}\n{"text": "after"}\n')
    assert peak - _peak_of_a_run(tmp_path, recipe_for("jsonl", path="in/b.jsonl")) < 400 << 20


def _peak_of_a_run(folder: Path, recipe: dict[str, Any]) -> int:
    """Run in a process of its own; return the most memory that it held."""
    script = (
        "import json, resource, sys, fdf; fdf.run(json.loads(sys.argv[1]), runner='serial');"
        " print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(recipe)],
        cwd=folder,
        env=os.environ | {"FDF_HOME": str(folder / "home"), "POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * 1024


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_a_row_over_max_row_bytes_is_quarantined(fdf, folder, tmp_path, committed, kind):
    rows = ["a", "x" * 3000, "b"]
    if kind == "parquet":
        pq.write_table(pa.table({"text": rows}), folder / "a.parquet")
    else:
        lines = [json.dumps({"text": t}) for t in rows] if kind == "jsonl" else ["text", *rows]
        (folder / f"a.{kind}").write_text("\n".join(lines) + "\n")
    fdf.finishes(recipe_for(kind, max_row_bytes="2 KB"))
    out = committed(tmp_path / "out")
    assert out.column("text") == ["a", "b"]
    assert list(out.quarantined) == ["14" if kind == "jsonl" else "1"]
    assert "max_row_bytes (2000)" in next(iter(out.quarantined.values()))


def test_more_bad_rows_than_the_budget_commit_nothing_and_name_the_top_causes(
    fdf, folder, tmp_path, committed, nothing_half
):
    lines = [f'{{"text": "{n}"}}' for n in range(40)]
    lines[5:12] = ["nonsense"] * 7
    lines[20:24] = ['{"text": '] * 4
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    recipe = recipe_for("jsonl", operators=[operator("score", "TextStatistics")])
    fdf.refuses(
        recipe,
        code=3,
        says=[
            "stage `one`: 11 of 40 rows failed, 10 may",
            "11 x reading: the line is not a JSON object",
            "one/quarantine",
            "raise `max_error_rate` or",
        ],
    )
    assert nothing_half(tmp_path / "one") == 1
    assert not (tmp_path / "out").exists()
    done = fdf.finishes(recipe, "--json", "--set", "stages.0.min_errors=11")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert "one" not in [e["stage"] for e in events if e["event"] == "split_started"]
    assert committed(tmp_path / "out").counts["rows_out"] == 29
    assert len(committed(tmp_path / "one").quarantined) == 11


# --- Little or nothing ------------------------------------------------------------------------------------------------


def opens_everywhere(folder: Path, rows: int) -> None:
    import duckdb
    import polars as pl
    import pyarrow.dataset as ds

    assert ds.dataset(str(folder)).count_rows() == rows
    assert pl.read_parquet(f"{folder}/*.parquet").height == rows
    assert duckdb.sql(f"select count(*) from '{folder}/*.parquet'").fetchall() == [(rows,)]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_an_empty_file_of_a_format_with_a_header_is_a_bad_file(fdf, folder, tmp_path, committed, kind):
    (folder / f"a.{kind}").touch()
    (folder / f"b.{kind}").write_bytes(written(kind, ["x"]) if kind != "csv" else b"text\nx\n")
    fdf.refuses(recipe_for(kind), code=3, says=[str(folder / f"a.{kind}")])
    fdf.finishes(recipe_for(kind, on_bad_file="skip"))
    out = committed(tmp_path / "out")
    assert out.column("text") == ["x"]
    assert [Path(i["uri"]).name for i in out.manifest["inputs"] if i["error"]] == [f"a.{kind}"]


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
@pytest.mark.parametrize("kind", ["jsonl", "text"])
def test_an_empty_file_of_lines_has_no_rows(fdf, folder, committed, kind, content):
    extension = {"jsonl": "jsonl", "text": "txt"}[kind]
    (folder / f"a.{extension}").write_bytes(content)
    (folder / f"b.{extension}").write_bytes(b'{"text": "x"}\n')
    fdf.finishes(recipe_for(kind, **({"sample_by": "line"} if kind == "text" else {})))
    out = committed(fdf.folder / "out")
    assert out.counts["rows_in"] == out.counts["rows_out"] == 1
    assert out.counts["rows_quarantined"] == 0


def test_only_empty_files_of_lines_have_no_column_unless_it_is_declared(fdf, folder, tmp_path, committed):
    (folder / "a.jsonl").touch()
    chain = [operator("score", "TextStatistics")]
    fdf.refuses(
        recipe_for("jsonl", operators=chain),
        code=2,
        says=["needs the column `text`", "the columns are: none"],
    )
    fdf.finishes(recipe_for("jsonl", operators=chain, schema={"text": "string"}))
    out = committed(tmp_path / "out")
    assert out.counts["rows_in"] == 0
    opens_everywhere(tmp_path / "out", 0)


def test_an_input_of_no_rows_becomes_one_empty_shard_with_the_schema(fdf, folder, tmp_path, committed):
    schema = pa.schema([("text", pa.string()), ("n", pa.int64()), ("tags", pa.list_(pa.string()))])
    pq.write_table(schema.empty_table(), folder / "a.parquet")
    chain = [operator("score", "TextStatistics", "stats"), operator("filter", "WordCountFilter", "words")]
    fdf.finishes(recipe_for("parquet", operators=chain))
    for stage in ("one", "out"):
        entry = committed(tmp_path / stage).manifest["outputs"]
        assert len(entry) == 1
        found = pq.read_schema(tmp_path / stage / entry[0]["path"])
        assert {"text", "n", "tags"} < set(found.names)
        assert found.field("n").type == pa.int64()
    opens_everywhere(tmp_path / "out", 0)


def test_a_run_that_drops_every_row_ends_well_with_an_empty_dataset(fdf, folder, tmp_path, committed):
    for name in "ab":
        pq.write_table(pa.table({"text": texts(0, 50), "n": list(range(50))}), folder / f"{name}.parquet")
    fdf.finishes(recipe_for("parquet", operators=[operator("filter", "ThresholdFilter", field="n", gt=99)]))
    one = committed(tmp_path / "one")
    assert (one.counts["rows_in"], one.counts["rows_dropped"], one.counts["rows_out"]) == (100, 100, 0)
    assert len(one.rows("dropped")) == 100
    assert set(one.column("__fdf__/drop_reason", "dropped")) == {"below_min"}
    assert committed(tmp_path / "out").counts["rows_out"] == 0
    opens_everywhere(tmp_path / "out", 0)


@pytest.mark.parametrize("typed", [True, False])
def test_nulls_everywhere_are_no_errors(fdf, folder, tmp_path, committed, typed):
    rows = 30
    columns = {
        "text": pa.nulls(rows, pa.string() if typed else pa.null()),
        "n": pa.nulls(rows, pa.float64() if typed else pa.null()),
        "tags": pa.nulls(rows, pa.list_(pa.string()) if typed else pa.null()),
    }
    pq.write_table(pa.table(columns), folder / "a.parquet")
    chain = [
        operator("score", "TextStatistics", "stats"),
        operator("score", "TextQualityScorer", "quality"),
        operator("evaluator", "ColumnStats", "columns"),
        operator("refiner", "NormalizeText", "clean"),
        operator("filter", "SampleFilter", "sample", rate=1.0),
        {**operator("filter", "WordCountFilter", "words"), "when": "text IS NOT NULL"},
    ]
    fdf.finishes(
        recipe_for("parquet", operators=chain, **({} if typed else {"schema": {"text": "string", "n": "double"}}))
    )
    out = committed(tmp_path / "out")
    assert out.counts["rows_out"] == rows
    assert out.counts["rows_quarantined"] == 0
    assert set(out.column("text")) == set(out.column("n")) == set(out.column("text_quality_score")) == {None}


# --- Columns that change from file to file ----------------------------------------------------------------------------


def test_columns_that_differ_within_the_first_files_are_widened_and_filled(fdf, folder, tmp_path, committed):
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([1], pa.int32())}), folder / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": [2.5]}), folder / "b.parquet")
    pq.write_table(pa.table({"text": ["c"]}), folder / "c.parquet")
    pq.write_table(pa.table({"n": pa.array([4], pa.int8()), "text": ["d"]}), folder / "d.parquet")
    fdf.finishes(recipe_for("parquet"))
    out = committed(tmp_path / "out")
    assert list(zip(out.column("text"), out.column("n"), strict=True)) == [
        ("a", 1.0),
        ("b", 2.5),
        ("c", None),
        ("d", 4.0),
    ]
    assert out.counts["rows_quarantined"] == 0


def test_columns_that_cannot_be_one_are_a_plan_error_that_names_both_files(fdf, folder, tmp_path, committed):
    pq.write_table(pa.table({"n": [1]}), folder / "a.parquet")
    pq.write_table(pa.table({"n": ["one"]}), folder / "b.parquet")
    fdf.refuses(
        recipe_for("parquet"),
        code=2,
        says=["column `n` is int64 in a.parquet and string in b.parquet", "schema: { n: string }"],
    )
    assert not (tmp_path / "out").exists()


def test_values_of_later_files_that_do_not_fit_cost_their_rows_only(fdf, folder, tmp_path, committed):
    for number in range(8):
        pq.write_table(pa.table({"text": [f"{number}"], "n": [number]}), folder / f"{number}.parquet")
    pq.write_table(pa.table({"text": ["x", "y", "z"], "n": [8.0, 8.5, None]}), folder / "8.parquet")
    pq.write_table(pa.table({"text": ["u", "v"], "n": ["nine", None]}), folder / "9.parquet")
    pq.write_table(pa.table({"text": ["w"], "n": [10], "new": ["!"]}), folder / "91.parquet")
    done = fdf.finishes(recipe_for("parquet"))
    assert "2 quarantined" in done.output
    out = committed(tmp_path / "out")
    found = dict(zip(out.column("text"), out.column("n"), strict=True))
    assert found == {**{str(n): n for n in range(8)}, "x": 8, "z": None, "v": None, "w": 10}
    why = {row["__fdf__/error"]: row["__fdf__/id"].split(":")[1] for row in out.rows("quarantine")}
    assert len(why) == 2
    assert why["column `n` holds string, which does not fit int64"] == "0"
    assert next(p for reason, p in why.items() if reason.startswith("column `n`: Float value 8.5")) == "1"
    extra = {Path(i["uri"]).name: i["extra_columns"] for i in out.manifest["inputs"] if i["extra_columns"]}
    assert extra == {"91.parquet": ["new"]}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_new_column_of_a_later_file_can_be_made_an_error(fdf, folder, nothing_half, kind):
    for number in range(9):
        columns = {"text": ["x"], **({"new": ["!"]} if number == 8 else {})}
        if kind == "parquet":
            pq.write_table(pa.table(columns), folder / f"{number}.parquet")
        else:
            (folder / f"{number}.jsonl").write_text(json.dumps({k: v[0] for k, v in columns.items()}) + "\n")
    chain = [operator("score", "TextStatistics")]
    fdf.refuses(
        recipe_for(kind, operators=chain, extra_columns="error"),
        code=3,
        says=[f"8.{kind}", "['new']", "schema:", "extra_columns: drop"],
    )
    assert nothing_half(fdf.folder / "one") == 8


# --- Archives with hostile names --------------------------------------------------------------------------------------


def test_members_that_point_outside_are_read_as_data_and_nothing_is_unpacked(fdf, folder, tmp_path, committed):
    outside = tmp_path / "outside"
    names = [f"../{outside.name}/one", f"{outside}/two", "../../../../../../../../tmp/fdf-three", "inside/four"]
    with tarfile.open(folder / "a.tar", "w") as archive:
        for name in names:
            for extension, data in (("txt", b"text of " + name.encode()), ("json", b'{"a": 1}')):
                member = tarfile.TarInfo(f"{name}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("inside/five.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    here = set(tmp_path.rglob("*"))
    fdf.finishes(recipe_for("webdataset"))
    out = committed(tmp_path / "out")
    assert out.column("text") == [f"text of {name}" for name in names]
    assert out.column("__key__") == names
    made = {p.relative_to(tmp_path).parts[0] for p in set(tmp_path.rglob("*")) - here}
    assert made <= {"out", "fdf-home", "recipe.yaml"}
    assert not Path("/tmp/fdf-three.txt").exists()
