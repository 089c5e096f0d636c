"""Embeds images by transformers alone, one after the other, and by an operator: what tests hold against each other."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fdf.operator import Context
from fdf_ops_vision.images import decode


def asked(transformers: Any, folder: Any, model_class: str, photos: Any, *, normalize: bool = True) -> Any:
    """Return what the whole model says of images: files, as FDF decodes them, or Pillow's, of any mode."""
    import torch

    model = getattr(transformers, model_class).from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    said = []
    for photo in photos:
        pixels = decode(photo) if isinstance(photo, bytes) else photo
        inputs = processor(images=[pixels], return_tensors="pt", input_data_format="channels_last")
        with torch.inference_mode():
            said.append(model.get_image_features(**inputs).pooler_output[0])
    found = torch.stack(said)
    return (torch.nn.functional.normalize(found, dim=-1) if normalize else found).numpy()


def embedded(operator: Any, batch: pa.RecordBatch, folder: Any) -> Any:
    """Return what an operator says of a batch: its columns."""
    operator.setup(Context(operator_id="test", seed=0, cache_dir=folder))
    try:
        return operator.score(batch)
    finally:
        operator.teardown()
