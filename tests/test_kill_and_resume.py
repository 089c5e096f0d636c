"""A run that is killed, wherever and however often, ends as one that was left alone: same files, same manifests.

Moments are drawn from seeds; `make soak` draws more of them (see `Soak` in conftest.py).
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.stage.crashpoints import CRASH_POINTS, VARIABLE
from fdf.testing.drivers import Driver

STAGES = ("one", "two", "output")
FILES, ADDED, ROWS = 6, 2, 400
WORKERS = pytest.mark.parametrize("workers", [1, 2, 4])
IN_DRIVER = ("manifest-ready", "manifest-committed", "files-removed")
IN_WORKER = tuple(p for p in CRASH_POINTS if p not in IN_DRIVER)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    chosen = random.Random(7)
    for number in range(FILES + ADDED):
        texts = [
            " ".join(chosen.choices(["the", "of", "naïve", "cafe\u0301", "x" * 9, "  "], k=n % 30)) for n in range(ROWS)
        ]
        name = f"{number}.parquet" if number < FILES else f"{number - FILES}-added.parquet"
        pq.write_table(pa.table({"text": [*texts, None], "n": list(range(ROWS + 1))}), folder / name)
    return folder


def recipe_for(root: Path, inputs: Path, *, changed: bool = False) -> dict[str, Any]:
    """Return a recipe of two stages and an output; `changed` reads two files more and has another parameter."""

    def stage(name: str, *operators: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "materialize": {"path": str(root / name)}, "operators": list(operators)}

    words = {"min_words": 6 if changed else 4}
    return {
        "name": "killed",
        "input": {"type": "parquet", "name": "src", "path": f"{inputs}/{'*' if changed else '?'}.parquet"},
        "stages": [
            stage(
                "one",
                {"id": "clean", "kind": "refiner", "op": "NormalizeText"},
                {"id": "words", "kind": "filter", "op": "WordCountFilter", "params": words},
            ),
            stage("two", {"id": "count", "kind": "score", "op": "TextStatistics"}),
        ],
        "output": {"type": "parquet", "path": str(root / "output"), "shard_size": 20_000},
    }


def outcome(root: Path) -> dict[str, str]:
    """Return the sha256 of every data file, the id of every manifest, and the name of every receipt."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if ".fdf-tmp" in path.parts or not path.is_file():
            continue
        if path.name == "manifest.json":
            found[name] = json.loads(path.read_text())["id"]
        elif path.name.startswith("part-"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif "_receipts" in path.parts:
            found[name] = "receipt"
    return found


def receipts(root: Path) -> Counter[str]:
    return Counter(name.split("/")[0] for name, what in outcome(root).items() if what == "receipt")


def assert_readable(root: Path) -> None:
    """What is committed can be read at any moment: every file that a manifest names is there, whole."""
    for path in root.rglob("manifest.json"):
        top = path.parent.parent if path.parent.name == "__fdf__" else path.parent
        manifest = json.loads(path.read_text())
        for entry in (*manifest["outputs"], *manifest["dropped"], *manifest["quarantine"]):
            assert hashlib.sha256((top / entry["path"]).read_bytes()).hexdigest() == entry["sha256"], entry


@dataclass
class Undisturbed:
    """What runs that nobody killed left, and their drivers by the number of workers."""

    first: dict[str, str] = field(default_factory=dict)
    updated: dict[str, str] = field(default_factory=dict)
    passages: dict[str, int] = field(default_factory=dict)
    drivers: dict[int, Driver] = field(default_factory=dict)
    root: Path = Path()
    """Where the first of these left its files."""

    def splits(self, stage: str) -> int:
        """Return how many splits a stage has."""
        return sum(what == "receipt" and name.startswith(f"{stage}/") for name, what in self.first.items())

    def work(self, workers: int) -> float:
        """Return how many seconds lie between the first split's start and the end."""
        return self.drivers[workers].seconds - self.drivers[workers].begun


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, inputs) -> Undisturbed:
    place = tmp_path_factory.mktemp("undisturbed")
    known = Undisturbed()
    env = {"FDF_HOME": str(place / "home")}
    counters = ",".join(f"{p}:{place}/{p}#0" for p in CRASH_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FDF_HOME", env["FDF_HOME"])
        # The first one also waits for the process that drivers are forked from.
        assert Driver(recipe_for(place / "warm-up", inputs), place, runner="serial", limit=1).wait() == 0
        for options in ({"runner": "serial"}, *({"runner": "local", "workers": n} for n in (1, 2, 4))):
            root = place / f"on-{options.get('workers', 0)}"
            driver = Driver(
                recipe_for(root, inputs), place, env={VARIABLE: counters} if not known.first else {}, **options
            )
            assert driver.wait() == 0, driver.errors()
            known.drivers[options.get("workers", 0)] = driver
            if not known.first:
                known.first, known.root = outcome(root), root
                known.passages = {p: (place / p).stat().st_size for p in CRASH_POINTS}
            assert outcome(root) == known.first
        fdf.run(recipe_for(root, inputs, changed=True), runner="serial")
    known.updated = outcome(root)
    assert not known.updated.items() & {k: v for k, v in known.first.items() if k.endswith("manifest.json")}.items()
    return known


@pytest.fixture
def start(tmp_path, monkeypatch) -> Callable[..., Driver]:
    """Give a function that starts a driver; `crash` names the points at which a process dies, and at which passage."""
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))

    def start(recipe: dict[str, Any], *, crash: dict[str, int] | None = None, **options: Any) -> Driver:
        start.number += 1
        at = ",".join(f"{point}:{tmp_path}/{start.number}-{point}#{n}" for point, n in (crash or {}).items())
        return Driver(recipe, tmp_path / "drivers", env={VARIABLE: at} if at else {}, **options)

    start.number = 0
    return start


def finish(driver: Driver) -> None:
    assert driver.wait() == 0, driver.errors()
    driver.wait_for_workers()


def assert_killed(driver: Driver) -> None:
    assert driver.wait() == -signal.SIGKILL, driver.errors()
    driver.wait_for_workers()


def resume_and_compare(start: Callable[[], Driver], root: Path, expected: dict[str, str]) -> None:
    """Run again: only splits without a receipt run, and all ends as in the undisturbed run."""
    before = receipts(root)
    uncommitted = [s for s in STAGES if not list((root / s).rglob("manifest.json"))]
    driver = start()
    finish(driver)
    ran = Counter(stage for _, stage, kind in driver.told() if kind == "split_started")
    assert outcome(root) == expected
    total = receipts(root)
    assert {s: ran[s] for s in STAGES} == {s: total[s] - before[s] for s in STAGES}
    for stage in uncommitted:
        (path,) = (root / stage).rglob("manifest.json")
        assert json.loads(path.read_text())["resumed_splits"] == before[stage]


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("where", STAGES)
def test_driver_killed_at_any_point_of_any_stage(tmp_path, start, inputs, undisturbed, soak, where, point):
    root = tmp_path / "killed"
    recipe = recipe_for(root, inputs)
    if where != "one":
        finish(start(recipe, runner="serial", until=STAGES[STAGES.index(where) - 1]))
    if point in IN_DRIVER:
        # A stage that is committed passes the points of its commit again.
        nth = STAGES.index(where) + 1
    else:
        nth = soak.dice(where, point).randint(1, undisturbed.splits(where))
    killed = start(recipe, runner="serial", crash={point: nth})
    assert_killed(killed)
    assert killed.last_event().startswith(f"{where} ")
    resume_and_compare(lambda: start(recipe, runner="serial"), root, undisturbed.first)


@WORKERS
def test_workers_killed_at_every_point_cost_no_run(tmp_path, start, inputs, undisturbed, soak, workers):
    for number in range(soak.times(1, share=10)):
        root = tmp_path / f"{number}"
        dice = soak.dice(workers, number)
        crash = {point: dice.randint(1, undisturbed.passages[point]) for point in IN_WORKER}
        driver = start(recipe_for(root, inputs), crash=crash, runner="local", workers=workers)
        finish(driver)
        for point in IN_WORKER:
            assert (tmp_path / f"{start.number}-{point}").stat().st_size >= crash[point]
            soak.struck(f"worker at {point}")
        died = [kind for _, _, kind in driver.told()].count("split_retried")
        assert died == len(IN_WORKER)
        assert outcome(root) == undisturbed.first
        shutil.rmtree(root)


@WORKERS
def test_driver_of_workers_killed_at_every_point_of_its_own(tmp_path, start, inputs, undisturbed, soak, workers):
    root = tmp_path / "killed"
    recipe = recipe_for(root, inputs)
    for before, where in enumerate(STAGES):
        for point in IN_DRIVER:
            driver = start(recipe, crash={point: before + 1}, runner="local", workers=workers)
            assert_killed(driver)
            assert driver.last_event().startswith(f"{where} ")
            soak.struck(f"driver at {point}")
            assert_readable(root)
    # The runner may change in between.
    resume_and_compare(lambda: start(recipe, runner="serial"), root, undisturbed.first)


@WORKERS
def test_driver_killed_at_random_moments_again_and_again(tmp_path, start, inputs, undisturbed, soak, workers):
    def run(root: Path) -> Driver:
        return start(recipe_for(root, inputs), runner="local", workers=workers)

    def settled(root: Path) -> None:
        assert outcome(root) == undisturbed.first

    like = undisturbed.drivers[workers]
    soak.kill_drivers(run, tmp_path, times=soak.times(8), like=like, alive=assert_readable, settled=settled)


def test_driver_in_one_process_killed_at_random_moments(tmp_path, start, inputs, undisturbed, soak):
    def run(root: Path) -> Driver:
        return start(recipe_for(root, inputs), runner="serial")

    def settled(root: Path) -> None:
        assert outcome(root) == undisturbed.first

    like = undisturbed.drivers[0]
    soak.kill_drivers(run, tmp_path, times=soak.times(8), like=like, alive=assert_readable, settled=settled)


@WORKERS
def test_workers_killed_at_random_moments_cost_no_run(tmp_path, start, inputs, undisturbed, soak, workers):
    def run(root: Path) -> Driver:
        return start(recipe_for(root, inputs), runner="local", workers=workers)

    def settled(root: Path) -> None:
        assert outcome(root) == undisturbed.first

    soak.kill_workers(run, tmp_path, times=soak.times(8), work=undisturbed.work(workers), settled=settled)


@pytest.fixture
def update(tmp_path, undisturbed) -> Callable[[str], Path]:
    """Give a function that lays out a finished dataset, to be updated: two files more, and a changed parameter."""

    def lay_out(name: str) -> Path:
        return Path(shutil.copytree(undisturbed.root, tmp_path / name))

    return lay_out


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("where", ["one", "output"])
def test_update_killed_at_any_point(tmp_path, start, inputs, undisturbed, soak, update, where, point):
    root = update("killed")
    recipe = recipe_for(root, inputs, changed=True)
    if where == "output":
        finish(start(recipe, runner="serial", until="two"))
    nth = STAGES.index(where) + 1 if point in IN_DRIVER else 1
    killed = start(recipe, runner="serial", crash={point: nth})
    assert_killed(killed)
    assert killed.last_event().startswith(f"{where} ")
    assert_readable(root)
    finish(start(recipe, runner="serial"))
    assert outcome(root) == undisturbed.updated


def test_update_killed_at_random_moments(tmp_path, start, inputs, undisturbed, soak, update):
    def run(root: Path) -> Driver:
        if not root.exists():
            update(root.name)
        return start(recipe_for(root, inputs, changed=True), runner="local", workers=2)

    def settled(root: Path) -> None:
        assert outcome(root) == undisturbed.updated

    like = undisturbed.drivers[2]
    soak.kill_drivers(run, tmp_path, times=soak.times(2, share=2), like=like, alive=assert_readable, settled=settled)


@pytest.mark.parametrize("runner", ["serial", "local"])
def test_two_drivers_at_once_make_one_dataset(tmp_path, start, inputs, undisturbed, soak, runner):
    seconds = undisturbed.drivers[2 if runner == "local" else 0].seconds
    options = {"workers": 2} if runner == "local" else {}
    for number in range(soak.times(1, share=4)):
        root = tmp_path / f"{number}"
        recipe = recipe_for(root, inputs)
        offset = soak.dice("two", runner, number).uniform(0, seconds)
        first = start(recipe, runner=runner, **options)
        first.wait(offset)
        second = start(recipe, runner="serial")
        # Who loses has the same result, or says that another writer was there.
        codes = first.wait(), second.wait()
        assert codes in {(0, 0), (0, 5), (5, 0)}, (offset, first.errors(), second.errors())
        first.wait_for_workers()
        soak.struck(f"two drivers {codes}")
        assert outcome(root) == undisturbed.first
        shutil.rmtree(root)


def test_two_drivers_with_different_recipes_leave_the_dataset_of_one(tmp_path, start, inputs, undisturbed, soak):
    for number in range(soak.times(1, share=4)):
        root = tmp_path / f"{number}"
        dice = soak.dice("rivals", number)
        first = start(recipe_for(root, inputs), runner="serial")
        first.wait(dice.uniform(0, undisturbed.drivers[0].seconds))
        second = start(recipe_for(root, inputs, changed=True), runner="serial")
        codes = first.wait(), second.wait()
        assert codes in {(0, 0), (0, 5), (5, 0)}, (first.errors(), second.errors())
        soak.struck(f"two recipes {codes}")
        assert_readable(root)
        # Whoever comes last has it all. A rival that gave up may leave receipts, which are for `fdf gc` to judge: they
        # are of its own recipe, and no manifest names them.
        finish(start(recipe_for(root, inputs, changed=True), runner="serial"))
        left = outcome(root)
        ours = {str(Path(name).parent) for name in undisturbed.updated if "/_receipts/" in name}
        beside = {name for name in left.keys() - undisturbed.updated.keys() if "/_receipts/" in name}
        assert {str(Path(name).parent) for name in beside}.isdisjoint(ours)
        assert {name: left[name] for name in left.keys() - beside} == undisturbed.updated
        shutil.rmtree(root)


def test_limit_takes_the_same_first_rows_with_any_number_of_workers(tmp_path, inputs, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    limit = 2 * ROWS + 77
    fdf.run(recipe_for(tmp_path / "serial", inputs), runner="serial", run_id="serial", limit=limit)
    result = fdf.run(recipe_for(tmp_path / "local", inputs), runner="local", workers=3, run_id="local", limit=limit)
    assert result.manifests["one"]["counts"]["rows_in"] == limit
    assert outcome(tmp_path / "local") == outcome(tmp_path / "serial")
