"""Optional libraries: imported where an operator needs them, or an error that says what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fdf.errors import MissingDependency, Problem


def require(module: str, *, operator: str, extra: str) -> Any:
    """Import and return a module that an extra of this package brings.

    Raises MissingDependency that names the operator, the module and the command that installs it.

    >>> require("json", operator="Example", extra="none").loads("1")
    1
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise missing(error.name or module, operator=operator, extra=extra) from error


def missing(module: str, *, operator: str, extra: str) -> MissingDependency:
    """Return the error for a module that is not there, with the command that installs it."""
    return MissingDependency(
        Problem(
            code="FDF505",
            message=f"operator `{operator}` of `fdf-ops-text` needs the missing module `{module}`",
            help=f'pip install "fdf-ops-text[{extra}]"',
        )
    )
