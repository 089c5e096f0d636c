from __future__ import annotations

import pytest

from fdf.testing.runners import RunnerConformance


@pytest.mark.timeout(300)  # Each test starts processes of Ray's, some a cluster.
class TestRay(RunnerConformance):
    runner = "fdf_runner_ray.runner:RayRunner"

    @pytest.fixture(autouse=True)
    def _on_the_cluster(self, cluster, request):
        """Use the cluster that is there; but where no process may be left, one of the run's own."""
        self.made = []
        if request.function.__name__ != "test_killed_driver_leaves_no_process":
            self.options = {"address": cluster.address}
        yield
        for runner in self.made:
            runner.close()

    def make_runner(self, *, workers):
        runner = super().make_runner(workers=workers)
        self.made.append(runner)
        return runner
