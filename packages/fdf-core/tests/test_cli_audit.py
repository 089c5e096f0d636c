"""The commands that look closely at data: preview before a run, verify and trace after it."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from fdf.cli.main import main
from fdf.storage import open_store
from fdf.testing.s3 import s3_stand_in


@pytest.fixture
def fdf(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


@pytest.fixture
def recipe(tmp_path, words, op):
    """Write a recipe that scores, drops, refines, multiplies and stumbles."""
    words("a", ["one", "two", "a long text", "bad", "five"])
    words("b", ["six", "another long text"])
    short = {"id": "short", "kind": "filter", "op": "ExpressionFilter", "params": {"keep": "length(text) < 6"}}
    value = {
        "name": "audit",
        "input": {"type": "parquet", "path": str(tmp_path / "in")},
        "stages": [
            {"name": "clean", "operators": [op("score", "Lengths", "size", poison="bad"), short]},
            {"name": "shape", "operators": [op("refiner", "Upper", "upper")]},
        ],
        "output": {"type": "parquet", "path": str(tmp_path / "out")},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def previewed(done):
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_preview_pairs_rows_before_and_after_with_scores_and_reasons(fdf, recipe):
    rows = previewed(fdf("preview", recipe, "--rows", 5, "--json"))["rows"]
    assert [row["before"]["text"] for row in rows] == ["one", "two", "a long text", "bad", "five"]
    assert [row["outcome"] for row in rows] == ["kept", "kept", "dropped", "quarantined", "kept"]
    assert rows[0]["after"]["text"] == "ONE"
    assert rows[0]["scores"] == {"size": 3.0}
    assert (rows[2]["stage"], rows[2]["operator"], rows[2]["after"]) == ("clean", "short", None)
    assert "length(text)" in rows[2]["evidence"] or rows[2]["reason"]
    assert (rows[3]["operator"], "cannot take bad" in rows[3]["reason"]) == ("size", True)


def test_preview_text_shows_what_changed(fdf, recipe):
    said = fdf("preview", recipe, "--rows", 3).stdout
    lines = [line.split() for line in said.splitlines()]
    assert ["text", '"one"'] in lines
    assert ["becomes", '"ONE"'] in lines
    assert "scores         size=3" in said
    assert "dropped by short" in said


def test_preview_of_one_stage_starts_with_what_enters_it(fdf, recipe):
    said = previewed(fdf("preview", recipe, "--stage", "shape", "--json"))
    assert [(r["before"]["text"], r["after"]["text"]) for r in said["rows"]] == [
        ("one", "ONE"),
        ("two", "TWO"),
        ("five", "FIVE"),
        ("six", "SIX"),
    ]
    assert {line["stage"] for line in said["funnel"]} == {"shape"}
    wrong = fdf("preview", recipe, "--stage", "shap")
    assert wrong.exit_code == 2
    assert "did you mean `shape`?" in wrong.stderr


def test_preview_shows_rows_that_a_generator_made(fdf, recipe, op, tmp_path):
    value = yaml.safe_load(recipe.read_text())
    value["stages"] = [{"name": "fan", "operators": [op("generator", "Fan", "fan")]}]
    recipe.write_text(yaml.safe_dump(value))
    rows = previewed(fdf("preview", recipe, "--rows", 5, "--json"))["rows"]
    # `Fan` makes length % 3 rows of each, and lets their parent go.
    told = [(row["outcome"], (row["before"] or row["after"])["text"]) for row in rows]
    assert told == [
        ("expanded", "one"),
        ("expanded", "two"),
        ("expanded", "a long text"),
        ("kept", "a long text0"),
        ("kept", "a long text1"),
        ("expanded", "bad"),
        ("expanded", "five"),
        ("kept", "five0"),
    ]
    assert [row["id"] for row in rows[3:5]] == [f"{rows[2]['id']}/fan/{n}" for n in (0, 1)]


def test_preview_leaves_no_trace(fdf, recipe, home, tmp_path):
    fdf("preview", recipe)
    assert not home.exists()
    assert not (tmp_path / "out").exists()
    assert fdf("runs", "list", "--json").stdout.strip() == "[]"


def test_preview_decides_as_the_run_does(fdf, recipe):
    rows = previewed(fdf("preview", recipe, "--rows", 100, "--json"))["rows"]
    kept = {row["id"] for row in rows if row["outcome"] == "kept"}
    run_id = json.loads(fdf("run", recipe, "--runner", "serial", "--json").stdout.splitlines()[-1])["run_id"]
    for row in rows:
        sightings = json.loads(fdf("trace", row["id"], "--run", run_id, "--json").stdout)["sightings"]
        assert (sightings[-1]["outcome"] == "kept") == (row["id"] in kept)


@pytest.fixture
def done(fdf, recipe):
    said = fdf("run", recipe, "--runner", "serial", "--json")
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout.splitlines()[-1])["run_id"]


def test_trace_follows_a_row_through_the_stages(fdf, recipe, done):
    rows = previewed(fdf("preview", recipe, "--rows", 5, "--json"))["rows"]
    ids = {row["before"]["text"]: row["id"] for row in rows}
    kept = json.loads(fdf("trace", ids["one"], "--json").stdout)["sightings"]
    assert [(s["stage"], s["outcome"]) for s in kept] == [("clean", "kept"), ("shape", "kept"), ("output", "kept")]
    assert kept[1]["refined_by"] == ["upper"]
    assert kept[0]["scores"] == {"size": 3.0}
    (dropped,) = json.loads(fdf("trace", ids["a long text"], "--json").stdout)["sightings"]
    assert (dropped["stage"], dropped["outcome"], dropped["operator"]) == ("clean", "dropped", "short")
    assert "dropped by short" in fdf("trace", ids["a long text"]).stdout
    (failed,) = json.loads(fdf("trace", ids["bad"], "--json").stdout)["sightings"]
    assert (failed["outcome"], failed["operator"]) == ("quarantined", "size")
    unknown = fdf("trace", "0000000000000000:0")
    assert unknown.exit_code == 2


def test_verify_passes_a_whole_run_and_a_directory(fdf, done, tmp_path):
    assert fdf("verify", done).exit_code == 0
    said = json.loads(fdf("verify", tmp_path / "out", "--json").stdout)
    assert said["ok"] is True
    assert (said["stages"][0]["stage"], said["stages"][0]["rows"]) == ("output", 4)


def test_verify_passes_by_what_a_driver_left_that_was_killed_while_it_tried_the_store(fdf, done, tmp_path):
    (tmp_path / "out" / ".fdf-probe-0123456789abcdef").write_text("{}")
    assert fdf("verify", tmp_path / "out").exit_code == 0
    (tmp_path / "out" / "part-0.parquet").write_text("{}")
    assert fdf("verify", tmp_path / "out").exit_code == 1


def test_verify_finds_a_flipped_byte_and_names_the_file(fdf, done, tmp_path):
    shard = next((tmp_path / "out").glob("*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    said = fdf("verify", tmp_path / "out")
    assert said.exit_code == 1
    assert f"{shard} has sha256" in said.stdout
    assert fdf("verify", done).exit_code == 1


@pytest.mark.parametrize("part", ["data", "dropped", "quarantine"])
def test_verify_finds_missing_and_foreign_files(fdf, done, home, part):
    folder = home / "runs" / done / "clean" / part
    shard = next(folder.iterdir())
    kept = shard.read_bytes()
    shard.unlink()
    assert f"{shard.name} is missing" in fdf("verify", done).stdout
    shard.write_bytes(kept[:-1])
    assert f"has {len(kept) - 1:,} bytes" in fdf("verify", done).stdout
    shard.write_bytes(kept)
    assert fdf("verify", done).exit_code == 0
    (folder / "part-of-something-else.parquet").write_bytes(b"")
    said = fdf("verify", done)
    assert said.exit_code == 1
    assert "no manifest names it" in said.stdout


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["counts"].update(rows_out=5),
        lambda m: m["outputs"][0].update(rows=5),
        lambda m: m["operators"][0].update(rows_in=99),
        lambda m: m.update(id="0" * 64),
    ],
)
def test_verify_finds_a_changed_manifest(fdf, done, home, change):
    file = home / "runs" / done / "clean" / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    said = fdf("verify", file.parent)
    assert said.exit_code == 1
    assert "manifest.json has id" in said.stdout


def test_verify_of_a_damaged_manifest_is_a_finding(fdf, done, home):
    file = home / "runs" / done / "clean" / "manifest.json"
    file.write_text("{")
    said = fdf("verify", file.parent)
    assert said.exit_code == 1
    assert "Traceback" not in said.output


@pytest.mark.parametrize("type_", ["jsonl", "webdataset"])
def test_verify_counts_the_rows_of_other_formats(fdf, recipe, tmp_path, type_):
    value = yaml.safe_load(recipe.read_text())
    value["output"]["type"] = type_
    recipe.write_text(yaml.safe_dump(value))
    assert fdf("run", recipe, "--runner", "serial").exit_code == 0
    assert fdf("verify", tmp_path / "out").exit_code == 0
    file = tmp_path / "out" / "__fdf__" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["outputs"][0]["rows"] += 1
    file.write_text(json.dumps(manifest))
    said = fdf("verify", tmp_path / "out")
    assert "has 4 rows, not 5" in said.stdout


@pytest.fixture(scope="module")
def s3():
    with s3_stand_in("audit"):
        yield "s3://audit"


def test_verify_and_trace_read_s3(fdf, recipe, s3):
    value = yaml.safe_load(recipe.read_text())
    for stage in value["stages"]:
        stage["materialize"] = {"path": f"{s3}/{{{{stage}}}}"}
    value["output"]["path"] = f"{s3}/out"
    recipe.write_text(yaml.safe_dump(value))
    said = fdf("run", recipe, "--runner", "serial", "--json")
    assert said.exit_code == 0, said.output
    done = json.loads(said.stdout.splitlines()[-1])["run_id"]
    assert fdf("verify", f"{s3}/out").exit_code == 0
    assert fdf("verify", done).exit_code == 0
    row = json.loads(fdf("preview", recipe, "--rows", "1", "--json").stdout)["rows"][0]
    sightings = json.loads(fdf("trace", row["id"], "--json").stdout)["sightings"]
    assert [s["stage"] for s in sightings] == ["clean", "shape", "output"]
    assert sightings[0]["file"].startswith(f"{s3}/clean/data/part-")
    manifest = json.loads(fdf("runs", "show", done, "--json").stdout)["manifests"]["clean"]
    store = open_store(f"{s3}/clean")
    shard = next(e.path for e in store.list("data/"))
    data = bytearray(store.read(shard))
    data[len(data) // 2] ^= 1
    store.delete([shard])
    store.put_if_absent(shard, bytes(data))
    broken = fdf("verify", f"{s3}/clean")
    assert broken.exit_code == 1
    assert f"{s3}/clean/{shard} has sha256" in broken.stdout
    assert manifest == f"{s3}/clean/manifest.json"


def test_a_run_with_relative_paths_is_verified_from_any_directory(fdf, recipe, tmp_path, monkeypatch):
    run = fdf("run", recipe, "--set", "output.path=here", "--runner", "serial", "--json")
    run_id = json.loads(run.stdout.splitlines()[-1])["run_id"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = fdf("verify", run_id)
    assert (done.exit_code, "output: ok" in done.stdout) == (0, True), done.output
