"""Whether the devices that were asked for are there, and what is said where models make do with the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fdf.errors import MissingDependency, Problem
from fdf.models.devices import gpu_count

if TYPE_CHECKING:
    from fdf.plan.job import Step
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


def check_gpus(steps: Sequence[Step], gpus: int) -> None:
    """Refuse an operator that wants more GPUs than there are. Without any the CPU runs it. Raises MissingDependency."""
    problems = [
        Problem(
            code="FDF513",
            message=f"`{step.id}` asks for {step.use.resources.gpus:g} GPUs, but this machine offers {gpus}",
            help="lower `resources.gpus`, or run on a machine with more",
        )
        for step in steps
        if gpus and step.use.resources.gpus > gpus
    ]
    if problems:
        raise MissingDependency(*problems)
