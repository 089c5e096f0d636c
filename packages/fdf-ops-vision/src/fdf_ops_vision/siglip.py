"""Embed images with SigLIP or SigLIP 2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf.models.contract import ModelScore, Prepared
from fdf.models.copying import tensor_on
from fdf.models.tensors import tensor_batch
from fdf.operator import Context
from fdf_ops_vision.image_columns import require_images
from fdf_ops_vision.images import MAX_PIXELS, images_of
from fdf_ops_vision.transformer import DType, PinnedWeights, on_device, pixel_tensors

_MODELS = {"siglip": "SiglipVisionModel", "siglip2": "Siglip2VisionModel"}
# What the vision towers have where a `config.json` does not say it (transformers' SiglipVisionConfig).
_HIDDEN_SIZE = 768


@dataclass(frozen=True, kw_only=True)
class SigLIPEncoder(PinnedWeights, ModelScore):
    """Add the column `siglip_emb`: the embedding of an image by SigLIP (Zhai et al. 2023, arXiv 2303.15343) or SigLIP 2
    (Tschannen et al. 2025, arXiv 2502.14786).

    It is the pooled output of the vision tower, as transformers' `get_image_features` gives it; only that tower is
    loaded. With `normalize` it has length 1, so that the product of two is their cosine. Models of a fixed resolution
    and those of a native aspect ratio (NaFlex) are taken, by the model's own image processor.

    How an image becomes RGB is told in docs/vision.md. A null image gives null; one that cannot be decoded fails.

    >>> SigLIPEncoder().model, SigLIPEncoder.resources.gpus
    ('google/siglip-base-patch16-224', 1)
    """

    field: str = "image"
    """The column of image files, as bytes."""
    model: str = "google/siglip-base-patch16-224"
    """A folder that save_pretrained wrote, or a name on the hub."""
    revision: str | None = None
    """A branch, tag or commit of the hub's model; null: `main`. The commit that it stands for is in the manifest."""
    normalize: bool = True
    """Whether an embedding is scaled to length 1."""
    dtype: DType | None = None
    """What the model computes in; null: what the runner says, by default float32. Embeddings are float32 always."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels than this fail before they are decoded."""
    column: str = "siglip_emb"
    """The name of the new column."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""

    version = "1.0.0"
    modality = "image"
    extras = ("models",)
    copies_ahead = True

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column, a list of float32 as long as the model is wide. Raises PlanError where `field` holds no
        bytes, or the model is not there."""
        require_images(schema, self.field, operator="SigLIPEncoder")
        return {self.column: pa.list_(pa.float32(), self._width())}

    def setup_cpu(self, context: Context) -> None:
        """Load the image processor."""
        self.runtime.processor = self.loaded("AutoImageProcessor")

    def setup_device(self, context: Context) -> None:
        """Load the vision tower, and the processor's numbers."""
        if not hasattr(self.runtime, "processor"):
            self.setup_cpu(context)
        self.runtime.model = self.loaded_model(_MODELS[self._kind()], context, self.dtype or context.dtype)

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        """Decode images, and resize and cut them as the model's own processor does."""
        images = images_of(batch.column(self.field), max_pixels=self.max_pixels)
        tensors, errors = pixel_tensors(images, self.runtime.processor)
        return Prepared(tensor_batch(tensors), errors)

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Normalize pixels, and run the vision tower."""
        import torch

        held = self.runtime
        with torch.inference_mode():
            inputs = {
                name: on_device(tensor_on(prepared, name, held.model.device), held.model, held.processor)
                for name in prepared.schema.names
            }
            made = held.model(**inputs).pooler_output.float()
            if self.normalize:
                made = torch.nn.functional.normalize(made, dim=-1)
            values = made.cpu().numpy()
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), pa.float32())
        embeddings = pa.FixedSizeListArray.from_arrays(flat, values.shape[-1])
        return pa.RecordBatch.from_arrays([embeddings], names=[self.column])

    def _kind(self) -> str:
        found = self.weights().config().get("model_type")
        kind = str(found).removesuffix("_vision_model")
        if kind not in _MODELS:
            raise PlanError(
                Problem(
                    code="FDF372",
                    message=f"`model` of SigLIPEncoder: {self.model} is of type `{found}`, not a SigLIP",
                    help=f"it takes models of the types {', '.join(_MODELS)}",
                )
            )
        return kind

    def _width(self) -> int:
        self._kind()
        config = self.weights().config()
        vision = config.get("vision_config") or (config if "hidden_size" in config else {})
        return int(vision.get("hidden_size", _HIDDEN_SIZE))
