"""What the Ray runner knows of nodes that an autoscaler could bring, and how it has them brought."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray
from ray.core.generated import autoscaler_pb2
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import fdf
from fdf.errors import MissingDependency
from fdf.plan.compile import compile_plan
from fdf.runner.run import load_recipe
from fdf_runner_ray import autoscaler, capacity, pool
from fdf_runner_ray import runner as runner_module
from fdf_runner_ray.autoscaler import Catalog, Kind, brought, catalog_of, configured, left, offer, to_come
from fdf_runner_ray.capacity import Node
from fdf_runner_ray.cluster import AUTH_MODE, QUIET, ask_for_tokens
from fdf_runner_ray.pool import Pool

HEAD_TYPE, HEAD_ID = "ray.head.default", "f" * 51 + "00000"
"""What Ray's provider of pretended machines calls the head."""

# The file of `ray up`; its nodes are started on this machine by the provider that Ray tests its autoscalers with.
CONFIG = {
    "cluster_name": "grows",
    "max_workers": 5,
    "idle_timeout_minutes": 5,
    "upscaling_speed": 1.0,
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "head_node_id": HEAD_ID,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "worker_liveness_check": False,
    },
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    **{f"{which}_commands": [] for which in ("initialization", "setup", "head_setup", "worker_setup")},
    **{f"{which}_start_ray_commands": [] for which in ("head", "worker")},
    "head_node_type": HEAD_TYPE,
    "available_node_types": {
        HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}},
        "gpu": {
            "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 80 << 20},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        },
    },
}


@pytest.fixture
def grows(request, monkeypatch):
    """A cluster of a head without CPUs, to which Ray's autoscaler of a version adds up to 2 nodes: give its address.

    `ray.cluster_utils.AutoscalingCluster` begins and ends with `ray stop --force`, which would end every other
    cluster of the machine, and needs a file that is not in Ray's wheels.
    """
    folder = Path(tempfile.mkdtemp(prefix="fdf-ray-", dir="/tmp"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    version_2 = request.param == "v2"
    provider = CONFIG["provider"] | {"gcs_address": address, "launch_multiple": version_2}
    (folder / "cluster.yaml").write_text(json.dumps(CONFIG | {"provider": provider}))
    environment = os.environ | QUIET | {"RAY_TMPDIR": str(folder)}
    environment |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    if version_2:
        environment |= {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD_ID}
        environment |= {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=0"]
    command += [f"--port={address.partition(':')[2]}", f"--temp-dir={folder}", "--include-dashboard=false"]
    command += ["--object-store-memory=80000000", "--autoscaling-config=cluster.yaml"]
    before = os.environ.get(AUTH_MODE)
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        eventually(lambda: "This command will now block" in (folder / "head.log").read_text())
        # Whether its processes ask for tokens is for `ray start` to decide, and is seen on what it has started.
        ask_for_tokens(psutil.Process(head.pid).children()[0].environ().get(AUTH_MODE))
        yield address
    finally:
        ray.shutdown()
        ask_for_tokens(before)
        there = psutil.Process(head.pid)
        for process in [*there.children(recursive=True), there]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("grows", ["v1", "v2"], indirect=True)
def test_stage_that_no_node_can_hold_makes_the_autoscaler_bring_nodes(grows, runner, recipe, place, monkeypatch):
    monkeypatch.setattr(pool, "WAITING_TOLD", 0.5)
    (place / "my_ops.py").write_text(
        "import os, pathlib, time\n"
        "def tells(batch, *, folder: str = ''):\n"
        "    told = pathlib.Path(folder)\n"
        "    (told / str(os.getpid())).touch()\n"
        "    until = time.monotonic() + 60\n"
        "    while len(list(told.iterdir())) < 2 and time.monotonic() < until:\n"
        "        time.sleep(0.1)\n"
        "    return batch['n'].is_valid()\n"
    )
    (place / "told").mkdir()
    made = runner(address=grows)

    def wanted(gpus, out="out"):
        found = recipe("waits", resources={"gpus": gpus}, out=out)
        found["stages"][0]["operators"][0] |= {"op": f"{place}/my_ops.py:tells", "params": {"folder": f"{place}/told"}}
        return found

    says = r"`only` needs 1 CPUs, 2 GPUs, .*: \S+ \(0 CPUs, 0 GPUs, .* GiB\); its autoscaler could bring 2 like gpu \("
    with pytest.raises(MissingDependency, match=says) as raised:
        fdf.run(wanted(2, out="too_much"), runner=made)
    assert raised.value.exit_code == 4
    assert not (place / "too_much").exists()
    runner(address=grows, device="cuda").check(planned(wanted(1)))

    warnings = []

    def on_event(event):
        if event.kind == "warning":
            warnings.append(event.data["message"])

    result = fdf.run(wanted(1), runner=made, on_event=on_event)
    assert result.to_arrow()["n"].to_pylist() == list(range(12))
    # A node has one GPU: two workers at the same time are two nodes.
    assert len(list((place / "told").iterdir())) == 2
    assert {w.partition(" since ")[0] for w in warnings} == {"waiting"}
    assert warnings[0].endswith("; its autoscaler could bring 2 like gpu (2 CPUs, 1 GPUs)")

    (other, _) = [node["NodeID"] for node in ray.nodes() if "CPU" in node["Resources"]]
    assert to_come() == []
    assert left(ray.get(catalog_seen_on(other), timeout=60), []) == [kind("gpu", cpus=2, gpus=1, most=2)]


def catalog_seen_on(node):
    """Have a node that is not the head read the catalog."""

    def read():
        assert ray.get_runtime_context().get_node_id() == node
        return autoscaler._catalog(capacity.nodes())

    placed = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0)(read).options(scheduling_strategy=placed).remote()


def test_node_types_that_a_platform_reports_count(nodes, runner, recipe, monkeypatch):
    nodes.add_node(num_cpus=1)
    asking = runner(address=nodes.address)
    plan = planned(recipe("waits", resources={"cpus": 8, "gpus": 4}))
    ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
    assert to_come() == []
    with pytest.raises(MissingDependency, match="no node of the cluster can be that large"):
        asking.check(plan)
    told = autoscaler_pb2.ClusterConfig()
    told.node_group_configs.add(name="large", resources={"CPU": 8, "GPU": 4, "memory": 64 << 30}, max_count=-1)
    told.node_group_configs.add(name="full", resources={"CPU": 1}, max_count=1)
    told.node_group_configs.add(name="head", resources={"CPU": 0}, max_count=1)
    ray._private.worker.global_worker.gcs_client.report_cluster_config(told.SerializeToString())
    autoscaler._read.at = 0.0
    assert to_come() == [kind("large", cpus=8, gpus=4, memory=64 << 30, most=None)]
    asking.check(plan)
    monkeypatch.setattr(autoscaler, "_reported", lambda _: None)
    autoscaler._read.at -= 2 * autoscaler.FRESH
    assert [k.name for k in to_come()] == ["large"]


def test_cluster_without_an_autoscaler_and_another_version_of_ray_bring_nothing(cluster, runner, monkeypatch):
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    try:
        assert to_come() == []
        monkeypatch.delattr(type(ray._private.state.state), "get_cluster_config")
        monkeypatch.setattr(autoscaler.psutil, "process_iter", lambda _: [object()])
        autoscaler._read.at = 0.0
        assert to_come() == []
    finally:
        ray.shutdown()


# In the form of KubeRay's API reference (ray.io/v1 RayCluster); what a container may use becomes what its node has.
def group(name, *, cpus, memory, gpus=0, **more):
    limits = {"cpu": cpus, "memory": memory} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    template = {"spec": {"containers": [{"name": "ray", "resources": {"limits": limits}}]}}
    return {"groupName": name, "rayStartParams": {}, "template": template, **more}


@pytest.mark.parametrize("enabled", [True, False])
def test_groups_of_a_raycluster_count_where_kuberay_scales_it(monkeypatch, enabled):
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    workers = [
        group("small", cpus="2", memory="4Gi", minReplicas=1, maxReplicas=3),
        group("gpu", cpus="8", memory="32Gi", gpus=4, minReplicas=0, maxReplicas=10),
    ]
    spec = {"headGroupSpec": group("", cpus="1", memory="2Gi"), "workerGroupSpecs": workers}
    answer = {
        "metadata": {"name": "mine", "namespace": "team"},
        "spec": spec | {"enableInTreeAutoscaling": enabled},
    }
    asked = []
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("RAY_CLUSTER_NAME", "mine")
    monkeypatch.setenv("RAY_CLUSTER_NAMESPACE", "team")
    monkeypatch.setattr(
        KubernetesHttpApiClient, "get", lambda self, path: asked.append((self._namespace, path)) or answer
    )
    found = left(configured("/nowhere"), [node("head", cpus=1, head=True), node("a", cpus=2), node("b", cpus=2)])
    assert asked == [("team", "rayclusters/mine")]
    assert found == (
        [
            kind("small", cpus=2, memory=4 << 30, most=1),
            kind("gpu", cpus=8, gpus=4, memory=32 << 30, most=10),
        ]
        if enabled
        else []
    )


def test_limits_that_a_configuration_leaves_out_are_those_of_ray():
    config = {
        "max_workers": 4,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 16}},
            "plain": {"resources": {"CPU": 4}},
            "few": {"resources": {"CPU": 8, "memory": 1 << 30}, "max_workers": 1},
            "not known yet": {"resources": {}, "max_workers": 9},
        },
    }
    assert catalog_of(config).most == 4
    assert {k.name: k.most for k in catalog_of(config).kinds} == {"head": 0, "plain": 4, "few": 1}
    assert {k.name: k.most for k in left(catalog_of(config), [])} == {"plain": 4, "few": 1}


@pytest.mark.parametrize(
    ("living", "plain", "large"),
    [
        ([], 3, None),
        ([{"cpus": 4}], 2, None),
        ([{"cpus": 4, "head": True}], 3, None),
        ([{"cpus": 64, "kind": "plain"}], 2, None),
        ([{"cpus": 4, "kind": "large"}], 3, None),
        ([{"cpus": 4}, {"cpus": 4}, {"cpus": 4}], 0, None),
    ],
)
def test_nodes_that_are_there_are_no_longer_to_come(living, plain, large):
    catalog = Catalog(kinds=[kind("plain", cpus=4, most=3), kind("large", cpus=64, most=None)])
    found = {k.name: k.most for k in left(catalog, [node(str(n), **one) for n, one in enumerate(living)])}
    assert found == ({"plain": plain} if plain else {}) | {"large": large}


def test_limit_on_all_nodes_limits_each_type():
    catalog = Catalog(kinds=[kind("plain", cpus=4, most=3), kind("large", cpus=64, most=None)], most=3)
    living = [node("a", cpus=4), node("b", cpus=2)]
    assert {k.name: k.most for k in left(catalog, living)} == {"plain": 1, "large": 1}
    assert left(catalog, [*living, node("c", cpus=2)]) == []


@pytest.mark.parametrize(
    ("kinds", "living", "found"),
    [
        ([], 3, {}),
        ([("plain", 4, 2)], 1, {"plain": 2}),
        # Without a limit as many nodes of a type as Ray starts at a time: 5, or as many as there are.
        ([("plain", 4, None)], 1, {"plain": 5}),
        ([("plain", 4, None)], 30, {"plain": 30}),
        ([("plain", 4, 1000), ("large", 16, 2)], 1, {"plain": 5, "large": 2}),
    ],
)
def test_actors_wait_for_as_many_nodes_as_come_at_a_time(monkeypatch, kinds, living, found):
    catalog = Catalog(kinds=[kind(name, cpus=cpus, most=most) for name, cpus, most in kinds])
    monkeypatch.setattr(autoscaler, "nodes", lambda: [node(str(n), cpus=2) for n in range(living)])
    monkeypatch.setattr(autoscaler, "_catalog", lambda _: catalog)
    assert Counter(k.name for k in brought()) == found


def test_what_could_come_is_told_with_its_number():
    assert offer([]) == ""
    assert offer([kind("a", cpus=2, memory=1 << 30, most=3), kind("b", cpus=1, gpus=0.5, most=None)]) == (
        "; its autoscaler could bring 3 like a (2 CPUs, 0 GPUs, 1.0 GiB), any number like b (1 CPUs, 0.5 GPUs)"
    )


def test_host_waits_for_room_no_longer_than_a_task_waits_for_it(nodes, runner, recipe, monkeypatch):
    nodes.add_node(num_cpus=1)
    surplus = []

    class Watched(Pool):
        def _turn(self):
            surplus.append(sum(host.introduction is None for host in self._hosts) - len(self._waiting))
            super()._turn()

    monkeypatch.setattr(runner_module, "Pool", Watched)
    result = fdf.run(recipe("waits"), runner=runner(address=nodes.address, workers=3))
    assert result.to_arrow()["n"].to_pylist() == list(range(12))
    assert max(surplus) == 0


def planned(recipe):
    return compile_plan(load_recipe(recipe))


def kind(name, *, cpus, gpus=0, memory=0, most):
    return Kind(name=name, cpus=cpus, gpus=gpus, memory=memory, most=most)


def node(name, *, cpus, **more):
    return Node(id=name, host=name, cpus=cpus, gpus=0, memory=8 << 30, **more)


def eventually(holds, within=30.0):
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
