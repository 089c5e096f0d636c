"""Embed images with CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf_ops_vision.image_encoder import ImageEncoder

# What a CLIP has where a `config.json` does not say it (transformers' CLIPConfig and CLIPVisionConfig).
_PROJECTION_DIM = 512
_WITHOUT_PROJECTION = "CLIPVisionModel"


@dataclass(frozen=True, kw_only=True)
class CLIPEncoder(ImageEncoder):
    """Add the column `clip_emb`: the embedding of an image by CLIP (Radford et al. 2021, arXiv 2103.00020).

    It is the pooled output of the vision tower, projected to where texts are too, as transformers'
    `get_image_features` gives it; only that tower and its projection are loaded. With `normalize` it has length 1, so
    that the product of two is their cosine. The model's own image processor scales the shorter side to its size and
    cuts out the middle: what an oblong image shows at its ends is not seen.

    The default is ViT-B/32, by which the pairs of LAION-400M were chosen and with whose embeddings it was published
    (Schuhmann et al. 2021, arXiv 2111.02114).

    How an image becomes RGB is told in docs/vision.md. A null image gives null; one that cannot be decoded fails.

    >>> CLIPEncoder().model, CLIPEncoder.resources.gpus
    ('openai/clip-vit-base-patch32', 1)
    """

    model: str = "openai/clip-vit-base-patch32"
    max_aspect: float = 64.0
    """Images with one side more than so many times the other fail: a processor that scales the shorter side to its
    size makes the longer one as many times larger, before it cuts it."""
    column: str = "clip_emb"

    version = "1.0.0"
    family = "a CLIP"
    towers: ClassVar[Mapping[str, str]] = {"clip": "CLIPVisionModelWithProjection"}

    def width(self) -> int:
        """Return how wide the projection is."""
        # A whole model goes by its own number, whatever the part that is about the tower says.
        return int(self.weights().config().get("projection_dim", _PROJECTION_DIM))

    def tower_options(self) -> dict[str, Any]:
        """Return the width, which the tower alone would look for in its own part of the configuration."""
        return {"projection_dim": self.width()}

    def embeddings(self, answer: Any) -> Any:
        """Return the projected output."""
        return answer.image_embeds

    def aspect_bound(self) -> float | None:
        """Return `max_aspect`."""
        return self.max_aspect

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column, a list of float32 as long as the projection is wide. Raises PlanError where `field` holds
        no bytes, the model is not there, or is a vision tower that was saved without its projection."""
        written = super().writes(schema)
        if _WITHOUT_PROJECTION in (self.weights().config().get("architectures") or ()):
            raise PlanError(
                Problem(
                    code="FDF372",
                    message=f"`model` of CLIPEncoder: {self.model} is a CLIP's vision tower without its projection",
                    help="give the whole CLIP, or what CLIPVisionModelWithProjection saved",
                )
            )
        return written
