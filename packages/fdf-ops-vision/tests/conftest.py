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
