"""Configs, splits and formats, held to what `datasets` itself finds in the same files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fdf.errors import PlanError
from fdf.sources.huggingface.formats import FORMATS, OTHER, format_of, of_format
from fdf.sources.huggingface.layout import choose

datasets = pytest.importorskip("datasets")

SHARDED = [f"data/{s}-0000{i}-of-00002.parquet" for s in ("train", "validation", "extra") for i in (0, 1)]
CARD = """---
configs:
- config_name: en
  data_files:
  - split: train
    path: [en/part*.jsonl, more/*.jsonl]
  - split: held_out
    path: en/held.jsonl
- config_name: de
  default: true
  data_dir: de
---
# A dataset
"""
LAYOUTS = {
    "one file": ["a.jsonl"],
    "files without a word": ["b.parquet", "a.parquet", "deep/er/c.parquet"],
    "sharded": SHARDED,
    "sharded, with others": [*SHARDED, "data/notes.parquet", "train.parquet"],
    "words in names": ["train.csv", "my_test-1.csv", "dev.csv", "trainer.csv", "x/valid_3.csv"],
    "words in folders": ["data/train/0.parquet", "data/eval-set/1.parquet", "x_training_2/deep/2.parquet", "3.parquet"],
    "one split of words": ["testing/0.jsonl", "other/0.jsonl"],
    "hidden and special": [".git/train.jsonl", "__pycache__/train.jsonl", "ok/train.jsonl", "ok/.train.jsonl"],
    "beside data": ["train.jsonl", "LICENSE", "config.json", "dataset_infos.json", "figure.png"],
    "packed": ["train.jsonl.gz", "test.jsonl.gz"],
    "tar": ["train-0.tar", "train-1.tar", "test-0.tar"],
    "text": ["train.txt", "test.txt"],
    "pictures": ["train/cat/1.png", "train/dog/2.png", "test/cat/3.png"],
    "as many of two kinds": ["train.jsonl", "train.csv"],
}


def make(folder: Path, paths: list[str], card: str = "") -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("{}\n")
    if card:
        (folder / "README.md").write_text(card)
    return folder


def ours(folder: Path, **more) -> dict[str, list[str]]:
    paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    asked = {"config": None, "data_files": None, **more}
    chosen = choose(paths, read=lambda p: (folder / p).read_bytes(), name="x", **asked)
    kind = format_of(chosen.files)
    return kind, list(chosen.files) if kind == OTHER else of_format(chosen.files, kind)


def theirs(folder: Path, **more) -> tuple[str, dict[str, list[str]]]:
    """Return the module and the files by split that `datasets` would read."""
    builder = datasets.load_dataset_builder(str(folder), **more)
    files = builder.config.data_files
    module = type(builder).__module__.rsplit(".", 1)[-1]
    return module, {str(s): sorted(Path(f).relative_to(folder).as_posix() for f in found) for s, found in files.items()}


def modules(kind: str) -> str:
    return {"jsonl": "json"}.get(kind, kind)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_and_formats_are_those_of_datasets(layout, tmp_path):
    folder = make(tmp_path / "set", LAYOUTS[layout])
    module, splits = theirs(folder)
    assert splits
    for split, files in splits.items():
        kind, found = ours(folder, split=split)
        assert (modules(kind) if kind != OTHER else module, found) == (module, files)
        assert (kind == OTHER) == (module == "imagefolder")
    with pytest.raises(PlanError) as failed:
        ours(folder, split="none")
    assert f"it has: {', '.join(splits)}" in str(failed.value)


@pytest.mark.parametrize("config", [None, "en", "de"])
def test_configs_of_the_card_are_those_of_datasets(config, tmp_path):
    paths = ["en/part1.jsonl", "en/part2.jsonl", "more/x.jsonl", "en/held.jsonl", "de/train.jsonl", "de/test.jsonl"]
    folder = make(tmp_path / "set", paths, CARD)
    _, splits = theirs(folder, name=config) if config else theirs(folder)
    assert len(splits) == 2
    for split, files in splits.items():
        assert ours(folder, config=config, split=split) == ("jsonl", files)


@pytest.mark.parametrize(
    "data_files", ["b/*.jsonl", ["a.jsonl", "b/**"], {"train": "a.jsonl", "rest": ["b/*.jsonl"]}, "__x__/d.jsonl"]
)
def test_data_files_are_those_of_datasets(data_files, tmp_path):
    folder = make(tmp_path / "set", ["a.jsonl", "b/c.jsonl", "b/d.jsonl", "b/deep/e.jsonl", "__x__/d.jsonl"])
    _, splits = theirs(folder, data_files=data_files)
    for split, files in splits.items():
        assert ours(folder, data_files=data_files, split=split) == ("jsonl", files)


def test_every_ending_has_the_module_that_datasets_gives_it():
    from datasets.packaged_modules import _EXTENSION_TO_MODULE

    assert {ending: _EXTENSION_TO_MODULE[ending][0] for ending in FORMATS} == {
        ending: modules(kind) for ending, kind in FORMATS.items()
    }


def test_a_card_without_one_default_asks_for_a_config(tmp_path):
    folder = make(tmp_path / "set", ["en/part1.jsonl"], CARD.replace("  default: true\n", ""))
    with pytest.raises(PlanError, match=r"choose one with `config:`: en, de"):
        ours(folder, split="train")
    with pytest.raises(PlanError, match=r"no config `fr`(.|\n)*it has: en, de"):
        ours(folder, config="fr", split="train")


def test_several_splits_are_one(tmp_path):
    folder = make(tmp_path / "set", SHARDED)
    assert ours(folder, split="train+extra")[1] == [p for p in sorted(SHARDED) if "validation" not in p]
    with pytest.raises(PlanError, match="SampleFilter"):
        ours(folder, split="train[:10%]")


def test_files_that_are_named_and_not_there_are_told(tmp_path):
    folder = make(tmp_path / "set", ["a.jsonl"])
    with pytest.raises(PlanError, match=r"no file b\.jsonl"):
        ours(folder, data_files="b.jsonl", split="train")
    with pytest.raises(PlanError, match=r"matches c/\*"):
        ours(folder, data_files=["c/*"], split="train")


def test_a_saved_dataset_names_its_files(tmp_path):
    one = datasets.Dataset.from_dict({"a": [1, 2, 3]})
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=one, held=one).save_to_disk(tmp_path / "two")
    assert ours(tmp_path / "one", split="train") == ("arrow", ["data-00000-of-00001.arrow"])
    assert ours(tmp_path / "two", split="held") == ("arrow", ["held/data-00000-of-00001.arrow"])
    with pytest.raises(PlanError, match="it has: train, held"):
        ours(tmp_path / "two", split="test")
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    assert len(state["_data_files"]) == 1


FOLDERS = ("", "data/", "train/", "x/", "test_1/", "my dev/", "trainer/", "__x__/", ".h/", "evaluation.2/deep/")
STEMS = (
    "a",
    "train",
    "train-00000-of-00001",
    "extra-00001-of-00002",
    "val_2",
    "mytest",
    "x-eval",
    "Training",
    "testing",
)


@settings(max_examples=60, deadline=None)
@given(
    paths=st.sets(
        st.builds(
            "{}{}.{}".format,
            st.sampled_from(FOLDERS),
            st.sampled_from(STEMS),
            st.sampled_from(("jsonl", "jsonl", "csv", "parquet", "md5")),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_tree_is_taken_apart_as_by_datasets(paths, tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("any") / "set", sorted(paths))
    try:
        module, splits = theirs(folder)
    except (ValueError, FileNotFoundError):
        assume(False)  # Splits of several formats, or no data: nothing to compare with.
    for split, files in splits.items():
        kind, found = ours(folder, split=split)
        assert (modules(kind), found) == (module, files)
    with pytest.raises(PlanError) as failed:
        ours(folder, split="none")
    assert f"it has: {', '.join(splits)}" in str(failed.value)
