"""What operators share that embed images by the vision tower of a model of the transformers library.

An operator of this kind says which models it takes, how wide their embeddings are and where in a tower's answer they
are. How a model's weights and processor are loaded is in `transformer.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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


@dataclass(frozen=True, kw_only=True)
class ImageEncoder(PinnedWeights, ModelScore):
    """Adds a column with the embedding of an image. A null image gives null; one that cannot be decoded fails."""

    field: str = "image"
    """The column of image files, as bytes."""
    model: str
    """A folder that save_pretrained wrote, or a name on the hub."""
    revision: str | None = None
    """A branch, tag or commit of the hub's model; null: `main`. The commit that it stands for is in the manifest."""
    normalize: bool = True
    """Whether an embedding is scaled to length 1."""
    dtype: DType | None = None
    """What the model computes in; null: what the runner says, by default float32. Embeddings are float32 always."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels than this fail before they are decoded."""
    column: str
    """The name of the new column."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""

    modality = "image"
    extras = ("models",)
    copies_ahead = True

    family: ClassVar[str]
    """How a model that is taken is called, for messages."""
    towers: ClassVar[Mapping[str, str]]
    """The class of transformers that loads the vision tower, by the type of the model."""

    @abstractmethod
    def width(self) -> int:
        """Return the length of an embedding, by the model's configuration. Raises PlanError."""

    @abstractmethod
    def embeddings(self, answer: Any) -> Any:
        """Return the embeddings in what the vision tower returned, a tensor with a row per image."""

    def aspect_bound(self) -> float | None:
        """Return how many times longer one side of an image may be than the other; None: any."""
        return None

    def tower_options(self) -> dict[str, Any]:
        """Return what the vision tower's configuration has to be told beyond what it says itself."""
        return {}

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column, a list of float32 as long as the model is wide. Raises PlanError where `field` holds no
        bytes, or the model is not there."""
        require_images(schema, self.field, operator=type(self).__name__)
        self.model_type()
        return {self.column: pa.list_(pa.float32(), self.width())}

    def setup_cpu(self, context: Context) -> None:
        """Load the image processor."""
        self.runtime.processor = self.loaded("AutoImageProcessor")

    def setup_device(self, context: Context) -> None:
        """Load the vision tower, and the processor's numbers."""
        if not hasattr(self.runtime, "processor"):
            self.setup_cpu(context)
        factory, dtype = self.towers[self.model_type()], self.dtype or context.dtype
        self.runtime.model = self.loaded_model(factory, context, dtype, **self.tower_options())

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        """Decode images, and resize and cut them as the model's own processor does."""
        images = images_of(batch.column(self.field), max_pixels=self.max_pixels)
        tensors, errors = pixel_tensors(images, self.runtime.processor, max_aspect=self.aspect_bound())
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
            made = self.embeddings(held.model(**inputs)).float()
            if self.normalize:
                made = torch.nn.functional.normalize(made, dim=-1)
            values = made.cpu().numpy()
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), pa.float32())
        embeddings = pa.FixedSizeListArray.from_arrays(flat, values.shape[-1])
        return pa.RecordBatch.from_arrays([embeddings], names=[self.column])

    def model_type(self) -> str:
        """Return the type of the whole model, also where there is only its vision tower. Raises PlanError where it is
        none of those that are taken."""
        found = self.weights().config().get("model_type")
        kind = str(found).removesuffix("_vision_model")
        if kind not in self.towers:
            raise PlanError(
                Problem(
                    code="FDF372",
                    message=f"`model` of {type(self).__name__}: {self.model} is of type `{found}`, not {self.family}",
                    help=f"it takes models of the types {', '.join(self.towers)}",
                )
            )
        return kind
