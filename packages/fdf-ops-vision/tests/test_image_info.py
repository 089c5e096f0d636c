"""ImageInfo tells what a file's header says."""

from __future__ import annotations

import pyarrow as pa
import pytest
from PIL import Image

from fdf.errors import PlanError
from fdf.testing.operators import OperatorConformance
from fdf_ops_vision.image_info import ImageInfo
from fdf_ops_vision.images import BadImage, decode


def told(*files, **params):
    made = ImageInfo(**params).score(pa.record_batch({"image": pa.array(files, pa.binary())}))
    rows = [dict(zip(made, row, strict=True)) for row in zip(*(c.to_pylist() for c in made.values()), strict=True)]
    return rows, getattr(made, "errors", None)


def test_facts_of_a_file(as_file):
    data = as_file(Image.new("CMYK", (30, 20)), "JPEG")
    assert told(data) == (
        [
            {
                "image_width": 30,
                "image_height": 20,
                "image_aspect": 1.5,
                "image_bytes": len(data),
                "image_format": "JPEG",
                "image_mode": "CMYK",
            }
        ],
        None,
    )


@pytest.mark.parametrize("number", range(1, 9))
def test_width_and_height_are_those_of_the_upright_image(as_file, number):
    exif = Image.Exif()
    exif[0x0112] = number
    rows, _ = told(as_file(Image.new("RGB", (30, 20)), "JPEG", exif=exif), prefix="")
    assert (rows[0]["width"], rows[0]["height"]) == ((20, 30) if number >= 5 else (30, 20))


def test_sizes_are_those_of_the_decoded_image(real_data):
    compared = 0
    for path in sorted((real_data / "img_odd").iterdir()):
        try:
            height, width, _ = decode(path.read_bytes()).shape
        except BadImage:
            continue
        rows, _ = told(path.read_bytes(), prefix="")
        assert (rows[0]["width"], rows[0]["height"]) == (width, height), path.name
        compared += 1
    assert compared > 20


def test_truncated_file_has_its_size_and_bytes_that_are_no_image_fail(real_data):
    folder = real_data / "img_odd"
    names = ("truncated_jpeg.jpg", "broken.png", "decompression_bomb.gif")
    rows, errors = told(*[(folder / name).read_bytes() for name in names], b"", None)
    assert rows[0]["image_format"] == "JPEG"
    assert [error is None for error in errors.to_pylist()] == [True, False, False, False, True]
    assert set(rows[4].values()) == {None}


def test_column_that_holds_no_bytes_is_refused():
    with pytest.raises(PlanError, match="which is string, not an image's bytes"):
        ImageInfo().writes(pa.schema([("image", pa.string())]))


class TestImageInfo(OperatorConformance):
    operator = ImageInfo()
    batch = pa.record_batch({"image": pa.array([b"", b"", b"", None], pa.binary()), "other": range(4)})

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _files(cls, photos):
        cls.batch = pa.record_batch({"image": [*photos[:4], None], "other": range(5)})
