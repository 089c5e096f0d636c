"""Runs FDF tasks in worker processes on one machine. `LocalRunner` is loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdf_runner_local.runner import LocalRunner as LocalRunner

__version__ = "0.1.0"
__all__ = ["LocalRunner"]


def __getattr__(name: str) -> Any:
    if name == "LocalRunner":
        from fdf_runner_local.runner import LocalRunner

        return LocalRunner
    raise AttributeError(f"module 'fdf_runner_local' has no attribute {name!r}")
