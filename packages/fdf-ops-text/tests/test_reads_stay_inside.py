"""No kernel reads a byte outside the column's text. The column lies between two pages that cannot be read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("reads_inside.py")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guards pages with Linux's mprotect")


def run(what):
    return subprocess.run([sys.executable, SCRIPT, what], capture_output=True, text=True, check=False, env=os.environ)


@pytest.mark.parametrize("where", ["beyond", "before"])
def test_one_byte_outside_ends_the_process(where):
    done = run(where)
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "inside 1\n"), done.stderr


def test_every_kernel_stays_inside_and_answers_as_elsewhere():
    done = run("texts")
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 300
