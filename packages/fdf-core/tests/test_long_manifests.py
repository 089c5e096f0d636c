"""A stage of very many shards: long lists lie beside its manifest, receipts are compacted, nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.stage import manifest_file, receipt_folder
from fdf.stage.events import Event

FILES = 12


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        pq.write_table(pa.table({"n": list(range(number, number + 5))}), tmp_path / "in" / f"{number:03}.parquet")
    threshold = {"id": "keep", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "n", "ge": 2}}
    stage = {"name": "clean", "materialize": {"path": str(tmp_path / "clean")}, "operators": [threshold]}
    return {"name": "many", "input": {"type": "parquet", "path": str(tmp_path / "in")}, "stages": [stage]}


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_file, "MAX_INLINE", 5)
    monkeypatch.setattr(receipt_folder, "MAX_SINGLE", 5)


def run(recipe: dict[str, Any]) -> tuple[dict[str, Any], int]:
    started: list[Event] = []
    result = fdf.run(
        recipe, runner="serial", on_event=lambda e: started.append(e) if e.kind == "split_started" else None
    )
    return result.manifest, len(started)


def receipts(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "clean" / "_receipts").glob("*/*"))


def test_long_lists_lie_beside_the_manifest_and_do_not_change_its_id(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inline, _ = run(recipe)
    monkeypatch.setattr(manifest_file, "MAX_INLINE", 5)
    for path in (tmp_path / "clean").glob("manifest*"):
        path.unlink()
    beside, started = run(recipe)
    assert started == 0
    assert beside["id"] == inline["id"]
    assert len(list((tmp_path / "clean").glob("manifest.outputs-*.parquet"))) == 1
    again, _ = run(recipe)
    assert again["outputs"] == inline["outputs"]
    assert again["inputs"] == inline["inputs"]


@pytest.mark.usefixtures("few_are_many")
def test_compacted_receipts_are_as_good_as_single_ones(recipe: dict[str, Any], tmp_path: Path) -> None:
    first, started = run(recipe)
    assert started == FILES
    assert len(receipts(tmp_path)) == 1
    second, started = run(recipe)
    assert started == 0
    assert second["id"] == first["id"]


@pytest.mark.usefixtures("few_are_many")
def test_a_lost_shard_is_made_again_from_a_compacted_folder(recipe: dict[str, Any], tmp_path: Path) -> None:
    first, _ = run(recipe)
    (tmp_path / "clean" / first["outputs"][3]["path"]).unlink()
    second, started = run(recipe)
    assert started == 1
    assert second["id"] == first["id"]


@pytest.mark.usefixtures("few_are_many")
def test_a_removed_input_leaves_manifest_index_and_folder(recipe: dict[str, Any], tmp_path: Path) -> None:
    run(recipe)
    index = receipts(tmp_path)
    (tmp_path / "in" / "004.parquet").unlink()
    second, started = run(recipe)
    assert started == 0
    assert len(second["outputs"]) == FILES - 1
    assert len(list((tmp_path / "clean" / "data").iterdir())) == FILES - 1
    assert len(receipts(tmp_path)) == 1
    assert receipts(tmp_path) != index
    assert len(list((tmp_path / "clean").glob("manifest.outputs-*.parquet"))) == 1


@pytest.mark.usefixtures("few_are_many")
def test_damaged_lists_are_an_error_that_names_the_file(recipe: dict[str, Any], tmp_path: Path) -> None:
    run(recipe)
    beside = next((tmp_path / "clean").glob("manifest.outputs-*.parquet"))
    data = bytearray(beside.read_bytes())
    data[40] ^= 1
    beside.write_bytes(bytes(data))
    with pytest.raises(fdf.FdfError, match=beside.name):
        run(recipe)
