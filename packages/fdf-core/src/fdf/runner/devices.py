"""Whether the device that was asked for is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fdf.errors import MissingDependency, Problem
from fdf.models.devices import gpu_count

if TYPE_CHECKING:
    from fdf.plan.model import Plan


def without_gpu(plan: Plan, *, device: str) -> str | None:
    """Say which operators that ask for a GPU will run on the CPU of this machine; None where none will."""
    if device != "auto" or gpu_count():
        return None
    ids = [f"`{step.id}`" for stage in plan.stages for step in stage.job.steps if step.use.resources.gpus]
    return f"this machine offers no GPU, so that {', '.join(ids)} will run on its CPU" if ids else None


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
