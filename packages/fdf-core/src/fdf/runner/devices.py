"""Whether the device that was asked for is there."""

from __future__ import annotations

from fdf.errors import MissingDependency, Problem
from fdf.models.devices import gpu_count


def check_device(device: str) -> None:
    """Refuse `--device cuda` where there is no GPU. Raises MissingDependency (exit code 4)."""
    if device == "cuda" and gpu_count() == 0:
        raise MissingDependency(
            Problem(
                code="FDF512",
                message="`--device cuda` was asked for, but this machine offers no GPU",
                help="leave `--device` out to run models on the CPU, or look at CUDA_VISIBLE_DEVICES",
            )
        )
