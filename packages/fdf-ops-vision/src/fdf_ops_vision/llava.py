"""Caption images with LLaVA, or another model that takes an image and a text and writes text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.models.contract import ModelGenerator, Prepared
from fdf.models.copying import tensor_on
from fdf.models.tensors import tensor, tensor_batch
from fdf.operator import Columns, Context
from fdf_ops_vision.image_columns import require_images
from fdf_ops_vision.images import MAX_PIXELS, BadImage, Images, Pixels, images_of
from fdf_ops_vision.transformer import DType, PinnedWeights, on_device, pixel_tensors

# LLaVA 1.5's own words around a question, for processors that carry no chat template.
_LLAVA = "USER: <image>\n{prompt} ASSISTANT:"
_PIXELS, _SHAPE, _TOKENS = "pixels", "shape", "tokens"


@dataclass(frozen=True, kw_only=True)
class LLaVACaptioner(PinnedWeights, ModelGenerator):
    """Add the column `caption`: what LLaVA (Liu et al. 2023, arXiv 2304.08485 and 2310.03744) writes of an image.

    Any model that transformers loads as `AutoModelForImageTextToText` is taken. The prompt goes through the chat
    template of the model's processor, and through LLaVA 1.5's where there is none. Decoding is greedy unless
    `temperature` is above 0. A caption has no whitespace around it; it may be empty.

    How an image becomes RGB is told in docs/vision.md. A null image gives null; one that cannot be decoded fails.

    >>> LLaVACaptioner(prompt="What is this?").model
    'llava-hf/llava-1.5-7b-hf'
    """

    field: str = "image"
    """The column of image files, as bytes."""
    model: str = "llava-hf/llava-1.5-7b-hf"
    """A folder that save_pretrained wrote, or a name on the hub."""
    revision: str | None = None
    """A branch, tag or commit of the hub's model; null: `main`. The commit that it stands for is in the manifest."""
    prompt: str = "Describe this image in one or two sentences."
    """What the model is asked."""
    max_new_tokens: int = 96
    """How many tokens a caption may have."""
    temperature: float = 0.0
    """0: the likeliest token each time; above: tokens are drawn, the more freely the higher it is."""
    dtype: DType | None = None
    """What the model computes in; null: what its weights are stored in on a GPU, float32 on a CPU."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels than this fail before they are decoded."""
    max_aspect: float = 64.0
    """Images with one side more than so many times the other fail: a processor that scales the shorter side to its
    size makes the longer one as many times larger, before it cuts it."""
    column: str = "caption"
    """The name of the new column."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""

    version = "1.0.0"
    modality = "image"
    extras = ("models",)
    copies_ahead = True
    batch_rows: ClassVar[int | None] = 8

    def __post_init__(self) -> None:
        """Refuse what generates nothing."""
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be 1 or more")
        if self.temperature < 0:
            raise ValueError("temperature must be 0 (greedy) or more")

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column of captions. Raises PlanError where `field` holds no bytes."""
        require_images(schema, self.field, operator="LLaVACaptioner")
        return {self.column: pa.string()}

    def setup_cpu(self, context: Context) -> None:
        """Load the processor: of images, and of tokens."""
        self._processor()

    def setup_device(self, context: Context) -> None:
        """Load the model."""
        import torch

        held = self.runtime
        stored = self.dtype or ("float32" if context.device == "cpu" else "auto")
        held.model = self.loaded_model("AutoModelForImageTextToText", context, stored)
        torch.manual_seed(context.seed)
        self._processor()

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        """Decode images; for LLaVA's own processor, whose images are all of one size, also resize."""
        images = images_of(batch.column(self.field), max_pixels=self.max_pixels)
        if self._is_dense():
            processor = self._processor().image_processor
            tensors, errors = pixel_tensors(images, processor, max_aspect=self.max_aspect)
            return Prepared(tensor_batch(tensors), errors)
        return _whole(images, max_aspect=self.max_aspect)

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Generate tokens, for all rows at once; those of the prompt are left out."""
        import torch

        held = self.runtime
        images = self._processor().image_processor
        with torch.inference_mode():
            inputs = self._dense_inputs(prepared) if self._is_dense() else self._inputs(_pixels_of(prepared))
            inputs = {name: on_device(values, held.model, images) for name, values in inputs.items()}
            made = held.model.generate(**inputs, **self._choices())
        return tensor_batch({_TOKENS: made[:, inputs["input_ids"].shape[1] :].cpu().numpy()})

    def finish(self, rows: pa.RecordBatch, inferred: pa.RecordBatch) -> Columns:
        """Turn tokens into text."""
        said = self._processor().batch_decode(tensor(inferred, _TOKENS), skip_special_tokens=True)
        return {self.column: pc.utf8_trim_whitespace(pa.array(said, pa.string()))}

    def _choices(self) -> dict[str, Any]:
        tokenizer = self._processor().tokenizer
        padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        how = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        return {**how, "max_new_tokens": self.max_new_tokens, "pad_token_id": padding}

    def _dense_inputs(self, prepared: pa.RecordBatch) -> dict[str, Any]:
        """Return a batch's inputs: the prompt is the same for all, down to the tokens that stand for the image."""
        held = self.runtime
        pixels = {name: tensor_on(prepared, name, held.model.device) for name in prepared.schema.names}
        if not hasattr(held, "prompt_inputs"):
            some = self._inputs([np.zeros((8, 8, 3), dtype=np.uint8)])
            held.prompt_inputs = {name: values for name, values in some.items() if name not in pixels}
        rows = prepared.num_rows
        return pixels | {name: values.expand(rows, -1) for name, values in held.prompt_inputs.items()}

    def _inputs(self, images: list[Pixels]) -> dict[str, Any]:
        texts = [self._prompt()] * len(images)
        made = self._processor()(
            images=[[image] for image in images],
            text=texts,
            return_tensors="pt",
            padding=True,
            input_data_format="channels_last",
        )
        return dict(made)

    def _prompt(self) -> str:
        processor = self._processor()
        if not getattr(processor, "chat_template", None):
            return _LLAVA.format(prompt=self.prompt)
        content = [{"type": "image"}, {"type": "text", "text": self.prompt}]
        said: str = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return said

    def _is_dense(self) -> bool:
        return type(self._processor()).__name__ == "LlavaProcessor"

    def _processor(self) -> Any:
        held = self.runtime
        if not hasattr(held, "processor"):
            held.processor = self.loaded("AutoProcessor")
            # What is generated follows the prompt, so that padding comes before it.
            held.processor.tokenizer.padding_side = "left"
        return held.processor


def _whole(images: Images, *, max_aspect: float) -> Prepared:
    """Return images as they are, with their height and width, for a processor that cuts each in its own way."""
    errors: list[str | None] = [None] * len(images)
    found: list[Pixels] = []
    for row in range(len(images)):
        try:
            found.append(images.no_longer_than(row, max_aspect=max_aspect))
        except BadImage as error:
            errors[row] = str(error)
    shapes = np.array([image.shape[:2] for image in found], dtype=np.int32).reshape(-1, 2)
    pixels = pa.array([image.tobytes() for image in found], pa.large_binary())
    batch = tensor_batch({_SHAPE: shapes}).append_column(_PIXELS, pixels)
    return Prepared(batch, pa.array(errors, pa.string()))


def _pixels_of(prepared: pa.RecordBatch) -> list[Pixels]:
    shapes = tensor(prepared, _SHAPE)
    held = prepared.column(_PIXELS)
    return [
        np.frombuffer(held[row].as_buffer(), np.uint8).reshape(*shapes[row], 3).copy()
        for row in range(prepared.num_rows)
    ]
