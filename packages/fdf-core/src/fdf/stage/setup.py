"""Sets an operator up and tears it down, wherever it runs, and says what went wrong in the words of a run."""

from __future__ import annotations

import logging

from fdf.errors import FdfError, MissingDependency, StageFailed
from fdf.models.devices import gpu_count
from fdf.operator import VERBS, Context, Verb, cache_dir
from fdf.plan.job import Step

_LOG = logging.getLogger("fdf.operator")


def set_up(step: Step, *, seed: int, device: str, verbs: frozenset[Verb] = VERBS) -> None:
    """Set an operator up for these verbs. Raises MissingDependency for a module, StageFailed for anything else."""
    context = Context(
        operator_id=step.id,
        seed=seed,
        cache_dir=cache_dir(),
        device=device,
        verbs=verbs,
        logger=_LOG.getChild(step.id),
    )
    try:
        step.use.operator.setup(context)
    except FdfError:
        raise
    except ModuleNotFoundError as error:
        package = step.use.distribution or "its package"
        raise MissingDependency(
            f"`{step.id}` ({step.use.op}) needs the module `{error.name}`, which is not installed",
            help=f"pip install {(error.name or '').partition('.')[0]}, or the extra of {package} that brings it",
        ) from error
    except Exception as error:
        raise StageFailed(
            f"`{step.id}` ({step.use.op}) could not be set up: {type(error).__name__}: {error}",
            help=f"fdf ops show {step.use.op}",
        ) from error


def tear_down(step: Step) -> None:
    """Tear an operator down. A plugin's mistake at the very end is noted and undoes nothing."""
    try:
        step.use.operator.teardown()
    except Exception:  # noqa: BLE001 (as above)
        _LOG.exception("teardown of `%s` failed", step.id)


def device_of(step: Step, device: str) -> str:
    """Return the device that was asked for; of itself, a GPU for an operator that wants one, where there is one."""
    if device != "auto":
        return device
    return "cuda" if step.use.resources.gpus and gpu_count() else "cpu"
