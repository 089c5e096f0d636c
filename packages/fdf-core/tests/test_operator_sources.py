"""Code that changes under one version is told, and what is committed stays."""

from __future__ import annotations

import importlib
import linecache

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf

BASE = "from fdf import Score\n\n\nclass Base(Score):\n    bound = 1\n"
OWN = """
import dataclasses
import pyarrow as pa
from base_of_{name} import Base

@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(Base):
    field: str = "n"
    version = "1"

    def writes(self, schema):
        return {{"x": pa.int64()}}

    def score(self, batch):
        return {{"x": pa.nulls(batch.num_rows, pa.int64())}}
"""


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("changed", ["own", "base", "nothing"])
def test_change_of_a_class_or_of_what_it_shares_is_told_where_a_stage_goes_on(tmp_path, monkeypatch, changed):
    own, base = tmp_path / f"own_of_{changed}.py", tmp_path / f"base_of_{changed}.py"
    own.write_text(OWN.format(name=changed))
    base.write_text(BASE)
    monkeypatch.syspath_prepend(tmp_path)
    operator = importlib.import_module(own.stem).Own()
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"n": [1]}), tmp_path / "in" / "a.parquet")
    pipeline = (
        fdf.Pipeline("sources")
        .read("parquet", path=f"{tmp_path}/in/*.parquet")
        .stage("s", [operator], path=str(tmp_path / "s"))
    )
    fdf.run(pipeline, runner="serial")
    if changed == "own":
        own.write_text(OWN.format(name=changed).replace("pa.nulls(", "pa.nulls(  "))
    elif changed == "base":
        base.write_text(BASE.replace("bound = 1", "bound = 2"))
    linecache.checkcache()
    pq.write_table(pa.table({"n": [2]}), tmp_path / "in" / "b.parquet")
    events = []
    result = fdf.run(pipeline, runner="serial", fresh=True, on_event=events.append)
    told = [
        e.data["message"] for e in events if e.kind == "warning" and "changed under one version" in e.data["message"]
    ]
    assert len(told) == (changed != "nothing")
    assert result.manifest["counts"]["rows_out"] == 2
