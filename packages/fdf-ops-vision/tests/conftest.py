"""Tiny models with random weights, written as save_pretrained writes real ones, and loaded by the same code."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import TEMPLATE, write_clip, write_llava, write_siglip, write_siglip2

from fdf.models.libraries import require_transformers


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
    return write_siglip(transformers, tmp_path_factory.mktemp("models") / "siglip")


@pytest.fixture(scope="session")
def siglip2(transformers, tmp_path_factory) -> Path:
    """A SigLIP 2 of native aspect ratio: at most 16 patches of 8 x 8 pixels."""
    return write_siglip2(transformers, tmp_path_factory.mktemp("models") / "siglip2")


@pytest.fixture(scope="session")
def clip(transformers, tmp_path_factory) -> Path:
    """A CLIP of 32 x 32 pixels, with both its towers."""
    return write_clip(transformers, tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def llava(transformers, tmp_path_factory) -> Path:
    """A LLaVA whose images are all of one size; its processor has a chat template."""
    return write_llava(transformers, tmp_path_factory.mktemp("models") / "llava", kind="Llava", template=TEMPLATE)


@pytest.fixture(scope="session")
def llava_untold(transformers, tmp_path_factory) -> Path:
    """A LLaVA whose processor has no chat template."""
    return write_llava(transformers, tmp_path_factory.mktemp("models") / "untold", kind="Llava", template=None)


@pytest.fixture(scope="session")
def llava_next(transformers, tmp_path_factory) -> Path:
    """A LLaVA-NeXT, which cuts each image in its own way."""
    return write_llava(transformers, tmp_path_factory.mktemp("models") / "next", kind="LlavaNext", template=TEMPLATE)


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
