"""CLIPEncoder gives what transformers gives, whatever the batch and the shape of an image, and fails row by row."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from direct_encoding import asked, embedded
from PIL import Image
from tiny_models import TEXT, TOWER, clip_images

from fdf.errors import PlanError
from fdf.models.tensors import tensor
from fdf.operator import Context, Partial
from fdf.testing.operators import OperatorConformance
from fdf_ops_vision.clip import CLIPEncoder
from fdf_ops_vision.images import BadImage, decode
from fdf_ops_vision.siglip import SigLIPEncoder
from fdf_ops_vision.transformer import on_device

IMAGES = pa.schema([("image", pa.binary())])
# Lines, portraits, landscapes; smaller than the 32 x 32 pixels that are cut out, as large, larger, and odd by one.
SHAPES = [(1, 1), (1, 40), (40, 1), (5, 7), (33, 32), (31, 33), (32, 32), (47, 250), (301, 90), (640, 480)]


def numbers(column):
    return np.array(column.drop_null().to_pylist(), dtype=np.float32)


@pytest.fixture(scope="module")
def shaped(make_picture, as_file):
    return [as_file(make_picture(*shape, seed=number)) for number, shape in enumerate(SHAPES)]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("at_once", [1, 3, 32])
def test_embeddings_are_those_of_transformers(tmp_path, transformers, clip, photos, shaped, at_once, normalize):
    files = [*photos, *shaped]
    wanted = asked(transformers, clip, "CLIPModel", files, normalize=normalize)
    operator = CLIPEncoder(model=str(clip), normalize=normalize)
    rows = [*files[:2], None, *files[2:]]
    batches = [pa.record_batch({"image": pa.array(rows[n : n + at_once], pa.binary())}) for n in range(0, 18, at_once)]
    column = pa.chunked_array([embedded(operator, batch, tmp_path)["clip_emb"] for batch in batches])
    assert column.is_null().to_pylist() == [row is None for row in rows]
    got = numbers(column)
    assert got.shape == (len(files), 16)
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4)
    # Pictures differ, so that equal embeddings for all of them would be no agreement.
    assert np.abs(got[0] - got[1]).max() > 1e-2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": {"shortest_edge": 20}},  # less than is cut out: a black edge is added
        {"size": {"shortest_edge": 45}},
        {"crop_size": {"height": 24, "width": 40}},
        {"do_resize": False},
        {"do_normalize": False},
        {"do_rescale": False},
    ],
)
def test_pixels_are_those_of_the_models_own_processor(tmp_path, transformers, clip, shaped, options):
    folder = tmp_path / "model"
    shutil.copytree(clip, folder)
    processor = clip_images(transformers, **options)
    processor.save_pretrained(folder)
    operator = CLIPEncoder(model=str(folder))
    operator.setup(Context(operator_id="test", seed=0, cache_dir=tmp_path))
    prepared = operator.prepare(pa.record_batch({"image": shaped}))
    assert prepared.errors.null_count == len(shaped)
    pixels = tensor(prepared.batch, "pixel_values")
    # Bytes on their way to the model, wherever it is normalizing that makes floats of them.
    assert (pixels.dtype == np.uint8) == (not {"do_normalize", "do_rescale"} & set(options))
    got = on_device(pixels, operator.runtime.model, operator.runtime.processor).numpy()
    for row, photo in enumerate(shaped):
        made = processor(images=[decode(photo)], return_tensors="pt", input_data_format="channels_last")
        np.testing.assert_allclose(got[row], made["pixel_values"][0].numpy(), atol=1e-4, rtol=1e-4)


def test_palettes_inks_and_deep_samples_are_embedded_as_their_colours(
    tmp_path, transformers, clip, make_picture, as_file
):
    shown = make_picture(50, 37)
    grey = np.asarray(shown.convert("L"))
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 200)
    palette, inks, line = shown.quantize(32), shown.convert("CMYK"), shown.convert("1")
    # What each shows is left to transformers and Pillow, and of 16 bits is the high byte, which was put in here.
    files = {
        as_file(palette): palette,
        as_file(palette, "GIF"): palette,
        as_file(inks, "TIFF"): inks,
        as_file(deep): Image.fromarray(grey),
        as_file(deep, "TIFF"): Image.fromarray(grey),
        as_file(line): line,
    }
    wanted = asked(transformers, clip, "CLIPModel", list(files.values()))
    made = embedded(CLIPEncoder(model=str(clip)), pa.record_batch({"image": list(files)}), tmp_path)
    np.testing.assert_allclose(numbers(made["clip_emb"]), wanted, atol=1e-4, rtol=1e-4)


def test_odd_images_are_embedded_or_fail_alone(tmp_path, transformers, clip, real_data):
    files = {path.name: path.read_bytes() for path in sorted((real_data / "img_odd").iterdir())}
    taken = []
    for data in files.values():
        try:
            decode(data)
        except BadImage:
            taken.append(False)
        else:
            taken.append(True)
    made = embedded(CLIPEncoder(model=str(clip)), pa.record_batch({"image": list(files.values())}), tmp_path)
    assert made["clip_emb"].is_valid().to_pylist() == taken
    assert [error is None for error in made.errors.to_pylist()] == taken
    errors = dict(zip(files, made.errors.to_pylist(), strict=True))
    assert "truncated" in errors["truncated_jpeg.jpg"]
    assert "more pixels than max_pixels" in errors["decompression_bomb.gif"]
    good = [data for data, is_taken in zip(files.values(), taken, strict=True) if is_taken]
    assert len(good) > 20
    wanted = asked(transformers, clip, "CLIPModel", good)
    np.testing.assert_allclose(numbers(made["clip_emb"]), wanted, atol=1e-4, rtol=1e-4)


def test_thin_images_are_refused_before_they_are_enlarged(tmp_path, transformers, clip, as_file, make_picture):
    thin, allowed = as_file(make_picture(1, 65)), as_file(make_picture(64, 1))
    batch = pa.record_batch({"image": [thin, allowed]})
    made = embedded(CLIPEncoder(model=str(clip)), batch, tmp_path)
    assert made.errors.to_pylist() == ["sides of 1 and 65 pixels are further apart than max_aspect (64)", None]
    assert made["clip_emb"].is_valid().to_pylist() == [False, True]
    wider = embedded(CLIPEncoder(model=str(clip), max_aspect=65), batch, tmp_path)
    wanted = asked(transformers, clip, "CLIPModel", [thin, allowed])
    np.testing.assert_allclose(numbers(wider["clip_emb"]), wanted, atol=1e-4, rtol=1e-4)


def test_images_that_cannot_be_decoded_fail_alone(clip, photos, tmp_path):
    batch = pa.record_batch({"image": [b"no image", photos[0], None, b"", photos[1]]})
    made = embedded(CLIPEncoder(model=str(clip)), batch, tmp_path)
    assert isinstance(made, Partial)
    assert made["clip_emb"].is_valid().to_pylist() == [False, True, False, False, True]
    errors = made.errors.to_pylist()
    assert errors[1:3] + errors[4:] == [None, None, None]
    assert "not an image" in errors[0]
    assert errors[3] == "there are no bytes"


def test_vision_tower_alone_gives_the_same(tmp_path, transformers, clip, photos):
    tower = tmp_path / "tower"
    transformers.CLIPVisionModelWithProjection.from_pretrained(clip).save_pretrained(tower)
    clip_images(transformers).save_pretrained(tower)
    assert json.loads((tower / "config.json").read_text())["model_type"] == "clip_vision_model"
    made = embedded(CLIPEncoder(model=str(tower)), pa.record_batch({"image": photos}), tmp_path)
    wanted = asked(transformers, clip, "CLIPModel", photos)
    np.testing.assert_allclose(numbers(made["clip_emb"]), wanted, atol=1e-4, rtol=1e-4)


def test_whole_model_goes_by_its_own_width(tmp_path, transformers, photos):
    # As in configurations that say the width once: the tower's part is left at its default, 512.
    folder = tmp_path / "model"
    config = transformers.CLIPConfig(vision_config={**TOWER, "image_size": 32}, text_config=TEXT, projection_dim=24)
    transformers.CLIPModel(config).save_pretrained(folder)
    clip_images(transformers).save_pretrained(folder)
    operator = CLIPEncoder(model=str(folder))
    assert operator.writes(IMAGES) == {"clip_emb": pa.list_(pa.float32(), 24)}
    made = embedded(operator, pa.record_batch({"image": photos}), tmp_path)
    wanted = asked(transformers, folder, "CLIPModel", photos)
    np.testing.assert_allclose(numbers(made["clip_emb"]), wanted, atol=1e-4, rtol=1e-4)


def test_processors_of_the_first_clips_are_understood(tmp_path, transformers, clip, photos):
    # As the files of 2021 have it: sizes as one number, and the class by the name that it had then.
    folder = tmp_path / "model"
    shutil.copytree(clip, folder)
    path = folder / "preprocessor_config.json"
    told = json.loads(path.read_text())
    kept = {name: told[name] for name in ("do_center_crop", "do_normalize", "do_resize", "image_mean", "image_std")}
    older = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "resample": 3}
    path.write_text(json.dumps({**kept, **older}))
    made = embedded(CLIPEncoder(model=str(folder)), pa.record_batch({"image": photos}), tmp_path)
    wanted = asked(transformers, clip, "CLIPModel", photos)
    np.testing.assert_allclose(numbers(made["clip_emb"]), wanted, atol=1e-4, rtol=1e-4)


def text_tower(transformers, folder):
    transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**TEXT)).save_pretrained(folder)
    return folder


def bare_tower(transformers, folder):
    transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TOWER, image_size=32)).save_pretrained(folder)
    clip_images(transformers).save_pretrained(folder)
    return folder


def test_models_of_another_kind_are_plan_errors(tmp_path, transformers, clip, siglip, siglip2, llava):
    text = text_tower(transformers, tmp_path / "text")
    for operator, folder, kind, why, takes in (
        (CLIPEncoder, siglip, "siglip", "a CLIP", "clip"),
        (CLIPEncoder, siglip2, "siglip2", "a CLIP", "clip"),
        (CLIPEncoder, llava, "llava", "a CLIP", "clip"),
        (CLIPEncoder, text, "clip_text_model", "a CLIP", "clip"),
        (SigLIPEncoder, clip, "clip", "a SigLIP", "siglip, siglip2"),
        (SigLIPEncoder, text, "clip_text_model", "a SigLIP", "siglip, siglip2"),
    ):
        with pytest.raises(PlanError) as caught:
            operator(model=str(folder)).writes(IMAGES)
        problem = caught.value.problems[0]
        assert problem.message == f"`model` of {operator.__name__}: {folder} is of type `{kind}`, not {why}"
        assert problem.help == f"it takes models of the types {takes}"


def test_tower_without_its_projection_is_refused_and_never_given_a_random_one(tmp_path, transformers):
    folder = bare_tower(transformers, tmp_path / "bare")
    with pytest.raises(PlanError, match="a CLIP's vision tower without its projection"):
        CLIPEncoder(model=str(folder)).writes(IMAGES)
    # Where the configuration does not say what was saved, the weights do.
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    operator = CLIPEncoder(model=str(folder))
    operator.writes(IMAGES)
    with pytest.raises(PlanError, match=r"lacks 1 weights of a CLIPVisionModelWithProjection, such as visual_proj"):
        operator.setup(Context(operator_id="test", seed=0, cache_dir=tmp_path))


def test_columns_that_hold_no_bytes_are_plan_errors(clip):
    with pytest.raises(PlanError, match="`field` of CLIPEncoder names the column `image`, which is string"):
        CLIPEncoder(model=str(clip)).writes(pa.schema([("image", pa.string())]))


class TestCLIP(OperatorConformance):
    tolerance = 1e-4
    operator = CLIPEncoder()  # of tiny weights, once they are made
    batch = pa.record_batch({"image": [b"", None, b"", b""]})

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _model(cls, clip, photos):
        cls.operator = CLIPEncoder(model=str(clip))
        cls.batch = pa.record_batch({"image": [*photos[:3], None, photos[3]], "other": range(5)})
