"""Mixtures that cannot be what they ask for: each is told with its place and a next step, or has its documented end."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from fdf.cli.main import main


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


class Mixing:
    """Writes a recipe over datasets `name: (file, keys)`, and runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        datasets: dict[str, tuple[str, dict[str, Any]]],
        *words: str,
        command: str = "run",
        stages: list[dict[str, Any]] | None = None,
        out: str = "out",
        **keys: Any,
    ) -> Any:
        listed = []
        for name, (file, own) in datasets.items():
            source = {"type": "parquet" if file.endswith("parquet") else "jsonl", "path": file, **own.get("source", {})}
            listed.append({"name": name, "weight": 1, **own, "source": source})
        for dataset in listed:
            if dataset["weight"] == "none":
                del dataset["weight"]
        recipe = {
            "name": "mixed",
            "input": {"type": "mixture", "datasets": listed, **keys},
            **({"stages": stages} if stages else {}),
            "output": {"type": "parquet", "path": out},
        }
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        runner = ["--runner", "serial"] if command == "run" else []
        done = CliRunner().invoke(main, [command, "recipe.yaml", *runner, *words])
        assert "Traceback" not in done.output, done.output
        return done

    def finishes(self, *args: Any, out: str = "out", **keys: Any) -> dict[str, Any]:
        """Run, and return the manifest of what came out."""
        done = self(*args, out=out, **keys)
        assert done.exit_code == 0, done.output
        manifest = json.loads((self.folder / out / "__fdf__" / "manifest.json").read_text())
        return {**manifest, "of": {leaf["name"]: leaf for leaf in manifest["mixture"]["leaves"]}, "said": done.output}

    def refuses(self, *args: Any, code: int, says: str, at: str | None, **keys: Any) -> str:
        """Run what ends badly: with these words, at a line of the recipe that holds `at` (None: without a place)."""
        done = self(*args, **keys)
        assert done.exit_code == code, done.output
        assert says in done.stderr, done.stderr
        if at is not None:
            assert "--> recipe.yaml:" in done.stderr, done.stderr
            marked = [m.split("|", 1)[1] for m in done.stderr.splitlines() if m.split("|")[0].strip().isdigit()]
            assert any(at in line for line in marked), done.stderr
        assert at is not None or "= help: " in done.stderr
        return str(done.stderr)

    def rows(self, out: str = "out") -> list[dict[str, Any]]:
        """Return the rows of an output, in its order."""
        manifest = json.loads((self.folder / out / "__fdf__" / "manifest.json").read_text())
        return [r for f in manifest["outputs"] for r in pq.read_table(self.folder / out / f["path"]).to_pylist()]


@pytest.fixture
def mixing(home, tmp_path, monkeypatch) -> Mixing:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FDF_CACHE", str(tmp_path / "cache"))
    lines(tmp_path / "a.jsonl", [{"text": f"aaaa {i}"} for i in range(50)])
    lines(tmp_path / "b.jsonl", [{"text": f"bb {i}"} for i in range(50)])
    return Mixing(tmp_path)


A: dict[str, Any] = {"a": ("a.jsonl", {})}
B: dict[str, Any] = {"b": ("b.jsonl", {})}


@pytest.mark.parametrize(
    ("value", "code"),
    [(-1, "FDF113"), (float("nan"), "FDF104"), (float("inf"), "FDF104"), ("much", "FDF112"), (True, "FDF112")],
)
@pytest.mark.parametrize("where", ["weight", "cap", "epochs", "schedule"])
def test_number_that_is_none_is_told_at_its_line(mixing, value, code, where):
    own = {} if where == "schedule" else {where: value}
    keys = {"schedule": [{"at": 5, "weights": {"b": value}}]} if where == "schedule" else {}
    at = "b:" if where == "schedule" else f"{where}:"
    mixing.refuses({"a": ("a.jsonl", own), **B}, code=2, says=f"error[{code}]", at=at, **keys)


def test_weight_of_zero_delivers_nothing(mixing):
    done = mixing.finishes({"a": ("a.jsonl", {"weight": 0}), **B}, unit="rows")
    assert done["of"]["a"]["delivered"] == {"rows": 0, "units": 0}
    assert done["of"]["b"]["delivered"] == {"rows": 50, "units": 50}


def test_weights_of_nothing_but_zero_are_refused(mixing):
    zeros = {"a": ("a.jsonl", {"weight": 0}), "b": ("b.jsonl", {"weight": 0})}
    mixing.refuses(zeros, code=2, says="error[FDF143]: every weight is 0", at="name: a")


def test_schedule_that_takes_every_weight_away_ends_the_mixture_there(mixing):
    done = mixing.finishes({**A, **B}, unit="rows", schedule=[{"at": 8, "weights": {"a": 0, "b": 0}}])
    assert done["counts"]["rows_in"] == 8
    assert [(e["at"], e["cause"]) for e in done["mixture"]["events"]] == [(8, "weights")]


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        ({"schedule": [{"at": 5, "weights": {"bb": 1}}]}, "bb: 1"),
        ({"on_exhausted": "fallback:bb"}, "fallback:bb"),
    ],
)
def test_name_that_is_not_there_is_told_with_the_one_that_is_meant(mixing, keys, at):
    said = mixing.refuses({**A, **B}, code=2, says="the mixture holds nothing named `bb`", at=at, **keys)
    assert "did you mean `b`?" in said or "there are: a, b" in said


def test_datasets_of_one_name_are_refused(mixing):
    listed = [{"name": "a", "weight": 1, "source": {"type": "jsonl", "path": "a.jsonl"}}] * 2
    recipe = {"name": "m", "input": {"type": "mixture", "datasets": listed}, "output": {"type": "parquet", "path": "o"}}
    (mixing.folder / "r.yaml").write_text(json.dumps(recipe))
    done = CliRunner().invoke(main, ["run", "r.yaml", "--runner", "serial"])
    assert done.exit_code == 2
    assert "error[FDF140]: two datasets are named `a`" in done.stderr


def test_schedule_out_of_order_is_told_at_the_point(mixing):
    mixing.refuses({**A, **B}, code=2, says="`at` must rise", at="at: 5", schedule=[{"at": 50}, {"at": 5}])


def test_cap_below_one_document_lets_one_document_cross_it(mixing):
    done = mixing.finishes({"a": ("a.jsonl", {"cap": 1}), **B}, unit="bytes", on_exhausted="renormalize")
    assert done["of"]["a"]["delivered"]["rows"] == 1
    assert done["of"]["b"]["delivered"]["rows"] == 50


def test_total_below_one_document_lets_one_document_cross_it(mixing):
    assert mixing.finishes({**A, **B}, unit="bytes", total=1)["counts"]["rows_in"] == 1


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_source_without_rows_fails_the_stage_and_is_named(mixing, kind):
    lines(mixing.folder / "none.jsonl", [])
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), mixing.folder / "none.parquet")
    mixing.refuses({"none": (f"none.{kind}", {}), **B}, code=3, says="`none` has no rows", at=None, unit="rows")


def test_rows_that_all_weigh_nothing_fail_the_stage(mixing):
    lines(mixing.folder / "zero.jsonl", [{"text": ""}] * 20)
    mixing.refuses({"z": ("zero.jsonl", {}), **B}, code=3, says="all 20 rows of `z` weigh 0", at=None, unit="tokens")


def test_columns_that_cannot_meet_are_told_with_both_datasets(mixing):
    lines(mixing.folder / "n.jsonl", [{"n": i} for i in range(9)])
    lines(mixing.folder / "s.jsonl", [{"n": "s"} for i in range(9)])
    said = mixing.refuses(
        {"whole": ("n.jsonl", {}), "text": ("s.jsonl", {})},
        code=2,
        says="column `n` is int64 in `whole` and string in `text`",
        at="name: text",
        unit="rows",
    )
    assert "schema: { n: string }" in said


def test_whole_numbers_are_widened_and_missing_columns_are_null(mixing):
    lines(mixing.folder / "n.jsonl", [{"n": i} for i in range(10)])
    lines(mixing.folder / "f.jsonl", [{"n": i + 0.5, "more": "x"} for i in range(10)])
    mixing.finishes({"whole": ("n.jsonl", {}), "real": ("f.jsonl", {})}, unit="rows")
    rows = mixing.rows()
    assert pq.read_schema(next((mixing.folder / "out").glob("*.parquet"))).field("n").type == pa.float64()
    assert {r["more"] for r in rows if r["__fdf__/source"] == "whole"} == {None}
    assert {r["more"] for r in rows if r["__fdf__/source"] == "real"} == {"x"}


@pytest.mark.parametrize("unit", ["tokens", "images", "bytes"])
def test_dataset_without_the_column_that_counts_is_named(mixing, unit):
    lines(mixing.folder / "u.jsonl", [{"url": "u"}])
    said = mixing.refuses(
        {"links": ("u.jsonl", {})}, code=2, says=f"`links` cannot be mixed by {unit}", at="name: links", unit=unit
    )
    assert "it has: url" in said


def test_null_in_a_tokens_column_weighs_nothing_and_a_negative_number_fails(mixing):
    good, bad = [1, 2, None, 3] * 5, [1, 2, -1, 3] * 5
    for name, tokens in (("good", good), ("bad", bad)):
        pq.write_table(pa.table({"text": ["q"] * 20, "tokens": tokens}), mixing.folder / f"{name}.parquet")
    done = mixing.finishes({"t": ("good.parquet", {})}, unit="tokens")
    assert done["of"]["t"]["delivered"] == {"rows": 20, "units": 30}
    said = mixing.refuses(
        {"t": ("bad.parquet", {})}, code=3, says="a row of `t` has a negative number of tokens", at=None, unit="tokens"
    )
    assert "bad.parquet, at 2" in said


@pytest.mark.parametrize(("content", "code"), [(None, "cannot be read"), ("{}", "cannot be used")])
def test_tokenizer_that_is_none_is_told(mixing, content, code):
    if content is not None:
        (mixing.folder / "tokenizer.json").write_text(content)
    at = None if content else "tokenizer:"
    mixing.refuses({**A, **B}, code=2, says=code, at=at, unit="tokens", tokenizer="tokenizer.json")


@pytest.mark.parametrize(
    ("own", "policy", "says"),
    [
        ({"cap": 4}, "renormalize", "the caps add up to 8 units at most, less than the `total` of 20"),
        ({"cap": 4}, "stop", "`a` reaches its cap of 4 at 8 units, before the `total` of 20"),
    ],
)
def test_total_that_caps_keep_from_being_reached_is_told_before_anything_runs(mixing, own, policy, says):
    both = {"a": ("a.jsonl", own), "b": ("b.jsonl", own)}
    mixing.refuses(both, code=2, says=says, at="total: 20", unit="rows", total=20, on_exhausted=policy)


def test_repetition_without_an_end_is_refused_and_a_limit_is_one(mixing):
    keys = {"unit": "rows", "on_exhausted": "repeat"}
    mixing.refuses({**A, **B}, code=2, says="the mixture would never end", at="on_exhausted", **keys)
    capped = {"a": ("a.jsonl", {"cap": 70}), "b": ("b.jsonl", {"cap": 60})}
    assert mixing.finishes(capped, **keys)["counts"]["rows_in"] == 130
    assert mixing.finishes({**A, **B}, "--limit", "170", out="few", **keys)["counts"]["rows_in"] == 170


def test_limit_takes_the_first_rows_of_the_schedule(mixing):
    mixing.finishes({**A, **B}, unit="bytes", out="all")
    mixing.finishes({**A, **B}, "--limit", "17", unit="bytes", out="few")
    assert mixing.rows("few") == mixing.rows("all")[:17]


@pytest.mark.parametrize(("epochs", "rows"), [(0.5, 25), (0.25, 13), (1, 50), (2, 100), (2.5, 125)])
def test_source_is_read_as_often_as_asked_and_ids_say_how_often(mixing, epochs, rows):
    done = mixing.finishes({"a": ("a.jsonl", {"epochs": epochs}), **B}, unit="rows", on_exhausted="renormalize")
    assert done["of"]["a"]["delivered"]["rows"] == rows
    ids = [r["__fdf__/id"] for r in mixing.rows() if r["__fdf__/source"] == "a"]
    assert len(set(ids)) == len(ids) == rows
    often = [sum(f"#{epoch}" in i for i in ids) for epoch in (1, 2)]
    assert often == [min(50, max(0, rows - 50)), max(0, rows - 100)]
    first = {i for i in ids if "#" not in i}
    assert {i.split("#")[0] for i in ids} <= first


def test_half_an_epoch_counts_documents_whatever_they_weigh(mixing):
    done = mixing.finishes({"a": ("a.jsonl", {"epochs": 0.5}), **B}, unit="bytes", on_exhausted="renormalize")
    assert done["of"]["a"]["delivered"]["rows"] == 25


def test_temperature_takes_sizes_or_given_weights(mixing):
    lines(mixing.folder / "big.jsonl", [{"text": "x"} for i in range(200)])
    sizes = {"big": ("big.jsonl", {"weight": "none"}), "a": ("a.jsonl", {"weight": "none"})}
    given = {"big": ("big.jsonl", {"weight": 16}), "a": ("a.jsonl", {"weight": 1})}
    done = mixing.finishes(sizes, unit="rows", temperature=2, total=60, out="sizes")
    assert {n: leaf["delivered"]["rows"] for n, leaf in done["of"].items()} == {"big": 40, "a": 20}
    done = mixing.finishes(given, unit="rows", temperature=2, total=60, out="given")
    assert {n: leaf["delivered"]["rows"] for n, leaf in done["of"].items()} == {"big": 48, "a": 12}


def test_weights_of_a_point_do_not_stand_beside_sizes(mixing):
    sizes = {name: (f"{name}.jsonl", {"weight": "none"}) for name in ("a", "b")}
    point = [{"at": 10, "weights": {"a": 0.5}}]
    keys = {"unit": "rows", "temperature": 2, "schedule": point}
    said = mixing.refuses(sizes, code=2, says="name the others too: b", at="weights:", **keys)
    assert "FDF145" in said


@pytest.fixture
def truncated(mixing, monkeypatch) -> str:
    """Write gzipped lines that break off in the middle."""
    monkeypatch.setattr("fdf.sources.lines.BLOCK_BYTES", 50_000)
    dice = np.random.default_rng(0)
    text = "".join(json.dumps({"text": dice.bytes(150).hex()}) + "\n" for _ in range(4000))
    whole = gzip.compress(text.encode())
    (mixing.folder / "cut.jsonl.gz").write_bytes(whole[: len(whole) * 2 // 3])
    return "cut.jsonl.gz"


def test_file_that_breaks_off_fails_the_stage_by_name(mixing, truncated):
    keys = {"unit": "tokens", "on_exhausted": "renormalize"}
    mixing.refuses({"cut": (truncated, {}), **B}, code=3, says="cut.jsonl.gz cannot be read", at=None, **keys)


def test_rest_of_a_file_that_breaks_off_is_passed_by_on_request(mixing, truncated):
    own = {"source": {"on_bad_file": "skip"}}
    done = mixing.finishes({"cut": (truncated, own), **B}, unit="tokens", on_exhausted="renormalize")
    assert 1500 < done["of"]["cut"]["delivered"]["rows"] < 4000
    assert done["of"]["cut"]["planned"] == done["of"]["cut"]["delivered"]
    assert done["of"]["b"]["delivered"]["rows"] == 50


def test_order_does_not_depend_on_rows_that_cannot_be_read(mixing):
    rows = [{"text": "x", "n": i} for i in range(60)]
    lines(mixing.folder / "x.jsonl", rows)
    keys = {"unit": "rows", "on_exhausted": "renormalize"}
    mixing.finishes({"x": ("x.jsonl", {}), **B}, out="good", **keys)
    broken = [json.dumps(r) for r in rows]
    for i in (3, 20, 41):
        # As long as before, so that every other line stands where it stood.
        broken[i] = "[" + broken[i][1:-1] + "]"
    (mixing.folder / "x.jsonl").write_text("".join(line + "\n" for line in broken))
    done = mixing.finishes({"x": ("x.jsonl", {}), **B}, out="bad", **keys)
    assert done["counts"]["rows_quarantined"] == 3
    good, bad = ([(r["__fdf__/source"], r["n"]) for r in mixing.rows(out)] for out in ("good", "bad"))
    assert bad == [r for r in good if r not in {("x", 3), ("x", 20), ("x", 41)}]
    # They are charged as planned, and nothing of them is kept.
    assert done["of"]["x"]["delivered"]["rows"] == 60
    assert done["of"]["x"]["final"]["rows"] == 57


def sidecars(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "mixture-sizes").rglob("*.arrow"))


def tamper(folder: Path, change: Any) -> None:
    """Change the sizes of every remembered measurement."""
    for path in sidecars(folder):
        table = pa.ipc.open_file(path).read_all()
        sizes = change(table["size"].to_numpy())
        table = table.set_column(1, "size", pa.array(sizes, pa.int64()))
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)


def test_sizes_that_are_far_off_fail_the_stage(mixing):
    """Documents of 100 and of 10 bytes, remembered as if all were alike: shares are not what was asked."""
    lines(mixing.folder / "long.jsonl", [{"text": "x" * 100}] * 400)
    lines(mixing.folder / "short.jsonl", [{"text": "y" * 10}] * 400)
    both = {"long": ("long.jsonl", {}), "short": ("short.jsonl", {})}
    done = mixing.finishes(both, unit="bytes", out="honest")
    assert len(sidecars(mixing.folder)) == 2
    assert done["of"]["long"]["delivered"]["rows"] == 40
    tamper(mixing.folder, lambda sizes: np.full(len(sizes), 50))
    said = mixing.refuses(both, code=3, says="the mixture strayed", at=None, unit="bytes", out="broken")
    assert "its bound is 50" in said
    assert not (mixing.folder / "broken" / "__fdf__" / "manifest.json").exists()


def test_size_that_is_a_little_off_is_journaled(mixing):
    lines(mixing.folder / "long.jsonl", [{"text": "x" * 100}] * 40)
    both = {"long": ("long.jsonl", {}), **B}
    mixing.finishes(both, unit="bytes", out="honest")

    tamper(mixing.folder, lambda sizes: sizes - (sizes == 100))
    done = mixing.finishes(both, unit="bytes", out="off")
    long = done["of"]["long"]
    assert long["delivered"]["units"] == long["planned"]["units"] + long["delivered"]["rows"] > 0
    receipts = [json.loads(p.read_text()) for p in (mixing.folder / "off" / "__fdf__" / "_receipts").rglob("*.json")]
    assert sum(r["mixed"]["leaves"]["long"][3] for r in receipts) == long["delivered"]["rows"]


def rewrite(path: Path, text: str) -> None:
    """Write as many bytes into a file, and let it look as if nothing had happened."""
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_file_that_lost_rows_since_it_was_measured_fails_the_stage(mixing):
    path = mixing.folder / "x.jsonl"
    lines(path, [{"text": "x" * 10}] * 100)
    mixing.finishes({"x": ("x.jsonl", {}), **B}, unit="bytes", out="before")
    line = json.dumps({"text": "x" * 10}) + "\n"
    long = json.dumps({"text": "x" * (10 + len(line))}) + "\n"
    rewrite(path, long * 50)
    mixing.refuses(
        {"x": ("x.jsonl", {}), **B}, code=3, says="it changed since it was measured", at=None, unit="bytes", out="after"
    )


def keeping(expression: str, name: str = "any") -> dict[str, Any]:
    """Return a stage with a filter of the same name."""
    keep = {"id": name, "kind": "filter", "op": "ExpressionFilter", "params": {"keep": expression}}
    return {"name": name, "operators": [keep]}


def test_column_that_one_dataset_lacks_is_null_there_and_a_note(mixing):
    lines(mixing.folder / "n.jsonl", [{"text": "t", "n": i} for i in range(50)])
    done = mixing.finishes({"n": ("n.jsonl", {}), **B}, unit="rows", stages=[keeping("n is null or n > 40")])
    assert "column `n` is absent from `b`: `any` finds null there" in done["said"]
    assert done["of"]["n"]["final"]["rows"] == 9
    assert done["of"]["b"]["final"]["rows"] == done["of"]["b"]["delivered"]["rows"] >= 49


def test_image_that_no_dataset_has_is_null_bytes_and_a_note_for_each(mixing):
    stages = [keeping("length(text) > 1", "clean"), keeping("image is null", "caption")]
    planned = mixing({**A, **B}, command="plan", unit="rows", stages=stages)
    assert planned.exit_code == 0, planned.output
    for name in "ab":
        note = f"column `image` is absent from `{name}`; insert FetchImages (`caption` finds null there)"
        assert note in planned.output
    mixing.finishes({**A, **B}, unit="rows", stages=stages)
    assert {r["image"] for r in mixing.rows()} == {None}
    assert pq.read_schema(next((mixing.folder / "out").glob("*.parquet"))).field("image").type == pa.binary()


def test_column_of_no_known_type_that_no_dataset_has_is_a_plan_error(mixing):
    mixing.refuses(
        {**A, **B}, code=2, says="needs the column `score`", at="id: any", unit="rows", stages=[keeping("score > 1")]
    )


def test_well_known_column_that_an_operator_takes_away_stays_an_error(mixing):
    drop = {"id": "drop", "kind": "refiner", "op": "SelectColumns", "params": {"drop": ["text"]}}
    stages = [{"name": "drop", "operators": [drop]}, keeping("length(text) > 0", "late")]
    mixing.refuses({**A, **B}, code=2, says="needs the column `text`", at="id: late", unit="rows", stages=stages)
