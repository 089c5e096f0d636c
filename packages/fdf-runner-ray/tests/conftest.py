"""One Ray cluster for all tests that need no other: it takes seconds to start."""

from __future__ import annotations

import pytest

from fdf_runner_ray.cluster import LocalCluster, ask_for_tokens


@pytest.fixture(scope="session")
def cluster():
    """A cluster of one node with room for 4 workers, whose token drivers in other processes know too."""
    there = LocalCluster(cpus=4)
    ask_for_tokens(there.auth)
    yield there
    there.close()
