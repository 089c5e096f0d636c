"""What the Ray runner asks of a cluster, and what it leaves behind."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import psutil
import pytest
import ray

import fdf
from fdf.errors import MissingDependency, PlanError
from fdf.operator import Resources
from fdf.plan.task import SplitKey, StageRef, Task
from fdf.runner.run import open_runner
from fdf.runner.serial import SerialRunner
from fdf.stage.events import CancelToken
from fdf_runner_ray import cluster as cluster_module
from fdf_runner_ray import station
from fdf_runner_ray.capacity import Node
from fdf_runner_ray.runner import RayRunner


def bytes_of(result):
    files = result.manifest["outputs"]
    return {"id": result.manifest["id"], **{f["path"]: Path(result.path, f["path"]).read_bytes() for f in files}}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_command_on_a_cluster_of_its_own_leaves_nothing_behind_and_says_nothing_but_events(recipe, place, eventually):
    flag = place / "go"
    (place / "recipe.json").write_text(json.dumps(recipe("waits", row=4, flag=str(flag))))
    before = set(Path("/tmp").glob("fdf-ray-*"))
    command = [Path(sys.executable).parent / "fdf", "run", "recipe.json", "--runner", "ray", "--workers", "2", "--json"]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as interrupted:
        eventually(lambda: len(list((place / "out").rglob("_receipts/**/*.json"))) == 2, within=60)
        interrupted.send_signal(signal.SIGINT)
        said = [json.loads(line) for line in interrupted.communicate()[0].splitlines()]
    assert (interrupted.returncode, said[-1]["status"]) == (130, "interrupted")
    flag.touch()
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [s["event"] for s in (said[0], said[-1])] == ["run_started", "result"]
    assert said[-1]["exit_code"] == 0
    assert done.stderr == ""
    assert [folder for folder in Path("/tmp").glob("fdf-ray-*") if folder not in before and not in_use(folder)] == []
    mark = str(place)
    assert not [
        p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("FDF_HOME", "/")[:-5] == mark
    ]
    assert [p.name for p in (place / "out").iterdir() if p.name.startswith(".")] == []
    manifest = json.loads((place / "out" / "manifest.json").read_text())
    assert manifest["resumed_splits"] == 2
    serial = fdf.run(recipe("waits", out="serial", row=4, flag=str(flag)), runner=SerialRunner())
    assert manifest["id"] == serial.manifest["id"]


def test_programs_own_signal_handlers_and_process_group_stay(runner, recipe):
    def mine(number, frame):
        raise AssertionError

    group, kept = os.getpgrp(), signal.signal(signal.SIGTERM, mine)
    try:
        fdf.run(recipe("waits"), runner=runner(workers=1))
        assert signal.getsignal(signal.SIGTERM) is mine
        assert os.getpgrp() == group
    finally:
        signal.signal(signal.SIGTERM, kept)


def test_connection_that_the_program_made_is_used_and_kept(cluster, recipe):
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    try:
        job = ray.get_runtime_context().get_job_id()
        made = RayRunner(workers=1)
        fdf.run(recipe("waits"), runner=made)
        made.close()
        assert ray.get_runtime_context().get_job_id() == job
    finally:
        ray.shutdown()


def test_runners_of_one_process_share_its_connection(runner, recipe):
    first, second = runner(workers=1), runner(workers=1)
    fdf.run(recipe("waits"), runner=first)
    fdf.run(recipe("waits", out="other"), runner=second)
    first.close()
    assert ray.is_initialized()
    with pytest.raises(PlanError, match="already runs on the Ray cluster at"):
        runner(address="127.0.0.1:1").check(None)
    second.close()
    assert not ray.is_initialized()


def test_killed_host_costs_one_attempt(cluster, runner, recipe, place):
    flag = place / "go"
    retried = []

    def on_event(event):
        if event.kind == "split_started" and not flag.exists():
            for process in hosts(cluster):
                process.kill()
            flag.touch()
        if event.kind == "split_retried":
            retried.append(event.data)

    wanted = recipe("waits", row=0, flag=str(flag))
    result = fdf.run(wanted, runner=runner(workers=2), on_event=on_event)
    assert result.to_arrow()["n"].to_pylist() == list(range(12))
    assert {(r["cause"], r["attempt"]) for r in retried} == {("killed", 2)}
    assert all("its process" in r["detail"] and r["node"] for r in retried)
    # One that was killed before its split began is no event, yet an attempt.
    assert result.manifest["retries"] >= len(retried) >= 1


def test_split_that_keeps_losing_its_host_fails_the_stage(runner, recipe, place):
    (place / "my_ops.py").write_text(
        "import os, signal\ndef kills_its_host(batch):\n    os.kill(os.getppid(), signal.SIGKILL)\n    signal.pause()\n"
    )
    wanted = recipe("waits")
    wanted["stages"][0]["operators"][0] |= {"op": f"{place}/my_ops.py:kills_its_host", "params": {}}
    with pytest.raises(fdf.errors.StageFailed, match=r"workers died 6 times on split .*its process was killed"):
        fdf.run(wanted, runner=runner(workers=1))


def test_split_without_progress_is_reported_with_its_place_and_node(runner, recipe, place):
    flag = place / "go"
    stalls = []

    def on_event(event):
        # A worker that is slow to start makes no progress either.
        if event.kind == "split_stalled" and "in waits" in event.data["where"]:
            stalls.append(event.data)
            flag.touch()

    result = fdf.run(
        recipe("waits", row=6, flag=str(flag)), runner=runner(workers=1, stall_after=1.0), on_event=on_event
    )
    assert result.manifest["counts"]["rows_out"] == 12
    assert stalls[0]["name"].endswith("1.parquet")
    assert stalls[0]["node"] == socket.gethostname()


def test_run_goes_on_with_the_hosts_that_there_is_room_for(nodes, runner, recipe):
    nodes.add_node(num_cpus=1)
    result = fdf.run(recipe("waits"), runner=runner(address=nodes.address, workers=3))
    assert result.to_arrow()["n"].to_pylist() == list(range(12))


_DRIVER = """
import json, sys
import fdf
fdf.run(json.loads(sys.argv[1]), runner="ray", workers=2, ray_address=sys.argv[2])
"""


def test_killed_driver_takes_its_hosts_from_a_shared_cluster_and_the_run_resumes(
    cluster, runner, recipe, place, eventually
):
    flag = place / "go"
    wanted = recipe("waits", row=8, flag=str(flag))
    command = [sys.executable, "-c", _DRIVER, json.dumps(wanted), cluster.address]
    with subprocess.Popen(command, cwd=place) as driver:
        eventually(lambda: len(list((place / "out").rglob("_receipts/**/*.json"))) == 2)
        assert hosts(cluster)
        driver.kill()
    eventually(lambda: not hosts(cluster))
    flag.touch()
    result = fdf.run(wanted, runner=runner(workers=2))
    assert result.manifest["resumed_splits"] == 2
    assert bytes_of(result) == bytes_of(fdf.run(recipe("waits", out="s", row=8, flag=str(flag)), runner=SerialRunner()))


def test_operators_of_the_recipes_own_file_need_no_file_on_the_nodes(runner, recipe, place):
    file = place / "my_ops.py"
    file.write_text(
        "import pyarrow.compute as pc\ndef is_even(batch):\n    return pc.equal(pc.bit_wise_and(batch['n'], 1), 0)\n"
    )
    wanted = recipe("waits")
    wanted["stages"][0]["operators"][0] |= {"op": f"{file}:is_even", "params": {}}

    def on_event(event):
        if event.kind == "stage_started":
            file.unlink()

    result = fdf.run(wanted, runner=runner(workers=2), on_event=on_event)
    assert result.to_arrow()["n"].to_pylist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"cpus": 64}, r"a worker \(`trouble`\) of stage `only` needs 64 CPUs, .*: \S+ \(4 CPUs, \S+ GPUs, .* GiB\)"),
        ({"memory": 1 << 50}, r"\(`trouble`\) .* 1048576.0 GiB of memory, and"),
    ],
)
def test_request_that_no_node_can_satisfy_is_refused_before_the_run(runner, recipe, place, asked, says):
    with pytest.raises(MissingDependency, match=says) as raised:
        fdf.run(recipe("waits", resources=asked), runner=runner(workers=1))
    assert raised.value.exit_code == 4
    assert not (place / "out").exists()


def test_models_run_on_the_cpu_where_no_node_has_a_gpu_and_that_is_said_once(runner, recipe):
    warnings = []

    def on_event(event):
        if event.kind == "warning":
            warnings.append(event.data["message"])

    wanted = recipe("waits", resources={"gpus": 0.5})
    wanted["stages"].append({**recipe("waits", resources={"gpus": 1}, out="second")["stages"][0], "name": "second"})
    wanted["stages"][1]["operators"][0]["id"] = "again"
    fdf.run(wanted, runner=runner(workers=1), on_event=on_event)
    assert warnings == ["no node of the cluster has a GPU: models run on the CPU"]


def test_gpu_is_refused_where_no_node_has_one(runner, recipe):
    with pytest.raises(MissingDependency, match=r"`--device cuda` .* no GPU: it has \S+ \(4 CPUs, 0 GPUs"):
        fdf.run(recipe("waits"), runner=runner(device="cuda"))


def test_part_of_a_gpu_is_shared_by_as_many_workers_as_fit(nodes, runner, recipe, place):
    nodes.add_node(num_cpus=4, num_gpus=1)
    (place / "my_ops.py").write_text(
        "import os, pathlib, time\n"
        "def tells(batch, *, folder: str = ''):\n"
        "    pathlib.Path(folder, str(os.getpid())).write_text(os.environ.get('CUDA_VISIBLE_DEVICES', 'none'))\n"
        "    time.sleep(1)\n"
        "    return batch['n'].is_valid()\n"
    )
    (place / "told").mkdir()
    wanted = recipe("waits", resources={"gpus": 0.5})
    wanted["stages"][0]["operators"][0] |= {"op": f"{place}/my_ops.py:tells", "params": {"folder": f"{place}/told"}}
    fdf.run(wanted, runner=runner(address=nodes.address))
    assert [p.read_text() for p in (place / "told").iterdir()] == ["0", "0"]
    too_much = recipe("waits", resources={"gpus": 2}, out="other")
    with pytest.raises(MissingDependency, match=r"\(`trouble`\) of stage `only` needs 1 CPUs, 2 GPUs"):
        fdf.run(too_much, runner=runner(address=nodes.address))


@pytest.mark.parametrize(
    ("need", "fits"),
    [
        (Resources(cpus=1), 8),
        (Resources(cpus=3), 2),
        (Resources(cpus=0.5, gpus=0.1), 16),
        (Resources(cpus=0, gpus=0.1), 20),
        (Resources(cpus=1, memory=5 << 30), 3),
        (Resources(cpus=9), 0),
        (Resources(cpus=0), 1),
    ],
)
def test_node_holds_as_many_workers_as_its_scarcest_resource_allows(need, fits):
    assert Node(id="a", host="h", cpus=8, gpus=2, memory=16 << 30).slots(need) == fits


def test_address_asks_for_the_ray_runner(cluster):
    assert open_runner(None, ray_address=cluster.address).name == "ray"
    with pytest.raises(PlanError, match="runner `serial` uses none"):
        open_runner("serial", ray_address=cluster.address)


def test_ray_client_is_refused_with_the_way_out(runner):
    with pytest.raises(PlanError, match="ray job submit"):
        runner(address="ray://somewhere:10001").check(None)


def test_cluster_that_cannot_be_reached_is_named(runner, monkeypatch):
    def refuse(**options):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(cluster_module.ray, "init", refuse)
    with pytest.raises(MissingDependency, match=r"no Ray cluster .* at nowhere:6379: nobody answers") as raised:
        runner(address="nowhere:6379").check(None)
    assert raised.value.exit_code == 4


def test_node_that_does_not_share_the_drivers_files_stops_the_run(runner, recipe, monkeypatch):
    from fdf_runner_ray import runner as runner_module

    monkeypatch.setattr(runner_module, "local_path", lambda root: f"{root}/elsewhere")
    real = Path.touch
    monkeypatch.setattr(Path, "touch", lambda self, **k: None if self.name.startswith(".fdf-ray-") else real(self, **k))
    with pytest.raises(MissingDependency, match="does not see the files that this driver writes to"):
        fdf.run(recipe("waits"), runner=runner(workers=1))


def test_host_that_cannot_work_with_the_driver_says_so(monkeypatch):
    monkeypatch.setattr(station, "MARK_PATIENCE", 0.0)
    assert station.sees(None)
    assert not station.sees("/nowhere/mark")


def test_no_workers_are_refused():
    with pytest.raises(PlanError, match="0 workers"):
        RayRunner(workers=0)


def test_nothing_to_do_connects_to_nothing(runner):
    runner(workers=1).run(iter(()), lambda _: None, CancelToken())
    assert not ray.is_initialized()


def test_bug_is_told_with_its_traceback(runner):
    task = Task(key=SplitKey.of("a", "b", "c"), stage=StageRef(name="s", digest="d", payload=b""), inputs=())
    with pytest.raises(fdf.errors.FdfError, match=r"(?s)EOFError: Ran out of input.*Traceback") as raised:
        runner(workers=1).run(iter([task]), lambda _: None, CancelToken())
    assert raised.value.exit_code == 70


def test_module_that_a_node_lacks_is_named(runner):
    stage = StageRef(name="first", digest="d", payload=b"cnowhere_module\nThing\n.")
    task = Task(key=SplitKey.of("a", "b", "c"), stage=stage, inputs=())
    with pytest.raises(MissingDependency, match=r"stage `first` needs the module `nowhere_module`, .* not installed"):
        runner(workers=1).run(iter([task]), lambda _: None, CancelToken())


class Elsewhere:
    """What is pickled as a thing of a module that only the driver has."""

    location = "there"

    def __reduce__(self):
        return import_module, ("nowhere_module",)


def test_task_that_a_node_cannot_read_names_what_it_lacks(runner):
    stage = StageRef(name="first", digest="d", payload=b"")
    task = Task(key=SplitKey.of("a", "b", "c"), stage=stage, inputs=(Elsewhere(),))
    with pytest.raises(MissingDependency, match=r"node \S+ has no module `nowhere_module`"):
        runner(workers=1).run(iter([task]), lambda _: None, CancelToken())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_real_pages_give_the_bytes_of_the_serial_and_the_local_runner(runner, real_data, place):
    files = sorted((real_data / "web_mdn").glob("mdn-0000[0-3]-of-*.jsonl.gz"))
    pages = 0
    for file in files:
        with gzip.open(file) as lines:
            pages += sum(1 for _ in lines)

    def wanted(name):
        operators = [
            {"id": "normal", "kind": "refiner", "op": "NormalizeText"},
            {"id": "quality", "kind": "score", "op": "TextQualityScorer"},
            {
                "id": "good",
                "kind": "filter",
                "op": "ThresholdFilter",
                "params": {"field": "text_quality_score", "ge": 0.6},
            },
        ]
        return {
            "name": "web",
            "input": {"type": "jsonl", "path": [str(f) for f in files]},
            "stages": [{"name": "clean", "materialize": {"path": f"{place}/{name}"}, "operators": operators}],
            "output": {"type": "parquet", "path": f"{place}/{name}-out"},
        }

    on_ray, serial, local = (
        fdf.run(wanted(name), runner=which)
        for name, which in (("ray", runner(workers=2)), ("serial", SerialRunner()), ("local", "local"))
    )
    assert bytes_of(on_ray) == bytes_of(serial) == bytes_of(local)
    assert on_ray.manifests["clean"]["id"] == serial.manifests["clean"]["id"]
    assert on_ray.manifests["clean"]["counts"]["rows_in"] == pages > 1000
    assert 0 < on_ray.manifest["counts"]["rows_out"] < pages


def in_use(folder):
    """Say whether a process names a folder: a cluster of somebody else on this machine."""
    return any(str(folder) in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))


def hosts(cluster):
    """Return the hosts of the shared cluster and the workers beside them."""
    found = []
    for process in psutil.Process(cluster._keeper.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            words = process.cmdline() or [""]
            if words[0].startswith("ray::Host") or any("fdf_runner_local.worker" in w for w in words):
                found.append(process)
    return found
