from __future__ import annotations

from fdf.testing.runners import RunnerConformance
from fdf_runner_local import LocalRunner


class TestForkedWorkers(RunnerConformance):
    registered = "local"

    def make_runner(self, *, workers):
        return LocalRunner(workers=workers, start="fork")


class TestSpawnedWorkers(RunnerConformance):
    registered = "local"

    def make_runner(self, *, workers):
        return LocalRunner(workers=workers, start="spawn")
