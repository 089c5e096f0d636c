"""FoundationDataFactory: one YAML recipe in, a training-ready dataset out.

Names are loaded when first used, so that `import fdf` and `fdf --help` stay instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdf.errors import FdfError as FdfError
    from fdf.errors import TransientError as TransientError
    from fdf.functions import evaluator as evaluator
    from fdf.functions import filter as filter
    from fdf.functions import generator as generator
    from fdf.functions import refiner as refiner
    from fdf.functions import score as score
    from fdf.hooks import hookimpl as hookimpl
    from fdf.operator import Context as Context
    from fdf.operator import Evaluator as Evaluator
    from fdf.operator import Expansion as Expansion
    from fdf.operator import Filter as Filter
    from fdf.operator import Generator as Generator
    from fdf.operator import Refiner as Refiner
    from fdf.operator import Resources as Resources
    from fdf.operator import Score as Score
    from fdf.recipe.pipeline import Pipeline as Pipeline
    from fdf.recipe.pipeline import Step as Step
    from fdf.runner.result import RunResult as RunResult
    from fdf.runner.run import run as run
    from fdf.training.dataset import MixtureDataset as MixtureDataset
    from fdf.verdict import Rule as Rule
    from fdf.verdict import Verdict as Verdict
    from fdf.verdict import above as above
    from fdf.verdict import below as below

__version__ = "0.1.0"

_HOMES = {
    "FdfError": "fdf.errors",
    "TransientError": "fdf.errors",
    "Context": "fdf.operator",
    "Evaluator": "fdf.operator",
    "Expansion": "fdf.operator",
    "Filter": "fdf.operator",
    "Generator": "fdf.operator",
    "MixtureDataset": "fdf.training.dataset",
    "Refiner": "fdf.operator",
    "Resources": "fdf.operator",
    "Score": "fdf.operator",
    "Pipeline": "fdf.recipe.pipeline",
    "Step": "fdf.recipe.pipeline",
    "Rule": "fdf.verdict",
    "RunResult": "fdf.runner.result",
    "Verdict": "fdf.verdict",
    "above": "fdf.verdict",
    "below": "fdf.verdict",
    "evaluator": "fdf.functions",
    "filter": "fdf.functions",
    "generator": "fdf.functions",
    "refiner": "fdf.functions",
    "score": "fdf.functions",
    "hookimpl": "fdf.hooks",
    "run": "fdf.runner.run",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fdf' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
