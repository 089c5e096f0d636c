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
tables = st.lists(st.lists(st.tuples(texts, st.one_of(st.none(), st.integers(0, 4))), max_size=9), min_size=1, max_size=3)


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
