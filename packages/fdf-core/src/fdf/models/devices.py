"""Which GPUs this machine offers, found without loading a GPU library."""

from __future__ import annotations

import os
from pathlib import Path

DEVICES = Path("/dev")
DRIVER = Path("/proc/driver/nvidia/gpus")


def gpu_count() -> int:
    """Return how many GPUs this process may use: the device files, less what `CUDA_VISIBLE_DEVICES` hides."""
    found = sum(1 for p in DEVICES.glob("nvidia*") if p.name.removeprefix("nvidia").isdigit())
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return found
    return min(found, len([name for name in shown.split(",") if name.strip() not in ("", "-1")]))


def gpu_names() -> list[str]:
    """Return what the driver calls this machine's GPUs, such as ``NVIDIA H100 80GB HBM3``; none where it tells none."""
    found = []
    for folder in sorted(DRIVER.glob("*")):
        try:
            lines = (folder / "information").read_text().splitlines()
        except OSError:
            continue
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return found
