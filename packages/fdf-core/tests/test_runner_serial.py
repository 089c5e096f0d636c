from __future__ import annotations

from fdf.testing.runners import RunnerConformance


class TestSerialRunner(RunnerConformance):
    runner = "fdf.runner.serial:SerialRunner"
    isolates = False
