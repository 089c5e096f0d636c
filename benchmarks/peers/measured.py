"""Runs a command and measures it with everything that it starts: wall and CPU seconds, peak memory."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.2
PATIENCE_S = 20


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def measured(command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, log: Path) -> Usage:
    """Run a command to its end and return what it took, its descendants included.

    A process that outlives its parent is handed to this one, which waits for it, and ends it if it does not go by
    itself. So the kernel counts its CPU time; but not where a parent does not care for its children (Ray's does not),
    so that the sum of what was last seen of each process counts where it is more. Raises RuntimeError with the end of
    the log where the command fails.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = cpu_seconds_of_children()
    seen = Seen()
    with log.open("wb") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=out, env=dict(environment), cwd=cwd)  # noqa: S603
        with seen:
            code = process.wait()
        wall = time.perf_counter() - started
    wait_for_orphans()
    if code:
        end = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"exit code {code} of {' '.join(command)}; see {log}, which ends:\n{end}")
    cpu = max(cpu_seconds_of_children() - before, sum(seen.cpu_s.values()))
    return Usage(wall_s=wall, cpu_s=cpu, peak_mb=seen.peak_mb)


def cpu_seconds_of_children() -> float:
    """Return the CPU seconds of all descendants that ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_for_orphans() -> None:
    """Wait until no descendant is left; ask those that stay to end, and then end them."""
    for sent in (None, signal.SIGTERM, signal.SIGKILL):
        for child in psutil.Process().children(recursive=True) if sent else []:
            with suppress(psutil.NoSuchProcess):
                child.send_signal(sent)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                ended, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not ended:
                time.sleep(0.05)


class Seen:
    """What a look at this process's descendants every now and then tells: their CPU seconds, the memory they hold."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self.cpu_s: dict[psutil.Process, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_S):
            held = 0
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    used = child.cpu_times()
                    self.cpu_s[child] = used.user + used.system
                    # Pages that processes share count once.
                    held += child.memory_full_info().pss
            self.peak_mb = max(self.peak_mb, held / 1e6)
