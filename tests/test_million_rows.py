"""A few bad rows among a million: exactly they are set aside, with reason and place; too many of them commit nothing,
and lose nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

ROWS = 1_000_000
NAMES = ("a.jsonl", "b.jsonl")
NULL, RAISING, UNPARSABLE = 333_333, 500_000, 777_777
OPERATORS = '''
import pyarrow as pa
import pyarrow.compute as pc
import fdf


@fdf.score(reads=["n"], writes={"half": "int64"})
def half(batch):
    """Halve `n`; it never learned what to do about a null."""
    if batch["n"].null_count:
        raise TypeError("n is null")
    return {"half": pc.shift_right(batch["n"], 1)}


@fdf.refiner(reads=["word"], writes={"word": "string"})
def shout(batch):
    """Write words in capitals; of one it is afraid."""
    if pc.any(pc.starts_with(batch["word"], "poison")).as_py():
        raise ValueError("afraid of poison")
    return {"word": pc.utf8_upper(batch["word"])}
'''


def write(folder: Path, *, poisoned: Collection[int]) -> list[int]:
    """Write a million rows into two files, of several byte ranges each; return where each line begins in its file."""
    lines = [b'{"n":%d,"word":"w"}\n' % n for n in range(ROWS)]
    lines[NULL] = b'{"n":null,"word":"w"}\n'
    lines[UNPARSABLE] = b'{"n":777777,"wor\n'
    for n in poisoned:
        lines[n] = b'{"n":%d,"word":"poison"}\n' % n
    offsets: list[int] = []
    for start, name in zip((0, ROWS // 2), NAMES, strict=True):
        half = lines[start : start + ROWS // 2]
        at = 0
        for line in half:
            offsets.append(at)
            at += len(line)
        folder.joinpath(name).write_bytes(b"".join(half))
    return offsets


def row_id(row: int, offsets: list[int]) -> str:
    """Return the id that DESIGN promises: 16 hex digits of source and path, then the line's place in its file."""
    name = NAMES[row >= ROWS // 2]
    return f"{hashlib.sha256(f'src{chr(0)}{name}'.encode()).hexdigest()[:16]}:{offsets[row]}"


@pytest.fixture
def recipe(tmp_path) -> dict[str, Any]:
    (tmp_path / "in").mkdir()
    (tmp_path / "my_ops.py").write_text(OPERATORS)
    return {
        "name": "million",
        "input": {"type": "jsonl", "name": "src", "path": "in/*.jsonl", "split_size": 4 << 20},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": "one"},
                "operators": [
                    {"id": "half", "kind": "score", "op": "my_ops.py:half"},
                    {"id": "shout", "kind": "refiner", "op": "my_ops.py:shout"},
                ],
            }
        ],
    }


def started(done: Any) -> int:
    return sum(json.loads(line)["event"] == "split_started" for line in done.stdout.splitlines())


def kept(tmp_path: Path, manifest: dict[str, Any]) -> pa.Table:
    columns = ["__fdf__/id", "n", "half", "word"]
    return pa.concat_tables(pq.read_table(tmp_path / "one" / f["path"], columns=columns) for f in manifest["outputs"])


OPTIONS = ("--runner", "local", "--workers", 2, "--json")


def test_three_bad_rows_of_a_million_are_exactly_those_in_quarantine(fdf, tmp_path, recipe, committed):
    offsets = write(tmp_path / "in", poisoned=[RAISING])
    done = fdf.run(recipe, *OPTIONS)
    assert done.exit_code == 0, done.output
    one = committed(tmp_path / "one")
    assert len(one.manifest["outputs"]) == started(done) >= 4
    found = {r["__fdf__/id"]: (r["__fdf__/failed_in"], r["__fdf__/error"], r["n"]) for r in one.rows("quarantine")}
    assert len(found) == one.counts["rows_quarantined"] == 3
    # The null is no misfit of the schema, which allows it: the operator raises on it.
    assert found[row_id(NULL, offsets)] == ("half", "TypeError: n is null", None)
    assert found[row_id(RAISING, offsets)] == ("shout", "ValueError: afraid of poison", RAISING)
    where, why, _ = found[row_id(UNPARSABLE, offsets)]
    assert where == "read"
    assert "JSON" in why
    table = kept(tmp_path, one.manifest)
    bad = {NULL, RAISING, UNPARSABLE}
    good = [n for n in range(ROWS) if n not in bad]
    assert table["n"].equals(pa.chunked_array([good])), "in input order"
    assert table["half"].equals(pa.chunked_array([[n // 2 for n in good]]))
    assert pc.all(pc.equal(table["word"], "W")).as_py()
    assert pc.count_distinct(table["__fdf__/id"]).as_py() == len(good)
    assert one.counts == {
        "rows_in": ROWS,
        "rows_out": ROWS - 3,
        "rows_dropped": 0,
        "rows_generated": 0,
        "rows_expanded": 0,
        "rows_quarantined": 3,
    }
    half, shout = one.manifest["operators"]
    assert [(o["rows_in"], o["rows_out"], o["rows_quarantined"]) for o in (half, shout)] == [
        (ROWS - 1, ROWS - 2, 1),
        (ROWS - 2, ROWS - 3, 1),
    ]
    assert fdf("verify", "one").exit_code == 0


def test_more_bad_rows_than_the_budget_commit_nothing_and_lose_nothing(fdf, tmp_path, recipe, committed, nothing_half):
    # One of a thousand may fail by default; with the null and the torn line it is one too many.
    poisoned = range(ROWS // 2, ROWS // 2 + 999)
    write(tmp_path / "in", poisoned=poisoned)
    done = fdf.run(recipe, *OPTIONS)
    assert done.exit_code == 3, done.output
    problem = json.loads(done.stderr.splitlines()[-1])[0]
    assert "1001 of 1000000 rows failed, 1000 may" in problem["message"]
    assert "999 x shout: ValueError: afraid of poison" in problem["message"]
    receipts = nothing_half(tmp_path / "one")
    assert receipts == started(done) >= 4
    recipe["stages"][0]["max_error_rate"] = 0.002
    raised = fdf.run(recipe, *OPTIONS)
    assert raised.exit_code == 0, raised.output
    assert started(raised) == 0
    one = committed(tmp_path / "one")
    assert one.manifest["resumed_splits"] == receipts
    assert (one.counts["rows_out"], one.counts["rows_quarantined"]) == (ROWS - 1001, 1001)
    assert set(one.column("n", "quarantine")) == {None, *poisoned}
    assert fdf("verify", "one").exit_code == 0
