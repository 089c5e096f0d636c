"""Which GPUs this machine offers, found without loading a GPU library."""

from __future__ import annotations

import os
from pathlib import Path

DEVICES = Path("/dev")


def gpu_count() -> int:
    """Return how many GPUs this process may use: the device files, less what `CUDA_VISIBLE_DEVICES` hides."""
    found = sum(1 for p in DEVICES.glob("nvidia*") if p.name.removeprefix("nvidia").isdigit())
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return found
    return min(found, len([name for name in shown.split(",") if name.strip() not in ("", "-1")]))
