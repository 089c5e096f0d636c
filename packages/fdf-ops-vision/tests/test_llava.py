"""LLaVACaptioner writes what transformers generates, whatever the batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from tiny_models import write_llava

from fdf.errors import PlanError
from fdf.operator import Context, Partial
from fdf.testing.operators import OperatorConformance
from fdf_ops_vision.images import decode
from fdf_ops_vision.llava import LLaVACaptioner

PROMPT = "the cat"


def generated(transformers, folder, model_class, photos, prompt, *, max_new_tokens):
    """What transformers generates of the same decoded images, one after the other."""
    import torch

    model = getattr(transformers, model_class).from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    said = []
    for photo in photos:
        inputs = processor(images=decode(photo), text=prompt, return_tensors="pt", input_data_format="channels_last")
        with torch.inference_mode():
            made = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        said.append(processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return said


def captioned(operator, photos, folder, *, at_once):
    operator.setup(Context(operator_id="test", seed=0, cache_dir=folder))
    try:
        batches = [pa.record_batch({"image": photos[n : n + at_once]}) for n in range(0, len(photos), at_once)]
        return [text for batch in batches for text in operator.generate(batch)["caption"].to_pylist()]
    finally:
        operator.teardown()


@pytest.mark.parametrize("at_once", [1, 3, 8])
@pytest.mark.parametrize(
    ("model", "model_class", "prompt"),
    [
        ("llava", "LlavaForConditionalGeneration", f"ASKED: <image> {PROMPT} SAID:"),
        ("llava_untold", "LlavaForConditionalGeneration", f"USER: <image>\n{PROMPT} ASSISTANT:"),
        ("llava_next", "LlavaNextForConditionalGeneration", f"ASKED: <image> {PROMPT} SAID:"),
    ],
)
def test_captions_are_what_transformers_generates(
    request, tmp_path, transformers, photos, model, model_class, prompt, at_once
):
    folder = request.getfixturevalue(model)
    wanted = generated(transformers, folder, model_class, photos, prompt, max_new_tokens=6)
    operator = LLaVACaptioner(model=str(folder), prompt=PROMPT, max_new_tokens=6)
    assert captioned(operator, photos, tmp_path, at_once=at_once) == wanted
    # Equal captions for all pictures would be no agreement.
    assert len(set(wanted)) > 1


def test_images_that_cannot_be_decoded_fail_alone(llava, llava_next, photos, tmp_path):
    batch = pa.record_batch({"image": [photos[0], b"no image", None]})
    for model in (llava, llava_next):
        operator = LLaVACaptioner(model=str(model), max_new_tokens=2)
        operator.setup(Context(operator_id="test", seed=0, cache_dir=tmp_path))
        made = operator.generate(batch)
        assert isinstance(made, Partial)
        assert made["caption"].is_valid().to_pylist() == [True, False, False]
        assert [error is None for error in made.errors.to_pylist()] == [True, False, True]


def test_thin_images_are_refused_before_they_are_enlarged(llava, llava_next, as_file, tmp_path):
    thin = as_file(Image.new("RGB", (1, 65)))
    for model in (llava, llava_next):
        operator = LLaVACaptioner(model=str(model), max_new_tokens=2)
        operator.setup(Context(operator_id="test", seed=0, cache_dir=tmp_path))
        made = operator.generate(pa.record_batch({"image": [thin, as_file(Image.new("RGB", (64, 1)))]}))
        assert made.errors.to_pylist() == ["sides of 1 and 65 pixels are further apart than max_aspect (64)", None]


def test_drawn_tokens_differ_from_the_likeliest(llava, photos, tmp_path):
    greedy = captioned(LLaVACaptioner(model=str(llava), max_new_tokens=8), photos, tmp_path, at_once=8)
    drawn = LLaVACaptioner(model=str(llava), max_new_tokens=8, temperature=1000.0)
    assert captioned(drawn, photos, tmp_path, at_once=8) != greedy


@pytest.mark.parametrize(("name", "value"), [("max_new_tokens", 0), ("temperature", -1.0)])
def test_parameters_that_generate_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        LLaVACaptioner(**{name: value})


class TestLLaVA(OperatorConformance):
    operator = LLaVACaptioner()  # of tiny weights, once they are made
    batch = pa.record_batch({"image": [b"", None, b"", b""]})

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _model(cls, llava, photos):
        cls.operator = LLaVACaptioner(model=str(llava), max_new_tokens=3)
        cls.batch = pa.record_batch({"image": [*photos[:3], None, photos[3]], "other": range(5)})


def test_model_without_some_of_its_weights_is_refused_and_never_given_random_ones(tmp_path, transformers, llava):
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(llava, tmp_path / "lacks"))
    held = load_file(folder / "model.safetensors")
    gone = next(name for name in held if name.endswith("q_proj.weight") and "language_model" in name)
    save_file({name: values for name, values in held.items() if name != gone}, folder / "model.safetensors")
    operator = LLaVACaptioner(model=str(folder))
    with pytest.raises(PlanError, match=r"lacks 1 weights of a AutoModelForImageTextToText, such as .*q_proj"):
        operator.setup(Context(operator_id="test", seed=0, cache_dir=tmp_path))


def test_weights_that_a_model_uses_twice_are_not_lacking(tmp_path, transformers, photos):
    folder = write_llava(transformers, tmp_path / "tied", tied=True)
    from safetensors.numpy import load_file

    assert not [name for name in load_file(folder / "model.safetensors") if "lm_head" in name]
    wanted = generated(
        transformers, folder, "LlavaForConditionalGeneration", photos[:3], f"ASKED: <image> {PROMPT} SAID:",
        max_new_tokens=4,
    )  # fmt: skip
    operator = LLaVACaptioner(model=str(folder), prompt=PROMPT, max_new_tokens=4)
    assert captioned(operator, photos[:3], tmp_path, at_once=3) == wanted
