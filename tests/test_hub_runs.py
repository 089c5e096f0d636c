"""Runs that read a dataset of the hub: one commit for a run, whatever happens to it, and then only what changed."""

from __future__ import annotations

import hashlib
import io
import json
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import FdfError, PlanError
from fdf.stage.crashpoints import VARIABLE
from fdf.testing.drivers import Driver
from fdf.testing.hub import HubStandIn, hub_stand_in

pytest.importorskip("huggingface_hub")

FILES, ROWS = 6, 50
NAME = "data/train-0000{}-of-00006.parquet"


def texts(number: int, word: str = "first") -> bytes:
    file = io.BytesIO()
    content = [f"{word} commit, file {number}, row {row}" for row in range(ROWS)]
    pq.write_table(pa.table({"content": content, "url": [f"https://x/{i}" for i in range(ROWS)]}), file)
    return file.getvalue()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "fdf-home"))


@pytest.fixture
def hub(tmp_path):
    with hub_stand_in(tmp_path / "hub") as hub:
        hub.dataset("org/web").commit({NAME.format(i): texts(i) for i in range(FILES)} | {"README.md": "# Web"})
        yield hub


@pytest.fixture
def recipe(tmp_path) -> dict[str, Any]:
    return {
        "name": "hub",
        "input": {"type": "huggingface", "name": "web", "path": "org/web", "streaming": True},
        "stages": [
            {
                "name": "count",
                "materialize": {"path": str(tmp_path / "count")},
                "operators": [{"id": "score.text", "kind": "score", "op": "TextStatistics"}],
            }
        ],
        "output": {"type": "parquet", "path": str(tmp_path / "out")},
    }


def manifest(root: Path) -> dict[str, Any]:
    found = next(p for p in (root / "manifest.json", root / "__fdf__" / "manifest.json") if p.exists())
    return json.loads(found.read_text())


def words(root: Path) -> list[str]:
    """Return the first word and file of every row, without repeating."""
    table = pa.concat_tables(pq.read_table(root / f["path"], columns=["text"]) for f in manifest(root)["outputs"])
    return list(dict.fromkeys(", ".join(text.split(", ")[:2]) for text in table["text"].to_pylist()))


def commits(hub: HubStandIn) -> list[str]:
    return list(hub.dataset("org/web").commits)


@pytest.mark.parametrize("runner", ["serial", "local"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_of_the_hub_becomes_parquet(hub, recipe, tmp_path, runner, streaming):
    recipe["input"]["streaming"] = streaming
    fdf.run(recipe, runner=runner, workers=2 if runner == "local" else None)
    (commit,) = commits(hub)
    told = manifest(tmp_path / "count")
    resolved = {"path": "org/web", "repository": "org/web", "revision": "main", "commit": commit, "format": "parquet"}
    assert told["source"] == resolved
    assert [i["uri"] for i in told["inputs"]] == [
        f"hf://datasets/org/web@{commit}/{NAME.format(i)}" for i in range(FILES)
    ]
    assert manifest(tmp_path / "out")["counts"]["rows_out"] == FILES * ROWS
    table = pq.read_table(tmp_path / "out" / manifest(tmp_path / "out")["outputs"][0]["path"])
    assert {"text", "url"} <= set(table.column_names)
    files = [hashlib.sha256(f"web\0{NAME.format(i)}".encode()).hexdigest()[:16] for i in range(FILES)]
    assert table["__fdf__/id"].to_pylist() == [f"{file}:{row}" for file in files for row in range(ROWS)]
    whole = [r for r in hub.asked("^GET /objects/") if r.range is None]
    assert len(whole) == (0 if streaming else FILES)
    # Where nothing is copied workers ask for ranges, and none of them resolves a revision.
    assert len(hub.asked("GET /api/datasets/org/web/revision/main")) == 1


def test_runners_and_ways_of_reading_make_the_same_dataset(hub, recipe, tmp_path):
    ids = set()
    for number, (runner, streaming) in enumerate([("serial", True), ("local", True), ("local", False)]):
        recipe["input"]["streaming"] = streaming
        recipe["stages"][0]["materialize"]["path"] = str(tmp_path / f"count{number}")
        recipe["output"]["path"] = str(tmp_path / f"out{number}")
        result = fdf.run(recipe, runner=runner)
        ids.add(tuple(stage.manifest["id"] for stage in result.stages))
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("runner", "at"), [("serial", "task-opened#3"), ("serial", "receipt-written#4"), ("local", "manifest-ready#1")]
)
def test_a_killed_run_goes_on_with_the_commit_it_began_with(hub, recipe, tmp_path, runner, at):
    point, _, number = at.partition("#")
    crash = {VARIABLE: f"{point}:{tmp_path / 'passed'}#{number}"}
    driver = Driver(recipe, tmp_path / "driver", env=crash, runner=runner)
    assert driver.wait() == -signal.SIGKILL, driver.errors()
    hub.dataset("org/web").commit({NAME.format(i): texts(i, "second") for i in range(FILES)})
    hub.forget()
    fdf.run(recipe, runner="serial")
    told = manifest(tmp_path / "count")
    first, second = commits(hub)
    assert told["source"]["commit"] == first
    assert words(tmp_path / "count") == [f"first commit, file {i}" for i in range(FILES)]
    assert not hub.asked("revision/main")
    fdf.run(recipe, runner="serial")
    told = manifest(tmp_path / "count")
    assert told["source"]["commit"] == second
    assert words(tmp_path / "count") == [f"second commit, file {i}" for i in range(FILES)]


def test_a_new_run_sees_a_new_commit_and_runs_only_what_changed(hub, recipe, tmp_path):
    fdf.run(recipe, runner="serial")
    before = {i["uri"].split("/")[-1]: i["version"] for i in manifest(tmp_path / "count")["inputs"]}
    repository = hub.dataset("org/web")
    second = repository.commit({NAME.format(1): texts(1, "second"), "data/train-00006-of-00006.parquet": texts(6)})
    started: list[str] = []
    fdf.run(
        recipe,
        runner="serial",
        on_event=lambda e: started.append(e.data["name"]) if (e.kind, e.stage) == ("split_started", "count") else None,
    )
    assert started == [NAME.format(1), "data/train-00006-of-00006.parquet"]
    told = manifest(tmp_path / "count")
    assert told["source"]["commit"] == second
    after = {i["uri"].split("/")[-1]: i["version"] for i in told["inputs"]}
    assert {name for name in after if before.get(name) != after[name]} == {
        NAME.format(1).split("/")[-1],
        "train-00006-of-00006.parquet",
    }
    assert "second commit, file 1" in words(tmp_path / "count")


def test_a_commit_that_changes_no_data_runs_nothing_and_writes_nothing(hub, recipe, tmp_path):
    fdf.run(recipe, runner="serial")
    before = manifest(tmp_path / "count")
    hub.dataset("org/web").commit({"README.md": "# Another card"})
    started: list[str] = []
    fdf.run(recipe, runner="serial", on_event=lambda e: started.append(e.kind))
    assert "split_started" not in started
    assert manifest(tmp_path / "count") == before


def test_a_commit_in_the_middle_of_a_run_waits_for_the_next(hub, recipe, tmp_path):
    seen: list[str] = []

    def commit(event) -> None:
        if event.kind == "split_committed" and not seen:
            seen.append(hub.dataset("org/web").commit({NAME.format(5): texts(5, "second")}))

    fdf.run(recipe, runner="serial", on_event=commit)
    assert seen
    assert words(tmp_path / "count")[-1] == "first commit, file 5"
    fdf.run(recipe, runner="serial")
    assert words(tmp_path / "count")[-1] == "second commit, file 5"


def test_faults_of_the_hub_do_not_reach_the_dataset(hub, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("fdf.storage.retry.FIRST_WAIT", 0.01)
    expected = fdf.run(recipe, runner="serial", run_id="calm").stages[-1].manifest["id"]
    recipe["stages"][0]["materialize"]["path"] = str(tmp_path / "again")
    recipe["output"]["path"] = str(tmp_path / "again-out")
    for pattern, status in (
        ("revision", 503),
        ("/tree/", 502),
        ("/objects/", 0),
        ("/objects/", 503),
        ("/resolve/", 429),
    ):
        hub.fail(pattern, times=3, status=status)
    result = fdf.run(recipe, runner="serial", run_id="rough")
    assert result.stages[-1].manifest["id"] == expected
    assert result.stages[0].manifest["counts"]["rows_quarantined"] == 0


def test_the_place_in_the_recipe_is_told(hub, recipe, tmp_path):
    written = tmp_path / "recipe.yaml"
    written.write_text(
        "name: hub\n"
        "input:\n"
        "  type: huggingface\n"
        "  path: org/web\n"
        "  split: tests\n"
        f"output: {{ type: parquet, path: {tmp_path / 'out'} }}\n"
    )
    with pytest.raises(PlanError, match=r"recipe\.yaml:5:3(.|\n)*it has: train"):
        fdf.run(str(written), runner="serial")


def test_what_can_only_be_streamed_is_refused_alone(hub, recipe):
    pytest.importorskip("datasets")
    hub.dataset("org/web").commit({NAME.format(i): None for i in range(FILES)} | {"train.json": '[{"text": "a"}]'})
    with pytest.raises(FdfError, match=r"FDF334(.|\n)*leave `streaming` out"):
        fdf.run(recipe, runner="serial")
    recipe["input"]["streaming"] = False
    assert fdf.run(recipe, runner="serial").stages[-1].manifest["counts"]["rows_out"] == 1


def test_the_datasets_of_the_vlm_recipe_are_mixed_at_their_commits(hub, tmp_path, checkout):
    """The input of the README's recipe, word for word but for the cap that ends it."""
    web, pairs = hub.dataset("tiiuae/falcon-refinedweb"), hub.dataset("laion/laion2B-en")
    web.commit({f"data/train-0000{i}-of-00002-f00.parquet": texts(i) for i in (0, 1)})
    table = pa.table({"URL": [f"https://x/{i}" for i in range(200)], "TEXT": [f"caption {i}" for i in range(200)]})
    file = io.BytesIO()
    pq.write_table(table, file)
    pairs.commit({"part-00000-f00-c000.snappy.parquet": file.getvalue()})
    recipe = {
        "name": "vlm",
        "input": {
            "type": "mixture",
            "seed": 42,
            "unit": "tokens",
            "total": 800,
            "datasets": [
                {
                    "name": "refinedweb",
                    "source": {"type": "huggingface", "path": "tiiuae/falcon-refinedweb"},
                    "weight": 0.6,
                },
                {
                    "name": "laion2b",
                    "source": {"type": "huggingface", "path": "laion/laion2B-en", "streaming": True},
                    "weight": 0.4,
                },
            ],
        },
        "stages": [
            {
                "name": "count",
                "materialize": {"path": str(tmp_path / "count")},
                "operators": [{"id": "score.text", "kind": "score", "op": "TextStatistics"}],
            }
        ],
        "output": {"type": "parquet", "path": str(tmp_path / "out")},
    }
    crash = {VARIABLE: f"receipt-written:{tmp_path / 'passed'}#1"}
    driver = Driver(recipe, tmp_path / "driver", env=crash, runner="serial")
    assert driver.wait() == -signal.SIGKILL, driver.errors()
    first = [next(iter(repository.commits)) for repository in (web, pairs)]
    web.commit({"data/train-00000-of-00002-f00.parquet": texts(0, "second")})
    hub.forget()
    fdf.run(recipe, runner="local")
    assert not hub.asked("/revision/|/tree/")  # what was resolved and listed is kept
    told = manifest(tmp_path / "count")
    resolved = told["mixture"]["resolved"]
    assert [resolved[name]["commit"] for name in ("refinedweb", "laion2b")] == first
    kept = pa.concat_tables(pq.read_table(tmp_path / "count" / f["path"]) for f in told["outputs"])
    by_source = {
        name: [
            t for t, s in zip(kept["text"].to_pylist(), kept["__fdf__/source"].to_pylist(), strict=True) if s == name
        ]
        for name in ("refinedweb", "laion2b")
    }
    assert all(t.startswith("first commit") for t in by_source["refinedweb"])
    assert all(t.startswith("caption") for t in by_source["laion2b"])
    # The documented estimate of tokens: a quarter of the UTF-8 bytes, rounded up.
    tokens = {name: sum(-(-len(t.encode()) // 4) for t in found) for name, found in by_source.items()}
    assert abs(tokens["refinedweb"] / sum(tokens.values()) - 0.6) < 0.02
    fdf.run(recipe, runner="serial")
    assert manifest(tmp_path / "count")["mixture"]["resolved"]["refinedweb"]["commit"] != first[0]
