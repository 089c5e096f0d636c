"""Stages with models on a cluster: actors that hold them, the serial runner's bytes, and what goes wrong."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

import fdf
from fdf.errors import Cancelled, MissingDependency, StageFailed
from fdf.operator import Resources
from fdf.stage.events import CancelToken
from fdf.testing.models import (
    FILES,
    ROWS,
    ModelConformance,
    noted,
    outcome,
    processes,
    recipe,
    reference,
    step,
    strike_when_asked,
    write_input,
)
from fdf_runner_ray.contacts import ModelContact
from fdf_runner_ray.layout import Layout, Pooled
from fdf_runner_ray.model_host import Kind
from fdf_runner_ray.models import ModelPools


@pytest.mark.timeout(300)
class TestRay(ModelConformance):
    runner = "fdf_runner_ray.runner:RayRunner"

    @pytest.fixture(autouse=True)
    def _on_the_cluster(self, cluster):
        self.options = {"address": cluster.address}
        self.made = []
        yield
        for runner in self.made:
            runner.close()

    def make_runner(self, *, workers):
        self.made.append(super().make_runner(workers=workers))
        return self.made[-1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    write_input(tmp_path)
    return tmp_path


def test_without_a_gpu_one_process_of_a_node_holds_all_models(runner, place):
    fdf.run(recipe(place, step(place), step(place, column="also")), runner=runner(workers=2))
    loaded, prepared = processes(place, "device"), processes(place, "cpu")
    assert list(loaded.values()) == [2]
    assert not loaded.keys() & prepared.keys()


@pytest.fixture
def gpus(nodes, runner):
    """Give a function that runs on a node with GPUs that Ray only counts; what runs there does not look for one."""

    def run(place, *steps, count=1, cpus=4, workers=2, name="out", **options):
        nodes.add_node(num_cpus=cpus, num_gpus=count)
        return fdf.run(
            recipe(place, *steps, name=name), runner=runner(address=nodes.address, workers=workers), **options
        )

    return run


def test_models_that_fit_together_have_actors_of_their_own_on_their_share_of_a_gpu(gpus, place):
    steps = step(place, gpus=0.5, trouble="tells"), step(place, column="also", gpus=0.25, trouble="tells")
    result = gpus(place, *steps)
    loaded = [(column, pid) for column, what, pid, _ in noted(place) if what == "device"]
    assert sorted(column for column, _ in loaded) == ["also", "said"]
    assert len({pid for _, pid in loaded}) == 2
    assert not {pid for _, pid in loaded} & processes(place, "cpu").keys()
    assert [what for _, what, _, _ in noted(place) if what.startswith("visible")] == ["visible:0"] * 2
    assert outcome(result) == reference(place, *steps)


def test_models_that_do_not_fit_together_run_in_turn(gpus, place):
    steps = step(place, gpus=0.5, rows=1), step(place, column="also", gpus=1, rows=1)
    result = gpus(place, *steps)
    assert len(processes(place, "device")) == 1
    assert outcome(result) == reference(place, *steps)


def test_models_in_turn_change_once_for_many_small_splits(gpus, place):
    for number in range(20):
        pq.write_table(pa.table({"n": pa.array([900 + number], pa.int64())}), place / "in" / f"y{number:02}.parquet")
    # As long as a model takes to load it is waited for, so that a slow machine makes few other changes.
    steps = step(place, gpus=0.5, loading=1.0), step(place, column="also", gpus=1, loading=1.0)
    result = gpus(place, *steps)
    assert Counter(what for _, what, _, _ in noted(place))["device"] <= 4
    assert len(result.manifest["outputs"]) == 20 + FILES
    assert outcome(result) == reference(place, *steps)


def test_pool_grows_while_requests_wait_at_all_of_its_actors(gpus, place):
    # Nothing is answered before a second process has loaded the model.
    steps = (step(place, gpus=0.5, rows=1, trouble="wants company"),)
    result = gpus(place, *steps)
    assert len(processes(place, "device")) == 2
    assert len(processes(place, "infer")) == 2
    assert outcome(result) == reference(place, *steps)


def test_nothing_is_asked_of_an_actor_that_still_loads_its_model(gpus, place):
    # The first answers once the second is asked for, and that loads until the first has answered nearly all: with
    # requests at both it would wait for itself.
    steps = (step(place, gpus=0.5, rows=1, trouble="second loads late", row=FILES * ROWS - 8),)
    result = gpus(place, *steps)
    assert [what for _, what, _, _ in noted(place)].count("late") == 1
    assert outcome(result) == reference(place, *steps)


def test_telling_one_host_where_models_are_leaves_the_others_to_be_told():
    pools = ModelPools(Layout(worker=Resources()), settings=None, workers=1)
    pools.changed = True
    assert pools.table() == {}
    assert pools.changed


def test_nobody_takes_the_place_of_an_actor_that_was_to_end():
    pooled = Pooled(kind=Kind(operator_ids=("a",), memory={}), need=Resources(gpus=1))
    pools = ModelPools(Layout(worker=Resources(), pools=(pooled,)), settings=None, workers=1)
    member = ModelContact(actor=None, awaited=None, stopping=True)
    pools._pools[0].members.append(member)
    pools.lost(member)
    assert pools.members == []


def test_model_whose_actor_is_lost_whenever_it_is_loaded_fails_the_stage(runner, place):
    with pytest.raises(
        StageFailed, match=r"6 actors in a row were lost before they had loaded the model of `score.said`"
    ):
        fdf.run(recipe(place, step(place, trouble="setup kills its parent")), runner=runner(workers=1))


VICTIMS = {"host": "ray::Host", "model host": "ray::ModelHost", "process beside one": "fdf_runner_local.worker"}
KILLS = max(4, int(os.environ.get("FDF_SOAK", "0")))
SEED = int(os.environ.get("FDF_SOAK_SEED", "0"))


def running(place, words="ray::ModelHost"):
    """Return the actors of this name, or the processes beside them, that work for this test."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = process.cmdline() or [""]
            # What an actor has started shows the environment that the driver gave it.
            if (line[0].startswith(words) or words in " ".join(line[1:3])) and any(
                p.environ().get("FDF_HOME") == str(place / "home") for p in (process, *process.children())
            ):
                found.append(process)
    return found


@pytest.mark.parametrize("victim", ["actor", "process"])
def test_killed_actor_or_process_of_a_model_costs_nothing_but_time(runner, place, victim):
    slow = step(place, latency=0.1)
    events = []

    def strike():
        if victim == "actor":
            for actor in running(place):
                actor.kill()
        else:
            psutil.Process(next(iter(processes(place, "infer")))).kill()

    strike_when_asked(place, strike)
    result = fdf.run(recipe(place, slow), runner=runner(workers=2), on_event=events.append)
    assert len(processes(place, "device")) == 2
    assert [e for e in events if e.kind == "split_retried"] == []
    (told,) = [e.data for e in events if e.kind == "warning" and "again" in e.data["message"]]
    assert ("its process was killed" if victim == "actor" else "died (SIGKILL)") in told["message"]
    assert told["node"]
    assert outcome(result) == reference(place, slow)


def test_lost_node_of_a_model_is_replaced_by_the_next_that_comes(nodes, lose, runner, place):
    nodes.add_node(num_cpus=1)
    lost = nodes.add_node(num_cpus=1, num_gpus=1)
    slow = step(place, latency=0.1)

    def strike():
        lose(lost)
        nodes.add_node(num_cpus=1, num_gpus=1)

    thread = strike_when_asked(place, strike)
    result = fdf.run(recipe(place, slow), runner=runner(address=nodes.address, workers=1))
    thread.join()
    assert len(processes(place, "device")) == 2
    assert outcome(result) == reference(place, slow)


def test_lost_node_of_a_model_without_a_gpu_is_replaced_by_another_that_is_there(nodes, lose, runner, place):
    there = [nodes.add_node(num_cpus=2) for _ in range(2)]
    slow = step(place, latency=0.1)

    def strike():
        pid = next(iter(processes(place, "infer")))
        (above,) = [p for p in psutil.Process(pid).parents() if "raylet" in p.name()]
        lose(next(node for node in there if node.all_processes["raylet"][0].process.pid == above.pid))

    thread = strike_when_asked(place, strike)
    result = fdf.run(recipe(place, slow), runner=runner(address=nodes.address, workers=2))
    thread.join()
    assert len(processes(place, "device")) == 2
    assert outcome(result) == reference(place, slow)


def test_model_without_a_gpu_goes_to_a_node_that_can_hold_it(nodes, runner, place):
    for size in (1 << 30, 1 << 30, 4 << 30):
        nodes.add_node(num_cpus=1, memory=size)
    large = {**step(place), "resources": {"gpus": 1, "memory": 2 << 30}}
    result = fdf.run(recipe(place, large), runner=runner(address=nodes.address, workers=1))
    assert outcome(result) == reference(place, large)


def test_cancelled_run_leaves_no_socket_of_a_model(runner, place):
    cancel, sockets = CancelToken(), []

    def strike():
        there = psutil.Process(next(iter(processes(place, "infer")))).net_connections("unix")
        sockets.extend(Path(c.laddr) for c in there if c.laddr)
        cancel.cancel()

    strike_when_asked(place, strike)
    with pytest.raises(Cancelled):
        fdf.run(recipe(place, step(place, trouble="hangs", row=100)), runner=runner(workers=1), cancel=cancel)
    assert sockets
    assert not [s for s in sockets if s.parent.exists()]


_DRIVER = """
import json, sys
import fdf
fdf.run(json.loads(sys.argv[1]), runner="ray", workers=2, ray_address=sys.argv[2])
"""


def test_killed_driver_takes_the_actors_of_its_models_along_and_the_run_resumes(cluster, runner, place, eventually):
    slow = step(place, latency=0.5)
    command = [sys.executable, "-c", _DRIVER, json.dumps(recipe(place, slow)), cluster.address]
    with subprocess.Popen(command, cwd=place) as driver:
        eventually(lambda: list((place / "out").rglob("_receipts/**/*.json")), within=60)
        assert running(place)
        driver.kill()
    eventually(lambda: not running(place))
    result = fdf.run(recipe(place, slow), runner=runner(workers=2))
    assert result.manifest["resumed_splits"] >= 1
    assert outcome(result) == reference(place, slow)


def test_model_that_hangs_is_reported_with_its_place_and_node(runner, place):
    cancel = CancelToken()
    told = []

    def on_event(event):
        if event.kind == "warning" and "has been at" in event.data["message"]:
            told.append(event.data)
            cancel.cancel()

    wanted = recipe(place, step(place, trouble="hangs", row=100))
    with pytest.raises(Cancelled):
        fdf.run(wanted, runner=runner(workers=1, stall_after=1.0), on_event=on_event, cancel=cancel)
    assert told[0]["message"].startswith("`score.said` has been at 4 rows for 1 s")
    assert "in misbehave" in told[0]["message"]
    assert told[0]["node"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([{"gpus": 2}], r"the model of `score.a` of stage `only` needs 1 CPUs, 2 GPUs, and no node"),
        ([{"gpus": 1, "memory": 1 << 50}], r"the model of `score.a` .* 1048576.0 GiB of memory, and no node"),
        (
            [{"gpus": 0.5, "cpus": 2}],
            r"at the same time 2 CPUs, 0.5 GPUs for the model of `score.a`; 1 CPUs for a worker",
        ),
    ],
)
def test_models_that_no_node_can_hold_are_refused_before_the_run(gpus, place, asked, says):
    steps = [{**step(place, column=name), "resources": r} for name, r in zip("ab", asked, strict=False)]
    with pytest.raises(MissingDependency, match=says) as raised:
        gpus(place, *steps, cpus=2)
    assert raised.value.exit_code == 4
    assert not (place / "out").exists()


def test_bytes_on_their_way_are_bounded_behind_a_slow_model(runner, place):
    pq.write_table(pa.table({"n": pa.array(range(400), pa.int64())}), place / "in" / "9.parquet", row_group_size=8)
    stop, peak = threading.Event(), []
    watched = runner(workers=2)
    watched._connect()
    whole = ray.cluster_resources()["object_store_memory"]

    def watch():
        while not stop.wait(0.1):
            peak.append(whole - ray.available_resources().get("object_store_memory", whole))

    watcher = threading.Thread(target=watch)
    watcher.start()
    fdf.run(recipe(place, step(place, "Wide", latency=0.02, rows=64)), runner=watched)
    stop.set()
    watcher.join()
    # 400 rows of a megabyte, in two workers that may each have 128 MiB on their way.
    assert 8 << 20 <= max(peak) <= 2 * (128 << 20)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [2, 1], ids=["together", "in turn"])
def test_actors_and_processes_killed_at_any_moment_change_nothing(nodes, runner, place, count):
    splits = 60
    for number in range(splits):
        n = pa.array(range(1000 + number * 6, 1006 + number * 6), pa.int64())
        pq.write_table(pa.table({"n": n}), place / "in" / f"x{number:02}.parquet")
    nodes.add_node(num_cpus=3, num_gpus=count)
    steps = step(place, gpus=0.5, latency=0.02), step(place, column="also", gpus=1, latency=0.02)
    dice = random.Random(SEED)
    moments = sorted(dice.choices(range(1, splits), k=KILLS))
    committed, struck = 0, Counter()

    def on_event(event):
        nonlocal committed
        committed += event.kind == "split_committed"
        while moments and committed >= moments[0]:
            victims = [(kind, p) for kind, words in VICTIMS.items() for p in running(place, words)]
            if not victims:  # The last one is being replaced.
                return
            moments.pop(0)
            kind, victim = dice.choice(victims)
            with suppress(psutil.NoSuchProcess):
                victim.kill()
                struck[kind] += 1

    result = fdf.run(recipe(place, *steps), runner=runner(address=nodes.address, workers=2), on_event=on_event)
    assert sum(struck.values()) >= KILLS - len(moments) > KILLS // 2
    assert len(result.manifest["outputs"]) == splits + FILES
    assert outcome(result) == reference(place, *steps)
