"""Tiny models with random weights, written as save_pretrained writes real ones, and loaded by the same code."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdf.models.libraries import require_transformers

TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 8,
}
TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(scope="session")
def transformers() -> Any:
    """The library, once torchvision lets it be imported; one thread, as in a worker."""
    torch, library = require_transformers(operator="tests", install="fdf-ops-vision[models]")
    torch.set_num_threads(1)
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


@pytest.fixture(scope="session")
def siglip(transformers, tmp_path_factory) -> Path:
    """A SigLIP of 32 x 32 pixels, with both its towers."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "siglip"
    config = transformers.SiglipConfig(vision_config={**TOWER, "image_size": 32}, text_config=TEXT)
    transformers.SiglipModel(config).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def siglip2(transformers, tmp_path_factory) -> Path:
    """A SigLIP 2 of native aspect ratio: at most 16 patches of 8 x 8 pixels."""
    import torch

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "siglip2"
    config = transformers.Siglip2Config(vision_config={**TOWER, "num_patches": 16}, text_config=TEXT)
    transformers.Siglip2Model(config).save_pretrained(folder)
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16).save_pretrained(folder)
    return folder


WORDS = ["a", "cat", "dog", "on", "the", "mat", "tree", "red", "blue", "house", "runs", "sits", "USER:", "ASSISTANT:"]
TEMPLATE = (
    "{% for message in messages %}ASKED: {% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}SAID:{% endif %}"
)


def _tokenizer(transformers: Any) -> Any:
    """A tokenizer of a few words, built here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    listed = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(listed)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


def _llava(transformers: Any, folder: Path, *, kind: str, template: str | None) -> Path:
    import torch

    torch.manual_seed(3)
    vision = transformers.CLIPVisionConfig(**{**TOWER, "projection_dim": 16}, image_size=32)
    text = transformers.LlamaConfig(
        **{**TEXT, "vocab_size": 5 + len(WORDS)}, num_key_value_heads=2, pad_token_id=0, max_position_embeddings=256
    )
    more = {"image_grid_pinpoints": [[32, 64], [64, 32]]} if kind == "LlavaNext" else {}
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-1, **more
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    with torch.no_grad():
        # Random weights hardly look at the image: louder, their words depend on it.
        for parameter in model.parameters():
            parameter.mul_(6)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    images = getattr(transformers, f"{kind}ImageProcessor")(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, **more
    )
    processor = getattr(transformers, f"{kind}Processor")(
        images,
        _tokenizer(transformers),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llava(transformers, tmp_path_factory) -> Path:
    """A LLaVA whose images are all of one size; its processor has a chat template."""
    return _llava(transformers, tmp_path_factory.mktemp("models") / "llava", kind="Llava", template=TEMPLATE)


@pytest.fixture(scope="session")
def llava_untold(transformers, tmp_path_factory) -> Path:
    """A LLaVA whose processor has no chat template."""
    return _llava(transformers, tmp_path_factory.mktemp("models") / "untold", kind="Llava", template=None)


@pytest.fixture(scope="session")
def llava_next(transformers, tmp_path_factory) -> Path:
    """A LLaVA-NeXT, which cuts each image in its own way."""
    return _llava(transformers, tmp_path_factory.mktemp("models") / "next", kind="LlavaNext", template=TEMPLATE)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image as the bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Return a picture with large and small detail."""
    dice = np.random.default_rng(seed)
    coarse = dice.integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noise = dice.integers(-20, 21, large.shape)
    return Image.fromarray(np.clip(large.astype(np.int16) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photos() -> list[bytes]:
    """Files of several formats, sizes and shapes."""
    sizes = [(64, 48), (48, 64), (32, 32), (100, 30), (17, 90), (64, 48), (200, 160)]
    kinds = ["PNG", "JPEG", "WEBP", "PNG", "JPEG", "PNG", "JPEG"]
    pictures = [picture(*size, seed=number) for number, size in enumerate(sizes)]
    return [encoded(image, kind) for image, kind in zip(pictures, kinds, strict=True)]


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., Image.Image]:
    """Give the function that makes pictures."""
    return picture


@pytest.fixture(scope="session")
def as_file() -> Callable[..., bytes]:
    """Give the function that encodes them."""
    return encoded
