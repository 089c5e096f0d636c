"""`fdf mix plan` and `fdf mix show`: what is foreseen is what happens, and what happened is told per source."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.cli.main import main
from fdf.mixture.holdings import Holding
from fdf.mixture.outlook import foresee
from fdf.mixture.scheduler import Scheduler
from fdf.mixture.settings import read_settings

LENGTHS = {"web": 5, "code": 6, "math": 4}
ROWS = {"web": 3000, "code": 2000, "math": 300}


@pytest.fixture
def fdf(home, tmp_path, monkeypatch):
    """Give a function that writes a recipe, calls a command on it, and returns what came on stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FDF_CACHE", str(tmp_path / "cache"))
    dice = np.random.default_rng(3)
    for name, rows in ROWS.items():
        texts = ["x" * int(n) for n in np.maximum(1, dice.lognormal(LENGTHS[name], 1, rows))]
        if name == "code":
            with gzip.open(tmp_path / "code.jsonl.gz", "wt") as file:
                file.writelines(json.dumps({"text": t}) + "\n" for t in texts)
        else:
            pq.write_table(pa.table({"text": texts}), tmp_path / f"{name}.parquet", row_group_size=500)

    def call(words: list[str], *, code: int = 0, datasets: dict[str, Any] | None = None, **keys: Any) -> Any:
        listed = []
        for name, weight in {"web": 0.6, "code": 0.3, "math": 0.1}.items():
            source = {"type": "jsonl", "path": "code.jsonl.gz"} if name == "code" else None
            own = {"weight": weight, **(datasets or {}).get(name, {})}
            listed.append({"name": name, "source": source or {"type": "parquet", "path": f"{name}.parquet"}, **own})
        recipe = {
            "name": "mixed",
            "input": {"type": "mixture", "datasets": listed, **keys},
            "stages": [
                {
                    "name": "clean",
                    "operators": [
                        {
                            "id": "short",
                            "kind": "filter",
                            "op": "ExpressionFilter",
                            "params": {"keep": "length(text) < 400"},
                        }
                    ],
                }
            ],
            "output": {"type": "parquet", "path": "out"},
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        done = CliRunner().invoke(main, words)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in words and done.stdout.startswith(("{", "[")) else done

    return call


PLAN = ["mix", "plan", "recipe.yaml", "--json"]
RUN = ["run", "recipe.yaml", "--runner", "serial", "--run-id", "it"]


def test_rows_are_known_exactly_by_footers_and_estimated_where_there_are_none(fdf):
    held = {leaf["name"]: leaf["holds"] for leaf in fdf(PLAN, unit="rows")["leaves"]}
    assert held["web"] == {"units": 3000, "rows": 3000, "exact": True, "from": "footers", "largest": 1}
    assert held["math"]["units"] == 300


def test_compressed_lines_that_were_not_measured_are_extrapolated(fdf, monkeypatch):
    monkeypatch.setattr("fdf.mixture.holdings.SAMPLE_ROWS", 200)
    # Otherwise one block holds them all.
    monkeypatch.setattr("fdf.sources.lines.BLOCK_BYTES", 100_000)
    held = {leaf["name"]: leaf["holds"] for leaf in fdf(PLAN, unit="tokens")["leaves"]}["code"]
    assert not held["exact"]
    assert held["rows"] == pytest.approx(2000, rel=0.15)
    assert held["from"] == "sample"


def test_what_is_foreseen_is_what_happens(fdf):
    keys = {
        "unit": "tokens",
        "on_exhausted": "renormalize",
        "datasets": {"web": {"cap": 60_000}, "math": {"epochs": 2}},
        "schedule": [{"at": 30_000, "weights": {"math": 0.3}, "ramp": "linear"}],
    }
    about = fdf(PLAN, **keys)
    fdf(RUN, **keys)
    foreseen = fdf(PLAN, **keys)
    (story,) = fdf(["mix", "show", "it", "--json"], **keys)
    assert not about["exact"]
    assert foreseen["exact"]
    assert [(e["name"], e["cause"]) for e in foreseen["events"]] == [(e["name"], e["cause"]) for e in story["events"]]
    documents = sum(leaf["holds"]["largest"] for leaf in foreseen["leaves"])
    for mine, real in zip(foreseen["events"], story["events"], strict=True):
        assert abs(mine["at"] - real["at"]) < documents
    for mine, real in zip(foreseen["leaves"], story["leaves"], strict=True):
        assert abs(mine["delivered"] - real["delivered_units"]) < documents
    assert foreseen["leaves"][2]["epochs"] == story["leaves"][2]["epochs"] == 2


def test_shares_are_told_at_the_points_of_the_schedule_and_where_sources_end(fdf):
    plan = fdf(PLAN, unit="rows", total=2000, schedule=[{"at": 1000, "weights": {"math": 0.1, "web": 0.1}}])
    shares = [(p["at"], [round(s, 3) for s in p["shares"].values()]) for p in plan["curve"]]
    assert shares == [(0, [0.6, 0.3, 0.1]), (1000, [0.2, 0.6, 0.2])]
    assert [leaf["delivered"] for leaf in plan["leaves"]] == [800, 900, 300]


def test_total_that_sources_cannot_fill_is_an_error_where_they_are_known_and_a_warning_where_not(fdf, monkeypatch):
    words = ["mix", "plan", "recipe.yaml"]
    done = fdf(words, unit="rows", total=50_000, code=2)
    assert "error[FDF345]: the mixture is infeasible: `math` runs out at 3,000 units, before the `total`" in done.stderr
    assert "--> recipe.yaml" in done.stderr
    done = fdf(words, unit="rows", total=50_000, on_exhausted="renormalize", code=2)
    assert "`code` runs out at 5,300 units" in done.stderr
    monkeypatch.setattr("fdf.mixture.holdings.SAMPLE_ROWS", 200)
    monkeypatch.setattr("fdf.sources.lines.BLOCK_BYTES", 100_000)
    done = fdf(words, unit="rows", total=50_000, on_exhausted="renormalize")
    assert "warning[FDF345]: the mixture seems infeasible" in done.stderr


def test_repeat_without_a_total_is_told_to_have_no_end(fdf):
    done = fdf(["mix", "plan", "recipe.yaml"], unit="rows", on_exhausted="repeat")
    assert "nothing ends this mixture" in done.stdout
    assert fdf(PLAN, unit="rows", on_exhausted="repeat")["ends_at"] is None


def test_input_that_is_no_mixture_is_refused(fdf, tmp_path):
    fdf(["mix", "plan", "recipe.yaml"])
    (tmp_path / "one.yaml").write_text(
        "name: one\ninput: {type: parquet, path: web.parquet}\noutput: {type: parquet, path: o}\n"
    )
    done = CliRunner().invoke(main, ["mix", "plan", "one.yaml"])
    assert done.exit_code == 2
    assert "error[FDF347]" in done.stderr


def test_planned_delivered_and_kept_are_told_per_source(fdf, tmp_path):
    fdf(RUN, unit="tokens", total=100_000)
    (story,) = fdf(["mix", "show", "it", "--json"], unit="tokens", total=100_000)
    rows = pq.read_table(tmp_path / "out", columns=["text", "__fdf__/source"]).to_pylist()
    for leaf in story["leaves"]:
        kept = [r["text"] for r in rows if r["__fdf__/source"] == leaf["name"]]
        assert leaf["final_rows"] == len(kept)
        assert leaf["final_units"] == sum(-(-len(t) // 4) for t in kept)
        assert leaf["planned_units"] == leaf["delivered_units"] > leaf["final_units"]
    asked = {leaf["name"]: leaf["asked"] for leaf in story["leaves"]}
    assert asked == {"web": 0.6, "code": 0.3, "math": 0.1}
    assert story["kept_in"] == "output"
    assert story["deviation"] < story["bound"]


def test_deviation_over_time_is_that_of_the_rows_as_they_come(fdf, tmp_path):
    fdf(RUN, unit="tokens", total=100_000)
    (story,) = fdf(["mix", "show", "it", "--json"], unit="tokens", total=100_000)
    assert len(story["track"]) > 10
    root = tmp_path / "fdf-home" / "runs" / "it" / "clean"
    manifest = json.loads((root / "manifest.json").read_text())
    kept = [pq.read_table(root / f["path"]).to_pylist() for f in manifest["outputs"]]
    gone = [pq.read_table(root / f["path"]).to_pylist() for f in manifest["dropped"]]
    assert sum(map(len, kept)) + sum(map(len, gone)) == manifest["counts"]["rows_in"]
    for moment in story["track"]:
        assert abs(sum(moment["ahead"])) < 0.01
        assert max(map(abs, moment["ahead"])) < story["bound"]
    shown = fdf(["mix", "show", str(root)], unit="tokens", total=100_000).stdout
    assert "farthest from a target" in shown
    assert "over the schedule" in shown


def test_output_directory_alone_tells_what_is_left(fdf):
    fdf(RUN, unit="rows", total=500)
    (story,) = fdf(["mix", "show", "out", "--json"], unit="rows", total=500)
    assert [leaf["delivered_units"] for leaf in story["leaves"]] == [300, 150, 50]
    assert story["track"] == []


def test_run_that_mixed_nothing_is_refused(home, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    words("a", ["x"])
    (tmp_path / "r.yaml").write_text("name: r\ninput: {type: parquet, path: in}\noutput: {type: parquet, path: out}\n")
    assert CliRunner().invoke(main, ["run", "r.yaml", "--runner", "serial"]).exit_code == 0
    done = CliRunner().invoke(main, ["mix", "show", "out"])
    assert done.exit_code == 2
    assert "error[FDF348]: nothing that `out` committed was mixed" in done.stderr


class _Rows:
    """A feed of rows: so many per epoch of each source."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts
        self._given: set[tuple[int, int]] = set()

    def take(self, leaf: int, epoch: int):
        if (leaf, epoch) in self._given:
            return None
        self._given.add((leaf, epoch))
        return np.ones(self._counts[leaf], dtype=np.int64)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ends_are_foreseen_to_within_a_document_of_each_source(data):
    """The scheduler itself, row by row, is the second opinion."""
    names = [f"s{i}" for i in range(data.draw(st.integers(2, 4)))]
    counts = [data.draw(st.integers(200, 2000)) for _ in names]
    nodes: list[dict[str, Any]] = []
    for name in names:
        node = {"name": name, "weight": data.draw(st.integers(1, 5)), "epochs": data.draw(st.integers(1, 2))}
        cap = {"cap": data.draw(st.integers(100, 3000))} if data.draw(st.booleans()) else {}
        nodes.append(node | cap)
    given_keys: dict[str, Any] = {
        "on_exhausted": data.draw(st.sampled_from(["stop", "renormalize", f"fallback:{names[0]}"]))
    }
    if data.draw(st.booleans()):
        ramp = data.draw(st.sampled_from(["step", "linear", "cosine"]))
        given_keys["schedule"] = [{"at": data.draw(st.integers(1, 3000)), "weights": {names[1]: 7}, "ramp": ramp}]
    if data.draw(st.booleans()):
        given_keys["total"] = data.draw(st.integers(50, 6000))
    mix = read_settings(given_keys, nodes, seed=0).law()
    outlook = foresee(mix, [Holding(units=n, rows=n, exact=True, how="footers", largest=1) for n in counts])
    scheduler = Scheduler(mix, _Rows(counts))
    while not scheduler.done:
        scheduler.draw(1000)
    # A source is less than a row from its target, which it so meets up to 1 / share units earlier or later; what ends
    # after it inherits that.
    least = min(s for _, shares in outlook.curve for s in shares if s)
    slack = (len(outlook.events) + 1) * (len(names) + 1) / least
    assert outlook.units is not None
    assert abs(outlook.units - scheduler.position.units) <= slack
    mine = {(e.name, e.cause): e.at for e in outlook.events}
    real = {(e.name, e.cause): e.at for e in scheduler.events}
    for event in mine.keys() & real.keys():
        assert abs(mine[event] - real[event]) <= slack
    for event in mine.keys() ^ real.keys():
        # One that falls together with the end, or with the other end of the same source.
        name, at = event[0], {**mine, **real}[event]
        others = [outlook.units, *(t for (n, _), t in (*mine.items(), *real.items()) if n == name and t != at)]
        assert min(abs(at - t) for t in others) <= 2 * slack
