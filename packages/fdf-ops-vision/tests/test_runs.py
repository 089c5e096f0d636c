"""Image operators in whole runs: on either runner, with rows that fail, and with weights that change or are missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from direct_encoding import asked

import fdf
from fdf.errors import PlanError
from fdf_ops_vision import images as decoding


@pytest.fixture
def images(tmp_path, photos, monkeypatch) -> Path:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FDF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [photos[0], None, b"no image", photos[1], photos[2], b"", photos[3]]
    pq.write_table(pa.table({"n": range(7), "image": pa.array(rows, pa.binary())}), tmp_path / "in.parquet")
    return tmp_path


def recipe(folder: Path, *operators, name="vision") -> dict:
    return {
        "name": name,
        "input": {"type": "parquet", "path": str(folder / "in.parquet")},
        "stages": [{"name": "look", "min_errors": 10, "operators": list(operators)}],
        "output": {"type": "parquet", "path": str(folder / name)},
    }


def encoder(model, **keys):
    return {
        "id": "score.siglip_emb",
        "kind": "score",
        "op": "SigLIPEncoder",
        "params": {"model": str(model)},
        "resources": {"gpus": 0.5},
        "batch_size": 2,
        "write_fields": ["siglip_emb"],
        **keys,
    }


def captioner(llava, **keys):
    params = {"model": str(llava), "max_new_tokens": 3}
    return {"id": "gen.caption", "kind": "generator", "op": "LLaVACaptioner", "params": params, "batch_size": 3, **keys}


INFO = {"id": "score.info", "kind": "score", "op": "ImageInfo", "write_fields": ["image_width"]}


def rows_of(folder: Path, name="vision") -> list[dict]:
    return pq.read_table(folder / name, schema=None).to_pylist()


@pytest.mark.parametrize("runner", ["serial", "local"])
def test_stage_of_models_embeds_captions_and_quarantines(images, siglip, llava, runner):
    steps = recipe(images, encoder(siglip), captioner(llava), INFO)
    result = fdf.run(steps, runner=runner, workers=1)
    rows = {row["n"]: row for row in rows_of(images)}
    assert sorted(rows) == [0, 1, 3, 4, 6]
    assert rows[1]["siglip_emb"] is None
    assert rows[1]["caption"] is None
    assert rows[1]["__fdf__/generated_by"] == []
    assert len(rows[0]["siglip_emb"]) == 32
    assert isinstance(rows[0]["caption"], str)
    assert rows[0]["__fdf__/generated_by"] == ["gen.caption"]
    assert (rows[0]["image_width"], rows[3]["image_width"]) == (64, 48)
    look = json.loads((Path(os_home(images)) / result.run_id / "look" / "manifest.json").read_text())
    embedder, *others = look["operators"]
    assert embedder["rows_quarantined"] == 2
    assert [other["rows_quarantined"] for other in others] == [0, 0]
    assert embedder["assets"]["weights"].startswith("sha256:")
    assert {"torch", "transformers"} <= set(look["environment"]["distributions"])


def test_clip_embeds_whole_runs_as_transformers_does(images, transformers, clip, siglip, photos):
    by_clip = encoder(clip, id="score.clip_emb", op="CLIPEncoder", write_fields=["clip_emb"])
    result = fdf.run(recipe(images, by_clip, encoder(siglip)), runner="local", workers=2)
    rows = {row["n"]: row for row in rows_of(images)}
    assert sorted(rows) == [0, 1, 3, 4, 6]
    assert rows[1]["clip_emb"] is None
    got = np.array([rows[n]["clip_emb"] for n in (0, 3, 4, 6)], dtype=np.float32)
    np.testing.assert_allclose(got, asked(transformers, clip, "CLIPModel", photos[:4]), atol=1e-4, rtol=1e-4)
    assert [len(rows[n]["siglip_emb"]) for n in (0, 3, 4, 6)] == [32] * 4
    look = json.loads((Path(os_home(images)) / result.run_id / "look" / "manifest.json").read_text())
    assert [operator["rows_quarantined"] for operator in look["operators"]] == [2, 0]
    found = [operator["assets"]["weights"] for operator in look["operators"]]
    assert found[0] != found[1]
    assert found[0].startswith("sha256:")


def test_models_of_another_kind_are_told_before_any_row_is_read(images, clip, siglip):
    stored = (images / "in.parquet").read_bytes()
    # The footer is whole, and the rows are not: reading them would fail too.
    (images / "in.parquet").write_bytes(stored[:4] + bytes(1000) + stored[1004:])
    with pytest.raises(OSError, match="deserialize"):
        pq.read_table(images / "in.parquet")
    for op, column, model in (("CLIPEncoder", "clip_emb", siglip), ("SigLIPEncoder", "siglip_emb", clip)):
        steps = recipe(images, encoder(model, op=op, write_fields=[column]))
        with pytest.raises(PlanError, match=f"`model` of {op}: .* is of type"):
            fdf.run(steps, runner="serial")


def test_local_runner_gives_the_serial_runners_bytes(images, siglip, llava):
    made = []
    for runner in ("serial", "local"):
        steps = recipe(images, encoder(siglip), captioner(llava), INFO, name=f"by-{runner}")
        fdf.run({**steps, "name": "same"}, runner=runner, workers=2, run_id=runner)
        made.append({path.name: path.read_bytes() for path in (images / f"by-{runner}").glob("*.parquet")})
    assert made[0] == made[1]


def os_home(folder: Path) -> Path:
    return folder / "home" / "runs"


def test_images_are_decoded_once_for_all_operators_of_a_stage(images, siglip, llava, monkeypatch):
    calls = []
    real = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda data, **rest: calls.append(len(data)) or real(data, **rest))
    again = encoder(siglip, id="score.again", batch_size=5, on_error="null")
    again["params"] = {**again["params"], "column": "again"}
    del again["write_fields"]
    fdf.run(recipe(images, again, encoder(siglip), captioner(llava)), runner="serial")
    stored = pq.read_table(images / "in.parquet").column("image").drop_null().to_pylist()
    assert sorted(calls) == sorted(map(len, stored))


def test_on_error_null_keeps_failed_rows_in_their_place(images, siglip):
    fdf.run(recipe(images, encoder(siglip, on_error="null")), runner="serial")
    rows = rows_of(images)
    assert [row["n"] for row in rows] == list(range(7))
    assert [row["siglip_emb"] is not None for row in rows] == [True, False, False, True, True, False, True]


def test_on_error_fail_names_the_row(images, siglip):
    with pytest.raises(fdf.FdfError, match=r"failed on row .*:2: not an image"):
        fdf.run(recipe(images, encoder(siglip, on_error="fail")), runner="serial")


def test_results_do_not_depend_on_batch_size(images, siglip):
    found = []
    for size in (1, 7):
        name = f"by-{size}"
        fdf.run(recipe(images, encoder(siglip, batch_size=size), name=name), runner="serial")
        found.append([row["siglip_emb"] for row in rows_of(images, name)])
    for one, other in zip(*found, strict=True):
        assert one == other or one == pytest.approx(other, abs=1e-4)


def test_missing_weights_are_told_before_any_data_is_read(images):
    (images / "in.parquet").write_bytes(b"not parquet: reading it would fail too")
    steps = recipe(images, encoder("google/siglip-base-patch16-224"))
    steps["input"]["schema"] = {"image": "binary"}
    with pytest.raises(PlanError) as caught:
        fdf.run(steps, runner="serial")
    problem = caught.value.problems[0]
    assert problem.help == "hf download google/siglip-base-patch16-224"
    assert "HF_HUB_OFFLINE" in problem.message


def test_other_weights_under_the_same_path_run_the_stage_again(images, siglip, siglip2, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(siglip, model)
    steps = recipe(images, encoder(model))
    first = fdf.run(steps, runner="serial")
    again = fdf.run(steps, runner="serial")
    assert again.manifest["fingerprint"] == first.manifest["fingerprint"]
    shutil.rmtree(model)
    shutil.copytree(siglip2, model)
    other = fdf.run(steps, runner="serial")
    assert other.manifest["fingerprint"] != first.manifest["fingerprint"]
