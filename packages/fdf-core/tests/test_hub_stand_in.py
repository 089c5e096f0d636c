"""The stand-in hub is judged by the libraries that speak to the real one."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fdf.testing.hub import TOKEN, hub_stand_in

huggingface_hub = pytest.importorskip("huggingface_hub")


def parquet(**columns) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.fixture
def hub(tmp_path):
    with hub_stand_in(tmp_path, page_size=3) as hub:
        yield hub


def test_a_tree_is_listed_in_pages(hub):
    sha = hub.dataset("a/b").commit({f"deep/er/{i}.txt": str(i) for i in range(8)} | {"README.md": "# card"})
    found = list(huggingface_hub.HfApi().list_repo_tree("a/b", recursive=True, repo_type="dataset"))
    assert [f.path for f in found] == ["README.md", "deep", "deep/er", *(f"deep/er/{i}.txt" for i in range(8))]
    assert len(hub.asked("^GET .*/tree/main")) == 4
    assert huggingface_hub.HfApi().dataset_info("a/b").sha == sha


def test_files_are_downloaded_with_their_commit(hub):
    table = parquet(a=[1, 2])
    first = hub.model("a/b").commit({"config.json": "{}", "weights.safetensors": table})
    second = hub.model("a/b").commit({"config.json": '{"n": 1}'})
    for sha, config in ((first, "{}"), (second, '{"n": 1}')):
        folder = huggingface_hub.snapshot_download("a/b", revision=sha)
        assert folder.endswith(sha)
        with Path(folder, "config.json").open() as file:
            assert file.read() == config
        with Path(folder, "weights.safetensors").open("rb") as file:
            assert file.read() == table
    assert len(hub.asked("^GET /objects/")) == 1  # the large file did not change, so it came once


def test_ranges_are_read_through_the_file_system(hub):
    hub.dataset("a/b").commit({"x.parquet": parquet(a=list(range(1000)))})
    with huggingface_hub.HfFileSystem().open("datasets/a/b/x.parquet") as file:
        assert pq.read_table(file)["a"].to_pylist() == list(range(1000))
    assert any(r.range for r in hub.asked("^GET /objects/"))


def test_what_is_not_there_is_told_apart(hub):
    hub.dataset("a/b").commit({"x.txt": "x"})
    hub.dataset("a/gated").commit({"x.txt": "x"})
    hub.dataset("a/gated").gated = True
    hub.dataset("a/private").commit({"x.txt": "x"})
    hub.dataset("a/private").private = True
    errors = huggingface_hub.errors

    def get(name, file="x.txt", **more):
        return huggingface_hub.hf_hub_download(name, file, repo_type="dataset", **more)

    with pytest.raises(errors.RepositoryNotFoundError):
        get("a/none")
    with pytest.raises(errors.RevisionNotFoundError):
        get("a/b", revision="none")
    with pytest.raises(errors.EntryNotFoundError):
        get("a/b", "none.txt")
    with pytest.raises(errors.GatedRepoError):
        get("a/gated")
    with pytest.raises(errors.RepositoryNotFoundError):
        get("a/private")
    assert get("a/gated", token=TOKEN)
    assert get("a/private", token=TOKEN)


def test_branches_and_tags_are_revisions(hub):
    repository = hub.dataset("a/b")
    first = repository.commit({"x.txt": "1"})
    repository.tags["v1"] = first
    second = repository.commit({"x.txt": "2"}, branch="next/step")
    api = huggingface_hub.HfApi()
    found = {r: api.dataset_info("a/b", revision=r).sha for r in ("main", "v1", "next/step", first[:8], second)}
    assert found == {"main": first, "v1": first, "next/step": second, first[:8]: first, second: second}
    refs = api.list_repo_refs("a/b", repo_type="dataset")
    assert [b.name for b in refs.branches] == ["main", "next/step"]


def test_a_fault_passes(hub, monkeypatch):
    hub.dataset("a/b").commit({"x.txt": "x" * 1000})
    hub.fail("^GET .*/x.txt", times=1, status=0)
    hub.fail("^GET .*/api/", times=1)
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="503"):
        huggingface_hub.HfApi().dataset_info("a/b")
    with pytest.raises(Exception, match="reset"):
        huggingface_hub.hf_hub_download("a/b", "x.txt", repo_type="dataset")
    path = huggingface_hub.hf_hub_download("a/b", "x.txt", repo_type="dataset")
    with Path(path).open() as file:
        assert file.read() == "x" * 1000
    assert [r.status for r in hub.asked("^GET .*/x.txt")] == [0, 200]


def test_datasets_loads_from_it(hub):
    datasets = pytest.importorskip("datasets")
    lines = "".join(json.dumps({"text": str(i)}) + "\n" for i in range(5))
    hub.dataset("a/b").commit({"data/train.jsonl": lines, "data/test.jsonl": lines[:14]})
    loaded = datasets.load_dataset("a/b", split="train")
    assert loaded["text"][:] == ["0", "1", "2", "3", "4"]
    streamed = datasets.load_dataset("a/b", split="train", streaming=True)
    assert [row["text"] for row in streamed] == ["0", "1", "2", "3", "4"]
