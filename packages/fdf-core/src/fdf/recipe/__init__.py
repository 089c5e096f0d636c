"""Recipes: one YAML file in, a frozen `Recipe` out, or every mistake in it at once.

`load` is the way in from YAML, `fdf.Pipeline` from Python. A newcomer reads `grammar` (which keys there are), `model`
(what comes out), then `loading` (the steps between).
"""

from __future__ import annotations

from fdf.recipe.loading import check, load
from fdf.recipe.model import (
    DatasetUse,
    Gate,
    Materialize,
    MixtureUse,
    OperatorUse,
    OutputUse,
    Recipe,
    SourceUse,
    StageUse,
)
from fdf.recipe.pipeline import Pipeline, Step
from fdf.recipe.redact import redact
from fdf.recipe.schema import operator_schema, recipe_schema

__all__ = [
    "DatasetUse",
    "Gate",
    "Materialize",
    "MixtureUse",
    "OperatorUse",
    "OutputUse",
    "Pipeline",
    "Recipe",
    "SourceUse",
    "StageUse",
    "Step",
    "check",
    "load",
    "operator_schema",
    "recipe_schema",
    "redact",
]
