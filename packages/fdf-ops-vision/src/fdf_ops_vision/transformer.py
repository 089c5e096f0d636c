"""What operators share that run a model of the transformers library: its weights, its device, its image processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf.models.libraries import require_transformers
from fdf.models.weights import Weights, resolve
from fdf.operator import Context
from fdf_ops_vision.images import BadImage, Images

INSTALL = "fdf-ops-vision[models]"
DType: TypeAlias = Literal["float32", "float16", "bfloat16"]

# Decoded images are many times larger than what becomes of them, and are needed one after the other.
_IMAGES_AT_ONCE = 16


class PinnedWeights:
    """An operator whose `model` and `revision` name weights: found by the plan, and carried along with the operator."""

    model: str
    revision: str | None
    trust_remote_code: bool

    def assets(self) -> dict[str, str]:
        """Return the checksum of the weights, and their commit on a hub. Raises PlanError where they are not there."""
        self.__dict__.pop("_weights", None)
        return self.weights().assets()

    def fetch(self) -> None:
        """Download the weights where they are not on this machine yet. Raises PlanError."""
        self.weights().fetch()

    def weights(self) -> Weights:
        """Return the weights, as the plan found them. Raises PlanError where they are not there."""
        held: Weights | None = self.__dict__.get("_weights")
        if held is None:
            held = self.__dict__["_weights"] = resolve(
                self.model,
                revision=self.revision,
                trust_remote_code=self.trust_remote_code,
                operator=type(self).__name__,
            )
        return held

    def loaded(self, factory: str, **options: Any) -> Any:
        """Load a part of the model by the class of transformers that does it, from files alone."""
        _, transformers = require_transformers(operator=type(self).__name__, install=INSTALL)
        with quiet(transformers):
            return getattr(transformers, factory).from_pretrained(
                str(self.weights().fetch()),
                local_files_only=True,
                trust_remote_code=self.trust_remote_code,
                **options,
            )

    def loaded_model(self, factory: str, context: Context, dtype: str, **options: Any) -> Any:
        """Load the model, or a part of it, onto the context's device, to be asked and not trained.

        Raises PlanError where its weights are not all there.
        """
        model, told = self.loaded(factory, dtype=dtype, output_loading_info=True, **options)
        missing = sorted(told["missing_keys"])
        if missing:
            # Left to itself, the library says so and goes on with random numbers in their place.
            raise PlanError(
                Problem(
                    code="FDF373",
                    message=f"`model` of {type(self).__name__}: {self.model} lacks {len(missing)} weights of a "
                    f"{factory}, such as {missing[0]}",
                    help="give the whole model, or what this class of transformers saved",
                )
            )
        return model.to(context.device).eval()


def pixel_tensors(
    images: Images, processor: Any, *, max_aspect: float | None = None
) -> tuple[dict[str, npt.NDArray[Any]], pa.Array]:
    """Return what an image processor makes of images, as tensors with a row each, and an error per image or null.

    A tensor holds only the images that could be decoded, in their order. Where the processor's last step is to
    normalize pixels, this is left to `on_device`: bytes are a quarter of floats on their way there.
    """
    options = {"do_rescale": False, "do_normalize": False} if _normalizes_last(processor) else {}
    errors: list[str | None] = [None] * len(images)
    parts: list[dict[str, npt.NDArray[Any]]] = []
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        some = []
        for row in range(start, min(start + _IMAGES_AT_ONCE, len(images))):
            try:
                some.append(images.no_longer_than(row, max_aspect=max_aspect))
            except BadImage as error:
                errors[row] = str(error)
        if some:
            made = processor(images=some, return_tensors="pt", input_data_format="channels_last", **options)
            parts.append({name: values.numpy() for name, values in made.items()})
    tensors = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    return tensors, pa.array(errors, pa.string())


def on_device(values: Any, model: Any, processor: Any) -> Any:
    """Return a tensor on the model's device, in what it computes in; bytes are normalized as the processor would."""
    import torch

    moved = (values if isinstance(values, torch.Tensor) else torch.from_numpy(values.copy())).to(model.device)
    if moved.dtype == torch.uint8:
        # As transformers does it: mean and deviation scaled, not the pixels.
        mean, deviation = (
            torch.tensor(statistic, dtype=torch.float32, device=model.device).reshape(-1, 1, 1)
            / processor.rescale_factor
            for statistic in (processor.image_mean, processor.image_std)
        )
        moved = (moved.float() - mean) / deviation
    return moved.to(model.dtype) if moved.is_floating_point() else moved


def _normalizes_last(processor: Any) -> bool:
    pads = getattr(processor, "do_pad", None)
    names = list(processor.model_input_names)
    return bool(processor.do_rescale and processor.do_normalize and not pads and names == ["pixel_values"])


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep progress bars and advice of the library off a worker's output while something is loaded."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
