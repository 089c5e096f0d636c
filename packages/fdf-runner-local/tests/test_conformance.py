from __future__ import annotations

from fdf.testing.runners import RunnerConformance


class TestForkedWorkers(RunnerConformance):
    runner = "fdf_runner_local:LocalRunner"
    options = {"start": "fork"}  # noqa: RUF012 (the suite declares it)


class TestSpawnedWorkers(RunnerConformance):
    runner = "fdf_runner_local:LocalRunner"
    options = {"start": "spawn"}  # noqa: RUF012
