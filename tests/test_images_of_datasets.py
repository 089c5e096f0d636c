"""Images that `datasets` stored, on their way to an operator on images: from parquet, from the hub, from Python."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.errors import PlanError
from fdf.testing.hub import hub_stand_in

datasets = pytest.importorskip("datasets")
pillow = pytest.importorskip("PIL.Image")

OPERATORS = [{"id": "score.info", "kind": "score", "op": "ImageInfo"}]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def pictures(real_data) -> list[bytes]:
    """Give the images of the MDN pages, as their files."""
    found = []
    for path in sorted((real_data / "wds").glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.rsplit(".", 1)[-1] in ("jpg", "png", "gif"):
                    file = archive.extractfile(member)
                    assert file is not None
                    found.append(file.read())
    assert len(found) == 208
    return found


def shown(picture: bytes | None) -> tuple[Any, ...]:
    """Return what Pillow says of a picture."""
    if picture is None:
        return None, None, None, None
    from PIL import ImageOps

    with pillow.open(io.BytesIO(picture)) as image:
        width, height = (ImageOps.exif_transpose(image) or image).size
        return width, height, image.format, len(picture)


def dataset(pictures: list[bytes | None], column: str = "image") -> Any:
    rows = [None if p is None else {"bytes": p, "path": f"{n}.img"} for n, p in enumerate(pictures)]
    features = datasets.Features({column: datasets.Image(), "n": datasets.Value("int64")})
    return datasets.Dataset.from_dict({column: rows, "n": list(range(len(rows)))}, features=features)


def informed(tmp_path: Path, source: dict[str, Any], runner: str = "serial") -> list[tuple[Any, ...]]:
    """Return what `ImageInfo` says of each image of a source, in order."""
    recipe = {
        "name": "images",
        "input": source,
        "stages": [{"name": "info", "operators": OPERATORS}],
        "output": {"type": "parquet", "path": str(tmp_path / "out")},
    }
    return told(fdf.run(recipe, runner=runner))


def told(result: Any) -> list[tuple[Any, ...]]:
    table = result.to_arrow()
    assert table.schema.field("image").type == pa.binary()
    assert result.stages[0].manifest["counts"]["rows_quarantined"] == 0
    columns = [table[f"image_{name}"].to_pylist() for name in ("width", "height", "format", "bytes")]
    return [row for _, row in sorted(zip(table["n"].to_pylist(), zip(*columns, strict=True), strict=True))]


@pytest.mark.parametrize("runner", ["serial", "local"])
def test_from_parquet(tmp_path, pictures, runner):
    rows = [*pictures, None]
    dataset(rows).to_parquet(tmp_path / "in.parquet", batch_size=20)
    source = {"type": "parquet", "path": str(tmp_path / "in.parquet"), "split_size": 4 << 20}
    assert informed(tmp_path, source, runner) == [shown(p) for p in rows]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("column", ["image", "jpg"])
def test_from_the_hub(tmp_path, pictures, streaming, column):
    dataset(pictures[:60], column).to_parquet(tmp_path / "in.parquet")
    with hub_stand_in(tmp_path / "hub") as hub:
        content = (tmp_path / "in.parquet").read_bytes()
        hub.dataset("org/pictures").commit({"data/train-00000-of-00001.parquet": content})
        source = {"type": "huggingface", "path": "org/pictures", "streaming": streaming}
        assert informed(tmp_path, source) == [shown(p) for p in pictures[:60]]


@pytest.mark.parametrize("given", ["bytes", "paths"])
def test_from_python(tmp_path, pictures, given):
    rows = dataset(pictures)
    if given == "paths":
        files = [tmp_path / f"{n}.img" for n in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            file.write_bytes(picture)
        rows = datasets.Dataset.from_dict({"image": [str(f) for f in files], "n": list(range(len(files)))})
        rows = rows.cast_column("image", datasets.Image())
    pipeline = fdf.Pipeline("images").read(rows).stage("info", OPERATORS).write("parquet", path=tmp_path / "out")
    assert told(fdf.run(pipeline.recipe(), runner="serial")) == [shown(p) for p in pictures]


def test_what_was_made_is_images_to_datasets_again(tmp_path, pictures):
    dataset(pictures[:20]).to_parquet(tmp_path / "in.parquet")
    informed(tmp_path, {"type": "parquet", "path": str(tmp_path / "in.parquet")})
    loaded = datasets.load_dataset("parquet", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))[
        "train"
    ]
    loaded = loaded.cast_column("image", datasets.Image())
    # Decoded, they are turned as their EXIF says.
    assert [i.size for i in loaded["image"]] == [shown(p)[:2] for p in pictures[:20]]


def test_paths_that_are_kept_are_no_image(tmp_path, pictures):
    """The struct stays where the recipe declares it, and an operator on images says what it found."""
    dataset(pictures[:3]).to_parquet(tmp_path / "in.parquet")
    assert pq.ParquetFile(tmp_path / "in.parquet").schema_arrow.field("image").type != pa.binary()
    declared = {"image": "struct<bytes: binary, path: string>"}
    with pytest.raises(PlanError, match=r"`image`, which is struct<bytes: binary, path: string>"):
        informed(tmp_path, {"type": "parquet", "path": str(tmp_path / "in.parquet"), "schema": declared})
