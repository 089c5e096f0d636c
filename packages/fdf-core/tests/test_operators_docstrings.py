from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = (
    "exactsum", "functions", "histogram", "operator", "predicate", "typename", "operators.cast_columns",
    "operators.expression", "operators.passthrough", "operators.rename_columns", "operators.sample",
    "operators.select_columns", "operators.threshold",
)  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module):
    failed, attempted = doctest.testmod(import_module(f"fdf.{module}"))
    assert attempted
    assert not failed
