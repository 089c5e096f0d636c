"""A GPU that is asked for must be there before the first split."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import fdf
from fdf.errors import MissingDependency
from fdf.models import devices
from fdf.operators.passthrough import PassthroughRefiner
from fdf.plan.compile import compile_plan
from fdf.runner.devices import without_gpu


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's device folder, without GPUs yet."""
    monkeypatch.setattr(devices, "DEVICES", tmp_path / "dev")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "dev").mkdir()
    for other in ("nvidiactl", "nvidia-uvm", "sda"):
        (tmp_path / "dev" / other).touch()
    return tmp_path


def pipeline(machine: Path) -> fdf.Pipeline:
    return fdf.Pipeline("devices").read(pa.table({"n": [1]})).stage("s", [], path=str(machine / "s"))


@pytest.mark.parametrize("runner", ["serial", "local"])
def test_cuda_without_a_gpu_is_refused_before_anything_is_written(machine: Path, runner: str) -> None:
    with pytest.raises(MissingDependency, match="no GPU") as caught:
        fdf.run(pipeline(machine), runner=runner, device="cuda", workers=1)
    assert caught.value.exit_code == 4
    assert not (machine / "s").exists()


def test_cpu_needs_no_gpu(machine: Path) -> None:
    assert fdf.run(pipeline(machine), runner="serial", device="cpu").manifest["counts"]["rows_out"] == 1


@pytest.mark.parametrize(("visible", "count"), [(None, 2), ("0", 1), ("", 0), ("-1", 0), ("0,1,2", 2)])
def test_gpus_are_counted_as_far_as_they_are_visible(
    machine: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int
) -> None:
    for number in range(2):
        (machine / "dev" / f"nvidia{number}").touch()
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpu_count() == count


def test_operators_that_want_a_gpu_are_named_where_there_is_none(machine: Path) -> None:
    step = fdf.Step(PassthroughRefiner(), "refiner.model", resources={"gpus": 0.5})
    source = fdf.Pipeline("devices").read(pa.table({"n": [1]}))
    plan = compile_plan(source.stage("s", [step]).recipe())
    told = without_gpu(plan, device="auto")
    assert told == "this machine offers no GPU, so that `refiner.model` will run on its CPU"
    assert without_gpu(plan, device="cpu") is None
    assert without_gpu(compile_plan(source.stage("s", [PassthroughRefiner()]).recipe()), device="auto") is None
    (machine / "dev" / "nvidia0").touch()
    assert without_gpu(plan, device="auto") is None


def test_gpus_are_named_as_their_driver_names_them_and_the_manifest_says_so(machine, monkeypatch):
    # In the form of NVIDIA's driver (README, chapter "The /proc interface").
    for bus, model in (("0000:65:00.0", "NVIDIA A100-SXM4-40GB"), ("0000:17:00.0", "NVIDIA H100 80GB HBM3")):
        (machine / "gpus" / bus).mkdir(parents=True)
        told = f"Model: \t\t {model}\nIRQ:   \t\t 187\nGPU UUID: \t GPU-{bus}\n"
        (machine / "gpus" / bus / "information").write_text(told)
    (machine / "gpus" / "0000:99:00.0").mkdir()
    monkeypatch.setattr(devices, "DRIVER", machine / "gpus")
    names = ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"]
    assert devices.gpu_names() == names
    result = fdf.run(pipeline(machine), runner="serial")
    assert result.manifest["environment"]["devices"] == names
