from __future__ import annotations

from fdf.runner.serial import SerialRunner
from fdf.testing.runners import RunnerConformance


class TestSerialRunner(RunnerConformance):
    registered = "serial"
    isolates = False

    def make_runner(self, *, workers):
        return SerialRunner(workers=workers)
