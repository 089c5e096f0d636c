"""Embed images with SigLIP or SigLIP 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fdf_ops_vision.image_encoder import ImageEncoder

# What the vision towers have where a `config.json` does not say it (transformers' SiglipVisionConfig).
_HIDDEN_SIZE = 768


@dataclass(frozen=True, kw_only=True)
class SigLIPEncoder(ImageEncoder):
    """Add the column `siglip_emb`: the embedding of an image by SigLIP (Zhai et al. 2023, arXiv 2303.15343) or SigLIP 2
    (Tschannen et al. 2025, arXiv 2502.14786).

    It is the pooled output of the vision tower, as transformers' `get_image_features` gives it; only that tower is
    loaded. With `normalize` it has length 1, so that the product of two is their cosine. Models of a fixed resolution
    and those of a native aspect ratio (NaFlex) are taken, by the model's own image processor.

    How an image becomes RGB is told in docs/vision.md. A null image gives null; one that cannot be decoded fails.

    >>> SigLIPEncoder().model, SigLIPEncoder.resources.gpus
    ('google/siglip-base-patch16-224', 1)
    """

    model: str = "google/siglip-base-patch16-224"
    column: str = "siglip_emb"

    version = "1.0.0"
    family = "a SigLIP"
    towers: ClassVar[Mapping[str, str]] = {"siglip": "SiglipVisionModel", "siglip2": "Siglip2VisionModel"}

    def width(self) -> int:
        """Return how wide the vision tower is."""
        config = self.weights().config()
        vision = config.get("vision_config") or (config if "hidden_size" in config else {})
        return int(vision.get("hidden_size", _HIDDEN_SIZE))

    def embeddings(self, answer: Any) -> Any:
        """Return the pooled output."""
        return answer.pooler_output
