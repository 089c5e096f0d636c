"""One Ray cluster for all tests that need no other, as it takes seconds to start; and what else several tests use."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from fdf.testing import troublemakers
from fdf_runner_ray.cluster import QUIET, LocalCluster, ask_for_tokens
from fdf_runner_ray.runner import RayRunner


@pytest.fixture(scope="session")
def cluster():
    """A cluster of one node with room for 4 workers, whose token drivers in other processes know too."""
    there = LocalCluster(cpus=4)
    ask_for_tokens(there.auth)
    yield there
    there.close()


@pytest.fixture
def runner(cluster):
    """Give a function that makes runners, on the shared cluster where nothing else is said."""
    made = []

    def make(**options):
        made.append(RayRunner(**{"address": cluster.address} | options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def nodes(cluster, monkeypatch):
    """A cluster of several nodes on this machine: a head without CPUs, to which a test adds others that it can kill."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    folder = tempfile.mkdtemp(prefix="fdf-ray-", dir="/tmp")
    # A lost node is noticed within a second instead of a quarter of a minute.
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 200, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "temp_dir": folder, "include_dashboard": False, "_system_config": soon}
    there = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
    yield there
    ray.shutdown()
    there.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lose(nodes):
    """Give a function that kills everything on a node at once, as a power cut does; Ray leaves workers a moment."""

    def strike(node):
        (raylet,) = node.all_processes["raylet"]
        there = psutil.Process(raylet.process.pid)
        for process in [*there.children(recursive=True), there]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        nodes.remove_node(node, allow_graceful=False)

    return strike


@pytest.fixture
def eventually():
    """Give a function that waits until something holds."""

    def wait(holds, within=20.0):
        deadline = time.monotonic() + within
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    return wait


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to run in, with 12 rows in 3 files."""
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for number in range(3):
        pq.write_table(pa.table({"n": range(number * 4, number * 4 + 4)}), tmp_path / "in" / f"{number}.parquet")
    return tmp_path


@pytest.fixture
def recipe(place):
    """Give a function that returns a recipe of one stage with one troublemaker."""

    def make(operator, *, out="out", resources=None, **params):
        step = {"id": "trouble", "kind": "filter", "op": f"{troublemakers.__file__}:{operator}", "params": params}
        if resources:
            step["resources"] = resources
        return {
            "name": "cluster",
            "input": {"type": "parquet", "path": str(place / "in" / "*.parquet")},
            "stages": [{"name": "only", "materialize": {"path": str(place / out)}, "operators": [step]}],
        }

    return make
