from __future__ import annotations

from fdf.testing.runners import RunnerConformance


class TestForkedWorkers(RunnerConformance):
    runner = "fdf_runner_local:LocalRunner"
    options = {"start": "fork"}  # noqa: RUF012 (the suite declares it)


class TestSpawnedWorkers(RunnerConformance):
    runner = "fdf_runner_local:LocalRunner"
    options = {"start": "spawn"}  # noqa: RUF012
    # What is lost at a commit point does not depend on how workers start.
    test_crash_at_any_commit_point_loses_and_doubles_nothing = None
