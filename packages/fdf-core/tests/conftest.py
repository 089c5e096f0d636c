"""Shared fixtures of fdf-core's tests: a run home of their own, small inputs, recipes as dicts, a driver process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fdf import registry

OPERATORS = Path(__file__).with_name("engine_operators.py")
DRIVER = textwrap.dedent(
    """
    import json, sys
    import fdf
    from fdf.errors import FdfError

    recipe, options = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    started = []
    try:
        result = fdf.run(
            recipe, on_event=lambda e: started.append((e.stage, e.data["name"])) if e.kind == "split_started" else None,
            **options,
        )
    except FdfError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(json.dumps({"ids": {s.name: s.manifest["id"] for s in result.stages}, "started": started}))
    sys.exit(result.exit_code)
    """
)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Keep the records of this test's runs in its own folder."""
    folder = tmp_path / "fdf-home"
    monkeypatch.setenv("FDF_HOME", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def op() -> Callable[..., dict[str, Any]]:
    """Give a function that writes an operator of `engine_operators.py` as a recipe does."""

    def written(kind: str, name: str, called: str = "", *, around: dict[str, Any] | None = None, **params: Any):
        place = f"{OPERATORS}:{name}" if f"class {name}(" in OPERATORS.read_text() else name
        return {"id": called or f"{kind}.{name}", "kind": kind, "op": place, "params": params, **(around or {})}

    return written


@pytest.fixture
def words(tmp_path) -> Callable[..., Path]:
    """Give a function that writes a parquet file of texts into the test's input folder."""

    def write(name: str, texts: list[str | None], **columns: Any) -> Path:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        table = pa.table({"text": pa.array(texts, pa.string()), **columns})
        file = folder / f"{name}.parquet"
        aside = folder / f".{name}.new"
        pq.write_table(table, aside)
        aside.replace(file)
        return file

    return write


@pytest.fixture
def texts_of() -> Callable[..., list[str | None]]:
    """Give a function that reads one column of a stage or output directory, in the manifest's order."""

    def read(root: Path, column: str = "text", part: str = "outputs") -> list[Any]:
        found = next(p for p in (root / "manifest.json", root / "__fdf__" / "manifest.json") if p.exists())
        manifest = json.loads(found.read_text())
        values: list[Any] = []
        for entry in manifest[part]:
            values += pq.read_table(root / entry["path"], columns=[column]).column(column).to_pylist()
        return values

    return read


@pytest.fixture
def contents() -> Callable[[Path], dict[str, str]]:
    """Give a function that hashes every data file below a root: shards, dropped and quarantined rows."""

    def hashed(root: Path) -> dict[str, str]:
        return {
            str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(root.rglob("part-*"))
            if ".fdf-tmp" not in p.parts
        }

    return hashed


@pytest.fixture
def drive(tmp_path, home) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a function that runs a recipe in a process of its own, and returns how that ended."""

    def start(recipe: dict[str, Any], *, crash_at: str | None = None, wait: bool = True, **options: Any):
        env = {**os.environ, "FDF_HOME": os.environ.get("FDF_HOME", str(home))}
        if crash_at is not None:
            env["FDF_TEST_CRASH_AT"] = crash_at
        command = [sys.executable, "-c", DRIVER, json.dumps(recipe), json.dumps({"runner": "serial", **options})]
        if wait:
            return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a made-up distribution: its metadata, and modules by path."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("FDF_PLUGINS", raising=False)

    def install(name, entry_points, modules=(), *, version="1.0", requires=()):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires)]) + "\n")
        groups = [f"[{group}]\n" + "\n".join(lines) for group, lines in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(groups) + "\n")
        for path, text in dict(modules).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
            top = path.split("/")[0].removesuffix(".py")
            for loaded in [m for m in sys.modules if m == top or m.startswith(f"{top}.")]:
                monkeypatch.delitem(sys.modules, loaded)
        registry.refresh()
        return tmp_path

    yield install
    monkeypatch.undo()
    registry.refresh()
