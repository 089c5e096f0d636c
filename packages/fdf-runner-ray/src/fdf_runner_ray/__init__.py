"""Runs FDF tasks on a Ray cluster. `fdf_runner_ray.runner` has the runner."""

from __future__ import annotations

__version__ = "0.1.0"
