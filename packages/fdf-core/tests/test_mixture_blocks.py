"""`granularity: block`: row groups are mixed by what their footers say, and nothing is measured."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from fdf.cli.main import main

WEIGHTS = {"p": 3, "q": 1}
GROUPS = {"p": 130, "q": 170}


@pytest.fixture
def mixing(home, tmp_path, monkeypatch):
    """Give a function that mixes two parquet files and returns the manifest and the rows in their order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FDF_CACHE", str(tmp_path / "cache"))
    dice = np.random.default_rng(5)
    for name, rows in (("p", 3000), ("q", 1000)):
        lengths = np.maximum(1, dice.lognormal(4, 1, rows)).astype(int)
        texts = [dice.bytes(int(n)).hex() for n in lengths]
        table = pa.table({"text": texts, "n": range(rows), "tokens": [list(range(n % 5)) for n in range(rows)]})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=GROUPS[name])

    def run(*words: str, command: str = "run", code: int = 0, **keys: Any) -> Any:
        own = keys.pop("own", {})
        listed = [
            {"name": n, "weight": w, "source": {"type": "parquet", "path": f"{n}.parquet"}, **own.get(n, {})}
            for n, w in WEIGHTS.items()
        ]
        recipe = {
            "name": "blocks",
            "input": {"type": "mixture", "granularity": "block", "datasets": listed, **keys},
            "stages": [{"name": "mixed", "materialize": {"path": "mixed"}, "operators": []}],
        }
        Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
        runner = ["--runner", "serial"] if command == "run" else []
        done = CliRunner().invoke(main, [*command.split(), "recipe.yaml", *runner, *words])
        assert done.exit_code == code, done.output
        if command != "run" or code:
            return done
        manifest = json.loads(Path("mixed/manifest.json").read_text())
        rows = [r for f in manifest["outputs"] for r in pq.read_table(Path("mixed") / f["path"]).to_pylist()]
        return manifest, rows

    return run


def blocks_of(rows: list[dict[str, Any]]) -> list[tuple[str, int, list[int]]]:
    """Return the blocks in which rows come: source, number of the row group, row numbers."""
    key = [(r["__fdf__/source"], r["n"] // GROUPS[r["__fdf__/source"]], r["n"]) for r in rows]
    return [(s, g, [n for _, _, n in members]) for (s, g), members in groupby(key, key=lambda k: k[:2])]


def footer_sizes(name: str, unit: str) -> list[int]:
    """Return what pyarrow says of each row group."""
    metadata = pq.read_metadata(f"{name}.parquet")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if unit == "rows":
        return [g.num_rows for g in groups]
    if unit == "bytes":
        return [g.column(0).total_uncompressed_size for g in groups]
    texts = pq.read_table(f"{name}.parquet", columns=["tokens"]).column("tokens").to_pylist()
    size = GROUPS[name]
    return [sum(map(len, texts[i * size : (i + 1) * size])) for i in range(len(groups))]


@pytest.mark.parametrize("unit", ["rows", "bytes", "tokens"])
def test_each_prefix_of_whole_row_groups_is_within_one_block_of_its_share(mixing, unit):
    manifest, rows = mixing(unit=unit)
    mixture = manifest["mixture"]
    assert mixture["granularity"] == "block"
    assert all(leaf["sizes"]["method"].startswith("footers, for: ") for leaf in mixture["leaves"])
    sizes = {name: footer_sizes(name, unit) for name in WEIGHTS}
    largest = max(max(s) for s in sizes.values())
    assert mixture["bound"] <= largest
    done = dict.fromkeys(WEIGHTS, 0)
    came = blocks_of(rows)
    # A row group that comes in two parts would be there twice.
    assert len({(s, g) for s, g, _ in came}) == len(came)
    for source, group, members in came:
        assert len(members) == pq.read_metadata(f"{source}.parquet").row_group(group).num_rows
        done[source] += sizes[source][group]
        total = sum(done.values())
        for name, weight in WEIGHTS.items():
            assert abs(done[name] - total * weight / 4) < largest
    planned = {leaf["name"]: leaf["planned"]["units"] for leaf in mixture["leaves"]}
    assert planned == done


def test_nothing_is_measured(mixing, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("rows were read to be measured")

    monkeypatch.setattr("fdf.mixture.measuring.Leaf._read", refuse)
    mixing(unit="bytes")
    assert not (tmp_path / "cache" / "mixture-sizes").exists()
    plan = json.loads(mixing("--json", command="mix plan", unit="bytes").stdout)
    assert [leaf["holds"]["from"] for leaf in plan["leaves"]] == ["footers", "footers"]
    assert plan["leaves"][0]["holds"]["units"] == sum(footer_sizes("p", "bytes"))


def test_what_rows_really_weigh_is_told_beside_what_was_planned(mixing):
    manifest, rows = mixing(unit="bytes")
    for leaf in manifest["mixture"]["leaves"]:
        real = sum(len(r["text"]) for r in rows if r["__fdf__/source"] == leaf["name"])
        assert leaf["delivered"]["units"] == real != leaf["planned"]["units"]


def test_parts_of_epochs_are_counted_in_blocks(mixing):
    own = {"p": {"epochs": 0.5}, "q": {"epochs": 2}}
    manifest, rows = mixing(unit="rows", on_exhausted="renormalize", own=own)
    delivered = {leaf["name"]: leaf["delivered"]["rows"] for leaf in manifest["mixture"]["leaves"]}
    # 24 row groups of 130 rows, the last of 10; which half it is follows from the order of the file.
    assert delivered == {"p": 12 * 130, "q": 2000}
    assert len({r["__fdf__/id"] for r in rows}) == len(rows)


def test_limit_may_end_inside_a_block(mixing):
    manifest, rows = mixing("--limit", "333", unit="rows")
    assert len(rows) == manifest["counts"]["rows_in"] == 333
    assert [len(members) for _, _, members in blocks_of(rows)][:-1] == [130, 170][: len(blocks_of(rows)) - 1]


def test_run_again_gives_the_same_rows(mixing, tmp_path):
    first, rows = mixing("--run-id", "one", unit="bytes")
    (tmp_path / "mixed").rename(tmp_path / "before")
    second, again = mixing("--run-id", "two", unit="bytes")
    assert first["id"] == second["id"]
    assert rows == again


def test_lines_have_no_blocks(mixing, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"text": "x"}\n')
    own = {"p": {"source": {"type": "jsonl", "path": "p.jsonl"}}}
    done = mixing(unit="rows", own=own, code=2)
    assert (
        "error[FDF349]: `p` cannot be mixed by `granularity: block`: a `jsonl` source has no row groups" in done.stderr
    )
    assert "granularity: block\n" in done.stderr


def test_sums_that_footers_do_not_tell_are_refused(mixing, tmp_path):
    pq.write_table(pa.table({"text": ["x"], "tokens": [3]}), tmp_path / "p.parquet")
    pq.write_table(pa.table({"text": ["x"], "tokens": [3]}), tmp_path / "q.parquet")
    done = mixing(unit="tokens", code=2)
    assert "footers do not say what the numbers in `tokens` add up to" in done.stderr
    (tmp_path / "tokenizer.json").write_text("{}")
    for name in "pq":
        pq.write_table(pa.table({"text": ["x"]}), tmp_path / f"{name}.parquet")
    done = mixing(unit="tokens", tokenizer="tokenizer.json", code=2)
    assert "a tokenizer would have to read the rows" in done.stderr
