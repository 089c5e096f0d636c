"""Runs started from scripts, from stdin and from a terminal, as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCRIPT = """
import sys
import fdf
import pyarrow.compute as pc

print("once")

@fdf.filter(reads=("n",))
def is_even(batch):
    print("an operator's own words")
    return pc.equal(pc.bit_wise_and(batch["n"], 1), 0)

runs = fdf.Pipeline("script").read("parquet", path="in/*.parquet").stage("only", [is_even()], path="out")
print(fdf.run(runs, runner="local", workers=2).to_arrow()["n"].to_pylist())
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for number in range(3):
        pq.write_table(pa.table({"n": range(number * 4, number * 4 + 4)}), tmp_path / "in" / f"{number}.parquet")
    return tmp_path


def lives(process):
    """Say whether a process runs; one that has ended may still wait for the system to bury it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_script_without_a_guard_runs_once_with_operators_of_its_own(place):
    (place / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["once", "[0, 2, 4, 6, 8, 10]"]
    assert done.stderr.count("an operator's own words") == 3


def test_program_on_stdin_runs_as_a_notebook_does(place):
    done = subprocess.run([sys.executable, "-"], cwd=place, input=SCRIPT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["once", "[0, 2, 4, 6, 8, 10]"]


def test_modules_beside_the_script_reach_the_workers(place):
    (place / "src").mkdir()
    (place / "src" / "neighbours.py").write_text(
        textwrap.dedent("""
        import pyarrow.compute as pc
        def bound():
            return 7
        """)
    )
    (place / "src" / "script.py").write_text(
        SCRIPT.replace("import sys", "import sys, neighbours").replace(
            'pc.equal(pc.bit_wise_and(batch["n"], 1), 0)', 'pc.less(batch["n"], neighbours.bound())'
        )
    )
    done = subprocess.run([sys.executable, "src/script.py"], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 1, 2, 3, 4, 5, 6]"


def test_driver_keeps_its_own_threads(place):
    (place / "script.py").write_text(SCRIPT + 'import os; print(os.environ.get("POLARS_MAX_THREADS"))')
    env = {k: v for k, v in os.environ.items() if k != "POLARS_MAX_THREADS"}
    done = subprocess.run([sys.executable, "script.py"], cwd=place, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "None"


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_ends_the_command_within_five_seconds_and_leaves_nothing_half_done(place, signals):
    (place / "ops.py").write_text(
        "import time\ndef waits(batch):\n    open('waiting', 'w').close()\n    time.sleep(60)\n    return batch['n']\n"
    )
    (place / "recipe.yaml").write_text(
        textwrap.dedent("""
        name: "interrupted"
        input: { type: "parquet", path: "in/*.parquet" }
        stages:
          - name: "only"
            materialize: { path: "out" }
            operators:
              - { id: "waits", kind: "filter", op: "ops.py:waits" }
        """)
    )
    command = [Path(sys.executable).with_name("fdf"), "run", "recipe.yaml", "--runner", "local", "--workers", "2"]
    driver = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not (place / "waiting").exists():
            assert driver.poll() is None, driver.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        workers = psutil.Process(driver.pid).children(recursive=True)
        assert len(workers) >= 3
        asked = time.monotonic()
        for _ in range(signals):
            os.killpg(driver.pid, signal.SIGINT)  # As a terminal does: to the whole foreground group.
            time.sleep(0.3)
        _, said = driver.communicate(timeout=10)
        assert time.monotonic() - asked < 5
        assert driver.returncode == 130, said
        assert "Traceback" not in said
        deadline = time.monotonic() + 2
        while alive := [worker for worker in workers if lives(worker)]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.02)
        assert not (place / "out" / "manifest.json").exists()
        assert not list((place / "out").rglob("part-*"))
    finally:
        driver.kill()
        driver.communicate()
