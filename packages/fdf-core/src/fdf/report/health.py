"""Looks at what a run would need on this machine: Python, packages, plugins, a place for records, S3, GPUs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import psutil

from fdf.plan.compile import fdf_home
from fdf.registry import GROUPS, broken, entries

OLDEST_PYTHON = (3, 11)
LIBRARIES = ("pyarrow", "polars", "numpy", "pydantic")
S3_SETTINGS = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
GPU_TIMEOUT = 10

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. A `note` is worth knowing, a `problem` keeps something from working."""

    what: str
    status: Status
    detail: str
    help: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON values."""
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Yield the findings, the quick ones first; plugins are imported to see whether they can be."""
    yield _python()
    yield _machine()
    yield _home()
    yield from _packages()
    yield from _plugins()
    yield _s3()
    yield _gpu()


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding(what="python", status="problem", detail=version, help="install Python 3.11 or newer")
    return Finding(what="python", status="ok", detail=f"{version} on {platform.system()} {platform.machine()}")


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 1e9
    return Finding(what="machine", status="ok", detail=f"{cores} cores, {memory:.1f} GB of memory")


def _home() -> Finding:
    home = fdf_home()
    there = next(p for p in (home, *home.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(
            what="FDF_HOME",
            status="problem",
            detail=f"{home.absolute()} cannot be written: {error.strerror}",
            help="set FDF_HOME to a folder that can be written",
        )
    free = shutil.disk_usage(there).free / 1e9
    return Finding(what="FDF_HOME", status="ok", detail=f"{home.absolute()}, {free:.1f} GB free")


def _packages() -> Iterator[Finding]:
    announced = {e.distribution: e.version for group in GROUPS for e in entries(group)}
    for name, version in sorted(announced.items()):
        count = len([e for e in entries("fdf.operators") if e.distribution == name])
        yield Finding(what=name, status="ok", detail=f"{version}, {count} operators")
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            yield Finding(what=name, status="problem", detail="is not installed", help=f"pip install {name}")
    yield Finding(what="libraries", status="ok", detail=", ".join(found))


def _plugins() -> Iterator[Finding]:
    for item in broken():
        yield Finding(what=item.entry.qualified, status="problem", detail=item.problem.message, help=item.problem.help)


def _s3() -> Finding:
    """Say whether credentials are there, and where; never what they are."""
    if find_spec("s3fs") is None:
        help_ = 'pip install "fdf-core[s3]"'
        return Finding(what="S3", status="note", detail="s3fs is not installed: no s3:// paths", help=help_)
    sources = [name for name in S3_SETTINGS if os.environ.get(name)]
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser()
    if file.is_file():
        sources.append(str(file))
    endpoint = ", own endpoint" if os.environ.get("AWS_ENDPOINT_URL") else ""
    if not sources:
        detail = f"no credentials in the environment or in {file}{endpoint}"
        return Finding(what="S3", status="note", detail=detail, help="set AWS_PROFILE or AWS_ACCESS_KEY_ID")
    return Finding(what="S3", status="ok", detail=f"credentials present: {', '.join(sources)}{endpoint}")


def _gpu() -> Finding:
    torch = "torch is installed" if find_spec("torch") is not None else "torch is not installed"
    tool = shutil.which("nvidia-smi")
    names: list[str] = []
    if tool is not None:
        asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            said = subprocess.run(asked, capture_output=True, text=True, timeout=GPU_TIMEOUT, check=True)  # noqa: S603
            names = said.stdout.strip().splitlines()
        except (OSError, subprocess.SubprocessError):
            return Finding(what="GPU", status="note", detail=f"nvidia-smi does not answer; {torch}")
    if not names:
        return Finding(what="GPU", status="note", detail=f"none found: models run on the CPU; {torch}")
    return Finding(what="GPU", status="ok", detail=f"{'; '.join(names)}; {torch}")
