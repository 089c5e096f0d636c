from __future__ import annotations

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("module", ["normalize", "statistics", "word_count", "words"])
def test_examples_in_docstrings_run(module):
    failed, attempted = doctest.testmod(import_module(f"fdf_ops_text.{module}"))
    assert attempted
    assert not failed
