"""The libraries beneath models, imported where they are used, or an error that says what to install."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from fdf.errors import MissingDependency, Problem

_NO_NMS = "operator torchvision::nms does not exist"
_held: list[Any] = []


def require(module: str, *, operator: str, install: str) -> Any:
    """Import and return a module. Raises MissingDependency that names the operator, the module and what to install.

    >>> require("json", operator="Example", install="nothing").loads("1")
    1
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            Problem(
                code="FDF505",
                message=f"operator `{operator}` needs the missing module `{error.name or module}`",
                help=f'pip install "{install}"',
            )
        ) from error


def require_transformers(*, operator: str, install: str) -> tuple[Any, Any]:
    """Import torch and transformers, and torchvision so that transformers can. Raises MissingDependency."""
    torch = require("torch", operator=operator, install=install)
    require_torchvision(operator=operator, install=install)
    return torch, require("transformers", operator=operator, install=install)


def require_torchvision(*, operator: str, install: str) -> Any:
    """Import torchvision, also the index's build of it beside a CPU build of torch. Raises MissingDependency.

    That build cannot load its own kernels there, and then describes operators that do not exist. Their schemas are
    what is missing; with them it imports, and whatever calls one of these kernels fails as it should.
    """
    try:
        return require("torchvision", operator=operator, install=install)
    except RuntimeError as error:
        if str(error) != _NO_NMS:
            raise
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    torch = import_module("torch")
    # The definitions live as long as this object.
    library = torch.library.Library("torchvision", "FRAGMENT")
    _held.append(library)
    for kernel in ("nms", "qnms"):
        library.define(f"{kernel}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return import_module("torchvision")
