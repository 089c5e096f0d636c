from __future__ import annotations

from fdf.testing.models import ModelConformance
from fdf.testing.runners import RunnerConformance


class TestSerialRunner(RunnerConformance):
    runner = "fdf.runner.serial:SerialRunner"
    isolates = False


class TestModelsInTheDriver(ModelConformance):
    runner = "fdf.runner.serial:SerialRunner"
    isolates = False
