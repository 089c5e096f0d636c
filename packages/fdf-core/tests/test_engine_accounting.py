"""Every row is accounted for: the engine against a row-by-row model of what a recipe means, written independently."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fdf
from fdf.errors import StageFailed

OPERATORS = Path(__file__).with_name("engine_operators.py")
POISON = "boom"
WHENS = {
    None: lambda row: True,
    "k > 2": lambda row: row["k"] is not None and row["k"] > 2,
    "k IS NULL": lambda row: row["k"] is None,
    "text = 'aa' OR k = 0": lambda row: row["text"] == "aa" or row["k"] == 0,
}


class ModelStops(Exception):
    """`on_error: fail` met a row that fails."""


@dataclass
class Row:
    id: str
    values: dict[str, Any]
    refined: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)


@dataclass
class Model:
    """What a chain of operators does to rows, one row at a time."""

    kept: list[Row] = field(default_factory=list)
    dropped: list[tuple[Row, str, str, Any]] = field(default_factory=list)
    quarantined: list[tuple[Row, str]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    made: int = 0

    def run(self, rows: list[Row], steps: list[dict[str, Any]]) -> None:
        for row in rows:
            self._descend(row, steps)

    def _descend(self, row: Row, steps: list[dict[str, Any]]) -> None:
        if not steps:
            self.kept.append(row)
            return
        step, rest = steps[0], steps[1:]
        selected = WHENS[step.get("when")](row.values)
        params = step["params"]
        fails = selected and params["poison"] is not None and row.values["text"] == params["poison"]
        if fails and step["on_error"] == "fail":
            raise ModelStops(row.id)
        if fails and step["on_error"] == "quarantine":
            self.quarantined.append((row, step["id"]))
            return
        acts = selected and not fails
        for after in getattr(self, "_" + step["op"].rsplit(":", 1)[1].lower())(row, step, params, acts):
            self._descend(after, rest)

    def _lengths(self, row, step, params, acts):
        text = row.values["text"]
        row.values[params["into"]] = len(text) if acts and text is not None else None
        return [row]

    def _short(self, row, step, params, acts):
        text = row.values["text"]
        if acts and text is None:
            self.dropped.append((row, step["id"], "missing", {}))
            return []
        if acts and len(text) > params["most"]:
            self.dropped.append((row, step["id"], "too_long", {"value": len(text), "max": params["most"]}))
            return []
        return [row]

    def _upper(self, row, step, params, acts):
        text = row.values["text"]
        if acts and text is not None and text.upper() != text:
            row.values["text"] = text.upper()
            row.refined.append(step["id"])
        return [row]

    def _echo(self, row, step, params, acts):
        text, k = row.values["text"], row.values["k"]
        said = text * 2 if acts and k is not None and text is not None else None
        row.values[params["into"]] = said
        if said is not None:
            row.generated.append(step["id"])
        return [row]

    def _fan(self, row, step, params, acts):
        text = row.values["text"]
        row.values["copy"] = row.values.get("copy")
        if not acts:
            return [row]
        children = [
            Row(
                f"{row.id}/{step['id']}/{n}",
                {**row.values, "text": f"{text}{n}", "copy": n},
                list(row.refined),
                [*row.generated, step["id"]],
            )
            for n in range(len(text or "") % 3)
        ]
        self.made += len(children)
        if params["keep_parent"]:
            return [row, *children]
        self.replaced.append(row.id)
        return children


def step_strategy(number: int) -> st.SearchStrategy[dict[str, Any]]:
    def made(op: str, kind: str, **params: Any) -> st.SearchStrategy[dict[str, Any]]:
        return st.builds(
            lambda params, when, on_error, batch: {
                "id": f"s{number}.{op}",
                "kind": kind,
                "op": f"{OPERATORS}:{op}",
                "params": params,
                "on_error": on_error,
                **({"when": when} if when else {}),
                **({"batch_size": batch} if batch else {}),
            },
            st.fixed_dictionaries({"poison": st.sampled_from([None, POISON, "aa"]), **params}),
            st.sampled_from(list(WHENS)),
            st.sampled_from(["quarantine"] * 3 + ["null"] * 3 + ["fail"]),
            st.sampled_from([None, 1, 2, 5]),
        )

    return st.one_of(
        made("Lengths", "score", into=st.just(f"length{number}")),
        made("Short", "filter", most=st.integers(0, 4)),
        made("Upper", "refiner"),
        made("Echo", "generator", into=st.just(f"echo{number}")),
        made("Fan", "generator", keep_parent=st.booleans()),
    )


chains = st.integers(0, 4).flatmap(lambda n: st.tuples(*[step_strategy(i) for i in range(n)]))
texts = st.one_of(st.none(), st.sampled_from(["", "a", "aa", POISON, "é", "Bob", "naïve", "boom"]))
tables = st.lists(
    st.lists(st.tuples(texts, st.one_of(st.none(), st.integers(0, 4))), max_size=9), min_size=1, max_size=3
)


def input_rows(files: list[list[tuple[str | None, int | None]]]) -> list[Row]:
    rows = []
    for number, table in enumerate(files):
        prefix = hashlib.sha256(f"src\0f{number}.parquet".encode()).hexdigest()[:16]
        rows += [Row(f"{prefix}:{i}", {"text": text, "k": k}) for i, (text, k) in enumerate(table)]
    return rows


def read_part(root: Path, manifest: dict[str, Any], part: str) -> list[dict[str, Any]]:
    return [row for entry in manifest[part] for row in pq.read_table(root / entry["path"]).to_pylist()]


def run_files(root: Path, files, chain, *, drops: str = "full") -> dict[str, Any]:
    (root / "in").mkdir()
    for number, table in enumerate(files):
        texts_, ks = zip(*table, strict=True) if table else ((), ())
        columns = {"text": pa.array(texts_, pa.string()), "k": pa.array(ks, pa.int64())}
        pq.write_table(pa.table(columns), root / "in" / f"f{number}.parquet")
    recipe = {
        "name": "accounting",
        "input": {"type": "parquet", "name": "src", "path": f"{root}/in/*.parquet"},
        "stages": [
            {
                "name": "stage",
                "materialize": {"path": str(root / "stage"), "drops": drops},
                "min_errors": 10_000,
                "operators": list(chain),
            }
        ],
    }
    if not chain:
        recipe["stages"] = []
        recipe["output"] = {"type": "parquet", "path": str(root / "stage")}
    return fdf.run(recipe, runner="serial").manifest


@settings(
    max_examples=int(os.environ.get("FDF_TEST_EXAMPLES", "40")),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(files=tables, chain=chains)
def test_every_row_ends_where_a_row_by_row_reading_of_the_recipe_says(files, chain, monkeypatch):
    model = Model()
    try:
        model.run(input_rows(files), list(chain))
    except ModelStops:
        model = None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        monkeypatch.setenv("FDF_HOME", str(root / "home"))
        if model is None:
            with pytest.raises(StageFailed, match="failed on row"):
                run_files(root, files, chain)
            assert not (root / "stage" / "manifest.json").exists()
            return
        manifest = run_files(root, files, chain)
        kept, dropped, quarantined = (
            read_part(root / "stage", manifest, part) for part in ("outputs", "dropped", "quarantine")
        )
    user = [c["name"] for c in manifest["schema"] if not c["name"].startswith("__fdf__/")]
    assert [(r["__fdf__/id"], {c: r[c] for c in user}) for r in kept] == [
        (r.id, {c: r.values[c] for c in user}) for r in model.kept
    ]
    assert [r["__fdf__/refined_by"] for r in kept] == [r.refined for r in model.kept]
    assert [r["__fdf__/generated_by"] for r in kept] == [r.generated for r in model.kept]
    told = {(r["__fdf__/id"], r["__fdf__/dropped_by"], r["__fdf__/drop_reason"]): r for r in dropped}
    assert len(told) == len(dropped)
    assert set(told) == {(r.id, by, reason) for r, by, reason, _ in model.dropped}
    for row, by, reason, evidence in model.dropped:
        there = told[row.id, by, reason]
        assert json.loads(there["__fdf__/drop_evidence"]) == evidence
        assert there["text"] == row.values["text"]
        assert there["k"] == row.values["k"]
    failed = sorted((r["__fdf__/id"], r["__fdf__/failed_in"], r["text"]) for r in quarantined)
    assert failed == sorted((r.id, step, r.values["text"]) for r, step in model.quarantined)
    ids = [r["__fdf__/id"] for r in (*kept, *dropped, *quarantined)] + model.replaced
    assert len(set(ids)) == len(ids) == sum(map(len, files)) + model.made
    counts = manifest["counts"]
    assert counts == {
        "rows_in": sum(map(len, files)),
        "rows_out": len(model.kept),
        "rows_dropped": len(model.dropped),
        "rows_generated": model.made,
        "rows_expanded": len(model.replaced),
        "rows_quarantined": len(model.quarantined),
    }


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(files=tables, chain=chains, cut=st.integers(0, 4))
def test_cutting_a_chain_into_two_stages_changes_no_row(files, chain, cut, monkeypatch):
    chain = tuple({**step, "on_error": "quarantine"} for step in chain)
    model = Model()
    model.run(input_rows(files), list(chain))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        monkeypatch.setenv("FDF_HOME", str(root / "home"))
        whole = read_part(root / "stage", run_files(root, files, chain), "outputs")
        recipe = {
            "name": "two",
            "input": {"type": "parquet", "name": "src", "path": f"{root}/in/*.parquet"},
            "stages": [
                {"name": name, "materialize": {"path": str(root / name), "drops": "ids"}, "min_errors": 10_000,
                 "operators": list(part)}
                for name, part in (("one", chain[:cut]), ("two", chain[cut:]))
            ],
            "output": {"type": "parquet", "path": str(root / "final"), "shard_size": 1},
        }  # fmt: skip
        result = fdf.run(recipe, runner="serial")
        kept = read_part(root / "final", result.manifest, "outputs")
        gone = [r for s in ("one", "two") for r in read_part(root / s, result.manifests[s], "dropped")]
    assert [r["__fdf__/id"] for r in kept] == [r.id for r in model.kept]
    assert [r["__fdf__/refined_by"] for r in kept] == [r.refined for r in model.kept]
    assert [r["__fdf__/generated_by"] for r in kept] == [r.generated for r in model.kept]
    scores = {r["__fdf__/id"]: r.get("__fdf__/scores") for r in whole}
    assert [r.get("__fdf__/scores") for r in kept] == [scores[r.id] for r in model.kept]
    assert sorted((r["__fdf__/id"], r["__fdf__/dropped_by"]) for r in gone) == sorted(
        (r.id, by) for r, by, _, _ in model.dropped
    )


def test_a_column_that_changes_its_type_is_told_as_text_where_rows_are_rejected(tmp_path, home, op, words):
    words("a", ["ok", "boom", "long enough", None], k=pa.array([1, 2, 3, 4], pa.int64()))
    steps = [
        op("filter", "Short", "early", most=3, around={"when": "k = 3"}),
        op("refiner", "Spell", poison="boom"),
        op("filter", "Short", "late", most=3),
    ]
    recipe = one_stage(tmp_path, steps, drops="full")
    manifest = fdf.run(recipe, runner="serial").manifest
    rejected = read_part(tmp_path / "stage", manifest, "dropped") + read_part(
        tmp_path / "stage", manifest, "quarantine"
    )
    assert {(r["text"], r["k"]) for r in rejected} == {("long enough", "3"), (None, "4"), ("boom", "2")}
    assert [r["k"] for r in read_part(tmp_path / "stage", manifest, "outputs")] == ["1"]


@pytest.mark.parametrize("drops", ["full", "sample", "ids"])
def test_batch_boundaries_change_no_byte(tmp_path, home, op, drops):
    (tmp_path / "in").mkdir()
    for name in "ab":
        texts_ = [None if i % 11 == 0 else POISON if i % 47 == 5 else "xy" * (i % 7) for i in range(150)]
        table = pa.table({"text": pa.array(texts_, pa.string()), "k": pa.array(range(150), pa.int64())})
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet", row_group_size=60)
    found = {}
    for size in (1, 7, None):
        around = {"batch_size": size} if size else {}
        steps = [
            op("score", "Lengths", poison=POISON, around=around),
            op("generator", "Fan", keep_parent=True, around=around),
            op("refiner", "Upper", around={**around, "when": "copy IS NULL"}),
            op("filter", "Short", most=8, around={**around, "when": "k > 20"}),
            op("evaluator", "TextSum", around=around),
            op("evaluator", "ColumnStats", around=around),
        ]
        recipe = one_stage(tmp_path / str(size), steps, drops=drops, inputs=tmp_path / "in")
        recipe["output"] = {"type": "parquet", "path": str(tmp_path / str(size) / "final")}
        result = fdf.run(recipe, runner="serial")
        files = {
            str(p.relative_to(tmp_path / str(size))): p.read_bytes() for p in (tmp_path / str(size)).rglob("part-*")
        }
        assert {f.split("/")[1] for f in files if f.startswith("stage")} == {"data", "dropped", "quarantine"}
        found[size] = ([s.manifest["id"] for s in result.stages], files)
    assert found[1] == found[7] == found[None]


def one_stage(root: Path, steps, *, drops: str = "sample", inputs: Path | None = None) -> dict[str, Any]:
    return {
        "name": "one",
        "input": {"type": "parquet", "path": str(inputs or root / "in")},
        "stages": [
            {
                "name": "stage",
                "materialize": {"path": str(root / "stage"), "drops": drops},
                "min_errors": 1000,
                "operators": steps,
            }
        ],
    }


def test_a_dropped_sample_holds_every_id_and_at_most_a_hundred_whole_rows_for_each_reason(tmp_path, home, op, words):
    words("a", [None] * 50 + ["too long"] * 400 + ["ok"])
    manifest = fdf.run(one_stage(tmp_path, [op("filter", "Short")]), runner="serial").manifest
    rows = read_part(tmp_path / "stage", manifest, "dropped")
    assert len({r["__fdf__/id"] for r in rows}) == len(rows) == 450
    assert sum(r["text"] == "too long" for r in rows) == 100
    assert manifest["operators"][0]["dropped"] == {"missing": 50, "too_long": 400}


def test_a_stage_that_keeps_nothing_writes_one_empty_shard_and_the_next_stages_go_on(tmp_path, home, op, words):
    words("a", ["too long"] * 3)
    words("b", ["too long"] * 3)
    recipe = one_stage(tmp_path, [op("filter", "Short")])
    recipe["stages"].append({"name": "next", "operators": [op("score", "Lengths")]})
    recipe["output"] = {"type": "parquet", "path": str(tmp_path / "out")}
    result = fdf.run(recipe, runner="serial")
    assert [len(s.manifest["outputs"]) for s in result.stages] == [1, 1, 1]
    assert result.to_arrow().num_rows == 0
    assert {"text", "length"} <= set(pq.read_table(tmp_path / "out").schema.names)
    # And back: rows that come later take its place.
    words("b", ["ok"])
    assert fdf.run(recipe, runner="serial").to_arrow().column("text").to_pylist() == ["ok"]
    assert len(list((tmp_path / "out").glob("part-*"))) == 1


@pytest.mark.parametrize("size", [1, 2, None])
def test_rows_that_a_cast_leaves_out_lose_no_value(tmp_path, home, op, words, size):
    around = {"when": "k = 1", **({"batch_size": size} if size else {})}
    words("a", ["12", "7", None], k=[1, 0, 0])
    steps = [op("refiner", "CastColumns", "cast", types={"text": "int64"}, around=around)]
    result = fdf.run(one_stage(tmp_path, steps), runner="serial")
    assert result.to_arrow()["text"].to_pylist() == [12, 7, None]
    # A value that has no place in the new type is not quietly made null.
    words("a", ["12", "7", "x"], k=[1, 0, 0])
    with pytest.raises(StageFailed, match="`cast` turns column `text`"):
        fdf.run(one_stage(tmp_path, steps), runner="serial")


@pytest.mark.parametrize("size", [1, 2, None])
def test_on_error_null_makes_only_the_values_null_that_do_not_fit(tmp_path, home, op, words, size):
    around = {"on_error": "null", **({"batch_size": size} if size else {})}
    words("a", ["12", "x", "7"])
    words("b", ["y"])
    steps = [op("refiner", "CastColumns", types={"text": "int64"}, around=around)]
    result = fdf.run(one_stage(tmp_path, steps), runner="serial")
    assert result.to_arrow()["text"].to_pylist() == [12, None, 7, None]
    assert result.manifest["operators"][0]["errors"] == 2
