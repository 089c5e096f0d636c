"""Shared fixtures of the end-to-end tests: the command line as a person calls it, and what a failed run may leave."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from fdf.cli.main import main
from fdf.testing.drivers import Driver

SOAK = int(os.environ.get("FDF_SOAK", "0"))
SEED = int(os.environ.get("FDF_SOAK_SEED", "0"))
_STRUCK: dict[str, Counter[str]] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was struck, and with which seed, so that a failure can be repeated."""
    if not any(_STRUCK.values()) or not (terminalreporter.stats.get("failed") or "FDF_SOAK" in os.environ):
        return
    terminalreporter.section(f"soak: FDF_SOAK={SOAK} FDF_SOAK_SEED={SEED}")
    for test, struck in ((t, s) for t, s in _STRUCK.items() if s):
        terminalreporter.write_line(f"{test}: {struck.total()}")
        for what, times in sorted(struck.items()):
            terminalreporter.write_line(f"  {times:4} {what}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make soak` runs: those that ask for its dice."""
    for item in items:
        if "soak" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.soak)


class Soak:
    """Draws moments from a seed, and counts what was struck. `FDF_SOAK` says how often, `FDF_SOAK_SEED` is the seed."""

    def __init__(self, test: str) -> None:
        self._test = test
        self._count: Counter[str] = _STRUCK.setdefault(test, Counter())

    def dice(self, *names: object) -> random.Random:
        """Return dice of their own for each purpose."""
        return random.Random(f"{SEED} {self._test} {names}")

    def times(self, in_ci: int, *, share: int = 1) -> int:
        """Return how often to strike: so many times in CI, `FDF_SOAK` times with `make soak`, or its nth part."""
        return max(in_ci, SOAK // share)

    def struck(self, what: str, *, times: int = 1) -> None:
        """Count a strike."""
        self._count[what] += times

    def kill_drivers(
        self,
        start: Callable[[Path], Driver],
        place: Path,
        *,
        times: int,
        like: Driver,
        alive: Callable[[Path], None],
        settled: Callable[[Path], None],
        may_give_up: bool = False,
    ) -> None:
        """Kill drivers at random moments until so many are dead; each dataset is resumed until it is done.

        `like` is an undisturbed one: the moments lie within its life, every other one within its work on splits.
        `alive` looks at a dataset after each kill, `settled` at one that is done. Where drivers
        may give up (exit code 3), they are started again.
        """
        dice = self.dice("drivers")
        killed = number = 0
        while killed < times:
            number += 1
            root = place / f"dataset-{number}"
            drivers = [start(root)]
            while True:
                driver = drivers[-1]
                if killed < times:
                    begun = driver.wait_for("split_started") if killed % 2 else 0.0
                    if driver.kill_after(begun + dice.uniform(0, like.seconds - (begun and like.begun))):
                        killed += 1
                        self.struck(f"driver after {driver.last_event()}")
                        alive(root)
                if driver.wait() == 0:
                    break
                if driver.wait() == 3 and may_give_up:
                    self.struck("driver gives up")
                else:
                    assert driver.wait() == -signal.SIGKILL, driver.errors()
                if dice.random() < 0.5:  # Else the next driver meets its workers.
                    driver.wait_for_workers()
                drivers.append(start(root))
            for driver in drivers:
                driver.wait_for_workers()
            settled(root)
            shutil.rmtree(root)

    def kill_workers(
        self,
        start: Callable[[Path], Driver],
        place: Path,
        *,
        times: int,
        work: float,
        settled: Callable[[Path], None],
    ) -> None:
        """Kill workers at random moments until so many are dead, four of a run at most; every run ends well.

        `work` is how many seconds an undisturbed run has splits at work; `settled` looks at what each run made.
        """
        dice = self.dice("workers")
        killed = number = 0
        while killed < times:
            number += 1
            root = place / f"dataset-{number}"
            driver = start(root)
            of_this_run = 0
            driver.wait_for("split_started")
            # A split may lose five workers, no more.
            while of_this_run < 4 and driver.wait(dice.uniform(0, work / 4)) is None:
                alive = driver.workers()
                # The one that the others are forked from is spared: it is no worker.
                forked = [p for p in alive if _parent_of(p) in alive]
                if forked and _kill(dice.choice(forked)):
                    killed, of_this_run = killed + 1, of_this_run + 1
                    self.struck(f"worker after {driver.last_event()}")
            assert driver.wait() == 0, driver.errors()
            driver.wait_for_workers()
            settled(root)
            shutil.rmtree(root, ignore_errors=True)


def _parent_of(pid: int) -> int | None:
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return None


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def soak(request) -> Soak:
    """Give the dice of a test that strikes at random."""
    return Soak(request.node.name)


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
