"""How much of this machine a run may use: what the process may run on, and what its control group allows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Return how many CPUs this process may keep busy, at least 1."""
    quota = cpu_quota()
    return max(1, allowed_cpus() if quota is None else min(allowed_cpus(), math.ceil(quota)))


def usable_memory() -> int:
    """Return how many bytes of memory this process and its workers may hold together."""
    installed = int(psutil.virtual_memory().total)
    limit = memory_limit()
    return installed if limit is None else min(installed, limit)


def allowed_cpus() -> int:
    """Return how many CPUs the scheduler lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return the smallest CPU quota of the control groups that this process is in, in CPUs; None without one."""
    quotas = []
    for folder in _groups(root, membership, controller="cpu"):
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and words[0].isdecimal() and int(words[1]) > 0:
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory_limit(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Return the smallest memory limit of the control groups that this process is in, in bytes; None without one."""
    limits = []
    for folder in _groups(root, membership, controller="memory"):
        words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        if len(words) == 1 and words[0].isdecimal():
            limits.append(int(words[0]))
    return min(limits, default=None)


def _groups(root: Path, membership: Path, *, controller: str) -> Iterator[Path]:
    """Yield the folders of the process's own group and of all groups around it, in version 2 and in version 1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        inner = PurePosixPath(path.lstrip("/"))
        if ".." in inner.parts:  # A group outside what this container can see.
            inner = PurePosixPath()
        yield from (top / part for part in (inner, *inner.parents))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
