"""Weights are found by the plan, named by their content, and told apart when they change."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from fdf.errors import PlanError
from fdf.models.weights import resolve

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

FILES = {"config.json": b'{"model_type": "tiny"}', "model.safetensors": b"weights", "README.md": b"read me"}


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


class Cache:
    """The hub's cache, in the layout that its documentation describes: refs, snapshots of links, blobs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, model: str, commit: str, files: dict[str, bytes], *, branch: str = "main") -> Path:
        repository = self.root / f"models--{model.replace('/', '--')}"
        folder_of(repository / "refs", {branch: commit.encode()})
        snapshot = folder_of(repository / "snapshots" / commit, {})
        (repository / "blobs").mkdir(exist_ok=True)
        for name, data in files.items():
            blob = repository / "blobs" / hashlib.sha256(data).hexdigest()
            blob.write_bytes(data)
            (snapshot / name).unlink(missing_ok=True)
            (snapshot / name).symlink_to(blob)
        return snapshot


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Cache:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FDF_CACHE", str(tmp_path / "fdf-cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Cache(tmp_path / "hub")


def test_folder_is_named_by_the_files_that_count(cache, tmp_path):
    folder = folder_of(tmp_path / "model", FILES)
    found = resolve(str(folder), operator="Op")
    assert found.fetch() == folder
    assert found.files == ("config.json", "model.safetensors")
    assert found.config() == {"model_type": "tiny"}
    assert set(found.assets()) == {"weights"}
    (folder / "README.md").write_bytes(b"another text")
    assert resolve(str(folder), operator="Op").assets() == found.assets()
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert resolve(str(folder), operator="Op").assets() != found.assets()


def test_large_files_are_hashed_once(cache, tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "model", FILES)
    found = resolve(str(folder), operator="Op")
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    assert resolve(str(folder), operator="Op") == found


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        ({"config.json": b"{}"}, "model.safetensors"),
        ({"model.safetensors": b""}, "config.json"),
        (
            {
                "config.json": b"{}",
                "model-1.safetensors": b"",
                "model.safetensors.index.json": json.dumps(
                    {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
                ).encode(),
            },
            "model-2.safetensors",
        ),
    ],
)
def test_folder_that_is_not_whole_says_what_it_lacks(cache, tmp_path, files, lacks):
    folder = folder_of(tmp_path / "model", files)
    with pytest.raises(PlanError, match=f"lacks {lacks}"):
        resolve(str(folder), operator="Op")


@pytest.mark.parametrize("model", ["/no/such/folder", "./none", "name", "a/b/c"])
def test_path_without_a_folder_is_no_name_on_a_hub(cache, model):
    with pytest.raises(PlanError, match=f"there is no folder {model}"):
        resolve(model, operator="Op")


def test_revision_of_a_folder_is_refused(cache, tmp_path):
    with pytest.raises(PlanError, match="`revision` is for models of a hub"):
        resolve(str(folder_of(tmp_path / "model", FILES)), revision="main", operator="Op")


def test_offline_the_cache_answers_with_the_commit(cache):
    first = cache.put("acme/tiny", "a" * 40, FILES)
    found = resolve("acme/tiny", operator="Op")
    assert found.assets()["revision"] == "a" * 40
    assert found.fetch() == first
    assert resolve("acme/tiny", revision="a" * 40, operator="Op") == found
    cache.put("acme/tiny", "b" * 40, FILES | {"model.safetensors": b"newer"})
    moved = resolve("acme/tiny", operator="Op")
    assert moved.assets()["revision"] == "b" * 40
    assert moved.digest != found.digest
    # What a worker was given stays with the commit that the plan saw.
    assert pickle.loads(pickle.dumps(found)).fetch() == first


@pytest.mark.parametrize(
    ("revision", "command"), [(None, "hf download acme/none"), ("v2", "hf download acme/none --revision v2")]
)
def test_offline_and_absent_names_the_command_that_downloads(cache, revision, command):
    with pytest.raises(PlanError) as caught:
        resolve("acme/none", revision=revision, operator="Op")
    assert caught.value.problems[0].help == command
    assert "`acme/none`" in caught.value.problems[0].message


def test_download_that_was_cut_off_counts_as_absent(cache):
    cache.put("acme/tiny", "a" * 40, {"config.json": b"{}"})
    with pytest.raises(PlanError) as caught:
        resolve("acme/tiny", operator="Op")
    assert caught.value.problems[0].help == "hf download acme/tiny"
    assert "lacks model.safetensors" in caught.value.problems[0].message


def test_code_of_a_model_counts_where_it_may_run(cache):
    cache.put("acme/tiny", "a" * 40, FILES | {"modeling.py": b"pass"})
    assert "modeling.py" not in resolve("acme/tiny", operator="Op").files
    assert "modeling.py" in resolve("acme/tiny", trust_remote_code=True, operator="Op").files


def test_pickled_weights_count_only_where_there_are_no_safe_ones(cache, tmp_path):
    both = folder_of(tmp_path / "both", FILES | {"pytorch_model.bin": b"pickle", "tf_model.h5": b"other"})
    assert resolve(str(both), operator="Op").files == ("config.json", "model.safetensors")
    old = folder_of(tmp_path / "old", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    assert resolve(str(old), operator="Op").files == ("config.json", "pytorch_model.bin")


def test_online_the_plan_asks_once_and_downloads_nothing_until_it_is_fetched(cache, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    asked = []

    def model_info(self, model, *, revision, files_metadata):
        asked.append((model, revision, files_metadata))
        files = [
            SimpleNamespace(rfilename=n, blob_id="git", lfs=SimpleNamespace(sha256=hashlib.sha256(d).hexdigest()))
            for n, d in FILES.items()
        ]
        return SimpleNamespace(sha="c" * 40, siblings=files)

    def snapshot_download(model, *, revision, allow_patterns):
        asked.append((model, revision, tuple(allow_patterns)))
        return str(cache.put(model, revision, {n: FILES[n] for n in allow_patterns}))

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    found = resolve("acme/tiny", operator="Op")
    assert asked == [("acme/tiny", "main", True)]
    for _ in range(2):
        assert (found.fetch() / "model.safetensors").read_bytes() == b"weights"
    assert asked[1:] == [("acme/tiny", "c" * 40, ("config.json", "model.safetensors"))]
    # From the cache, the same content has the same name.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("acme/tiny", operator="Op") == found


def test_hub_that_does_not_answer_leaves_what_the_cache_holds(cache, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)

    def model_info(self, model, **_):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    cache.put("acme/tiny", "a" * 40, FILES)
    assert resolve("acme/tiny", operator="Op").commit == "a" * 40
    with pytest.raises(PlanError, match="no route to host"):
        resolve("acme/none", operator="Op")
