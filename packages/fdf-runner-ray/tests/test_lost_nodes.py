"""Nodes, hosts and drivers that are killed in the middle of a run: it ends, or resumes, with the same bytes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import fdf
from fdf.runner.serial import SerialRunner

SPLITS = 200
KILLS = max(10, int(os.environ.get("FDF_SOAK", "0")))
SEED = int(os.environ.get("FDF_SOAK_SEED", "0"))


def files_of(result):
    return {f["path"]: Path(result.path, f["path"]).read_bytes() for f in result.manifest["outputs"]}


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_run_of_many_splits_survives_the_loss_of_node_after_node(nodes, lose, runner, place, monkeypatch):
    lines = [f'{{"n": {n:04}}}\n'.replace(" 0", " 1", 1) for n in range(SPLITS)]
    (place / "in.jsonl").write_text("".join(lines))
    # A split takes its time on the cluster alone: a driver's variables of FDF go with its hosts.
    (place / "my_ops.py").write_text(
        "import os, time\n"
        "def dawdles(batch):\n"
        "    time.sleep(float(os.environ.get('FDF_TEST_SECONDS', '0')))\n"
        "    return batch['n'].is_valid()\n"
    )

    def wanted(out):
        step = {"id": "dawdles", "kind": "filter", "op": f"{place}/my_ops.py:dawdles"}
        return {
            "name": "nodes",
            "input": {"type": "jsonl", "path": str(place / "in.jsonl"), "split_size": len(lines[0])},
            "stages": [{"name": "only", "materialize": {"path": str(place / out)}, "operators": [step]}],
        }

    alive = [nodes.add_node(num_cpus=1) for _ in range(2)]
    dice = random.Random(SEED)
    moments = sorted(dice.choices(range(1, SPLITS - 5), k=KILLS))
    committed, retried = 0, []

    def on_event(event):
        nonlocal committed
        committed += event.kind == "split_committed"
        if event.kind == "split_retried":
            retried.append(event.data)
        while event.kind == "split_started" and moments and committed >= moments[0]:
            moments.pop(0)
            lose(alive.pop(dice.randrange(len(alive))))
            alive.append(nodes.add_node(num_cpus=1))

    monkeypatch.setenv("FDF_TEST_SECONDS", "0.15")
    result = fdf.run(wanted("out"), runner=runner(address=nodes.address), on_event=on_event)
    monkeypatch.delenv("FDF_TEST_SECONDS")
    assert not moments
    assert len(result.manifest["outputs"]) == SPLITS
    assert {r["cause"] for r in retried} == {"killed"}
    assert result.manifest["retries"] >= len({r["name"] for r in retried}) > 0
    serial = fdf.run(wanted("serial"), runner=SerialRunner())
    assert result.manifest["id"] == serial.manifest["id"]
    assert files_of(result) == files_of(serial)
