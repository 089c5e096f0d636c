"""Shared fixtures of the end-to-end tests: the command line as a person calls it, and what a failed run may leave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from fdf.cli.main import main


class CommandLine:
    """Calls `fdf` in this process, in a working directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: object) -> Result:
        done = CliRunner().invoke(main, [str(w) for w in words])
        assert "Traceback" not in done.output, done.output
        return done

    def run(self, recipe: dict[str, Any] | str, *options: object) -> Result:
        """Write the recipe to recipe.yaml and run it with the serial runner."""
        text = recipe if isinstance(recipe, str) else yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
        (self.folder / "recipe.yaml").write_text(text)
        return self("run", "recipe.yaml", "--runner", "serial", *options)

    def finishes(self, recipe: dict[str, Any] | str, *options: object) -> Result:
        """Run a recipe that ends well, and say what was told."""
        done = self.run(recipe, *options)
        assert done.exit_code == 0, done.output
        return done

    def refuses(self, recipe: dict[str, Any] | str, *options: object, code: int, says: list[str]) -> str:
        """Run a recipe that ends badly: with this exit code, these words, and a place in the recipe or a next step;
        return what was told."""
        done = self.run(recipe, *options)
        assert done.exit_code == code, done.output
        assert [words for words in says if words not in done.stderr] == [], done.stderr
        assert done.stderr.startswith("error[FDF") or "\nerror[FDF" in done.stderr, done.stderr
        assert "= help: " in done.stderr or "--> recipe.yaml:" in done.stderr, done.stderr
        if code == 3:
            assert "\nto go on: fdf run recipe.yaml" in done.stderr or "failed: " not in done.stderr, done.stderr
        return done.stderr


@pytest.fixture
def fdf(tmp_path, monkeypatch) -> CommandLine:
    """Give the command line, with records, caches and relative paths below the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "fdf-home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    return CommandLine(tmp_path)


@pytest.fixture
def committed() -> Callable[..., Committed]:
    """Give a function that reads a stage or output directory as its manifest describes it."""
    return Committed


class Committed:
    """What a manifest holds together, read past FDF's own code."""

    def __init__(self, root: Path) -> None:
        self.root = root
        found = next(p for p in (root / "manifest.json", root / "__fdf__" / "manifest.json") if p.exists())
        self.manifest: dict[str, Any] = json.loads(found.read_text())
        self.counts: dict[str, int] = self.manifest["counts"]

    def rows(self, part: str = "outputs") -> list[dict[str, Any]]:
        """Return the rows of one of the manifest's lists of files, in its order."""
        return [row for entry in self.manifest[part] for row in pq.read_table(self.root / entry["path"]).to_pylist()]

    def column(self, name: str, part: str = "outputs") -> list[Any]:
        """Return one column of these rows."""
        return [row[name] for row in self.rows(part)]

    @property
    def quarantined(self) -> dict[str, str]:
        """Return why each quarantined row failed, by its position in its file."""
        return {row["__fdf__/id"].split(":", 1)[1]: row["__fdf__/error"] for row in self.rows("quarantine")}


@pytest.fixture
def nothing_half() -> Callable[[Path], int]:
    """Give a function that checks an uncommitted directory: every data file whole and named by a receipt, no manifest,
    nothing unfinished. It returns how many receipts are there."""

    def check(root: Path) -> int:
        assert not (root / "manifest.json").exists()
        assert not (root / "__fdf__" / "manifest.json").exists()
        receipts = [json.loads(p.read_text()) for p in root.rglob("_receipts/*/*.json")] if root.is_dir() else []
        named = {f["path"]: f for r in receipts for part in ("outputs", "dropped", "quarantine") for f in r[part]}
        there = {p.relative_to(root).as_posix() for p in root.rglob("part-*") if ".fdf-tmp" not in p.parts}
        assert there == set(named)
        for path, entry in named.items():
            assert hashlib.sha256((root / path).read_bytes()).hexdigest() == entry["sha256"]
        return len(receipts)

    return check
