"""Runs on S3 that are killed, with a store that fails now and then: they end as a run that nothing befell.

A moto server stands in for S3, and between it and the drivers a proxy that refuses, loses answers and breaks
connections. Moments and faults are drawn from seeds; `make soak` draws more of them (see `Soak` in conftest.py).
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fdf.report.committed import find_stages
from fdf.report.verify import verify
from fdf.stage.crashpoints import CRASH_POINTS, VARIABLE
from fdf.testing.drivers import Driver
from fdf.testing.faults import FAULTS, FaultyProxy, faulty_proxy
from fdf.testing.s3 import s3_stand_in

FILES, ROWS = 4, 60
BUCKET = "fdf-soak"
FAILING = 0.05
IN_DRIVER = ("manifest-ready", "manifest-committed", "files-removed")
IN_WORKER = tuple(p for p in CRASH_POINTS if p not in IN_DRIVER)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_stand_in(BUCKET) as address:
        yield address


@pytest.fixture
def client(server, tmp_path, monkeypatch) -> Any:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    return boto3.client("s3", endpoint_url=server)


@pytest.fixture(scope="module")
def inputs(server, tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("in") / "file.parquet"
    client = boto3.client("s3", endpoint_url=server)
    for number in range(FILES):
        texts = [f"row {number} {n} {'word ' * (n % 9)}" for n in range(ROWS)]
        pq.write_table(pa.table({"text": [*texts, None]}), file)
        client.upload_file(str(file), BUCKET, f"in/{number}.parquet")
    return f"s3://{BUCKET}/in/*.parquet"


def recipe_for(inputs: str, below: str) -> dict[str, Any]:
    root = f"s3://{BUCKET}/{below}"
    words = {"id": "words", "kind": "filter", "op": "WordCountFilter", "params": {"min_words": 4}}
    return {
        "name": "remote",
        "input": {"type": "parquet", "name": "src", "path": inputs},
        "stages": [{"name": "one", "materialize": {"path": f"{root}/one"}, "operators": [words]}],
        "output": {"type": "parquet", "path": f"{root}/output", "shard_size": 3_000},
    }


def outcome(client: Any, below: str) -> dict[str, str]:
    """Return the sha256 of every data object, the id of every manifest, and the name of every other object."""
    found = {}
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{below}/").get("Contents", [])
    for key in (o["Key"] for o in listed):
        name = key.removeprefix(f"{below}/")
        if name.endswith("manifest.json") or "/part-" in name:
            data = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            found[name] = json.loads(data)["id"] if name.endswith(".json") else hashlib.sha256(data).hexdigest()
        elif "/.fdf-probe-" not in name:  # Who dies while trying the store leaves two bytes, which `fdf gc` removes.
            found[name] = "there"
    return found


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory, inputs) -> tuple[Driver, dict[str, str]]:
    place = tmp_path_factory.mktemp("undisturbed")
    env = {"FDF_HOME": str(place / "home")}
    # The first one also waits for the process that drivers are forked from.
    assert Driver(recipe_for(inputs, "warm-up"), place, env=env, runner="serial", limit=1).wait() == 0
    driver = Driver(recipe_for(inputs, "undisturbed"), place, env=env, runner="local", workers=2)
    assert driver.wait() == 0, driver.errors()
    return driver, outcome(boto3.client("s3", endpoint_url=server), "undisturbed")


def assert_whole(client: Any, below: str, expected: dict[str, str]) -> None:
    assert outcome(client, below) == expected
    for stage in ("one", "output"):
        (committed,) = find_stages(f"s3://{BUCKET}/{below}/{stage}")
        found = verify(committed)
        assert found.ok, found.mismatches
        assert found.uncommitted == []


@dataclass
class Failing:
    """A store that fails now and then, and runs on it; each test has a folder of the bucket of its own."""

    proxy: FaultyProxy
    client: Any
    inputs: str
    expected: dict[str, str]
    workers: int

    def __call__(self, root: Path, *, crash: dict[str, int] | None = None) -> Driver:
        """Start a driver on the dataset of this name; `crash` names points, and at which passage a process dies."""
        env = {"AWS_ENDPOINT_URL": self.proxy.address}
        if crash:
            env[VARIABLE] = ",".join(f"{point}:{root}-{point}#{n}" for point, n in crash.items())
        recipe = recipe_for(self.inputs, self._below(root))
        return Driver(recipe, root, env=env, runner="local", workers=self.workers)

    def settled(self, root: Path) -> None:
        assert_whole(self.client, self._below(root), self.expected)

    def _below(self, root: Path) -> str:
        return f"{root.parent.name}/{root.name}"


@pytest.fixture(params=[1, 2, 4])
def failing(request, client, server, inputs, undisturbed, soak) -> Iterator[Failing]:
    seed = soak.dice("faults").getrandbits(32)
    with faulty_proxy(server, seed=seed, rate=FAILING, faults=(*FAULTS, "late"), strikes=1_000_000, hold=0.2) as proxy:
        yield Failing(proxy, client, inputs, undisturbed[1], request.param)
    for fault, times in proxy.struck.items():
        soak.struck(f"fault {fault}", times=times)


def test_drivers_killed_at_random_moments_while_the_store_fails(tmp_path, failing, undisturbed, soak):
    like, _ = undisturbed
    soak.kill_drivers(
        failing,
        tmp_path,
        times=soak.times(8),
        like=like,
        alive=lambda _: None,
        settled=failing.settled,
        may_give_up=True,
    )
    assert failing.proxy.struck.total() > 5


def test_workers_killed_at_random_moments_while_the_store_fails(tmp_path, failing, undisturbed, soak):
    like, _ = undisturbed
    soak.kill_workers(failing, tmp_path, times=soak.times(8), work=like.seconds - like.begun, settled=failing.settled)


def test_workers_killed_at_every_point_while_the_store_fails(tmp_path, failing, soak):
    root = tmp_path / "killed"
    dice = soak.dice(failing.workers)
    crash = {point: dice.randint(1, FILES) for point in IN_WORKER}
    driver = failing(root, crash=crash)
    assert driver.wait() == 0, driver.errors()
    driver.wait_for_workers()
    # A fault that does not pass at once retries a split too.
    assert [kind for _, _, kind in driver.told()].count("split_retried") >= len(IN_WORKER)
    for point in IN_WORKER:
        assert Path(f"{root}-{point}").stat().st_size >= crash[point]
        soak.struck(f"worker at {point}")
    failing.settled(root)


def test_driver_of_workers_killed_at_every_point_of_its_own_while_the_store_fails(tmp_path, failing, soak):
    root = tmp_path / "killed"
    for point in IN_DRIVER:
        Path(f"{root}-{point}").unlink(missing_ok=True)
        driver = failing(root, crash={point: soak.dice(failing.workers, point).randint(1, 2)})
        assert driver.wait() == -signal.SIGKILL, driver.errors()
        driver.wait_for_workers()
        soak.struck(f"driver at {point}")
    driver = failing(root)
    assert driver.wait() == 0, driver.errors()
    failing.settled(root)


@pytest.mark.parametrize("point", IN_WORKER)
def test_driver_in_one_process_killed_at_any_point_while_the_store_fails(
    client, server, tmp_path, inputs, undisturbed, soak, point
):
    for number in range(soak.times(1, share=25)):
        below = f"{point}-{number}"
        recipe = recipe_for(inputs, below)
        dice = soak.dice(point, number)
        with faulty_proxy(server, seed=dice.getrandbits(32), rate=FAILING) as proxy:
            env = {"AWS_ENDPOINT_URL": proxy.address}
            crash = {VARIABLE: f"{point}:{tmp_path}/{below}#{dice.randint(1, 2)}"}
            killed = Driver(recipe, tmp_path, env=env | crash, runner="serial")
            assert killed.wait() == -signal.SIGKILL, killed.errors()
            soak.struck(f"driver at {point}")
            resumed = Driver(recipe, tmp_path, env=env, runner="serial")
            assert resumed.wait() == 0, resumed.errors()
        soak.struck("fault", times=proxy.struck.total())
        assert_whole(client, below, expected=undisturbed[1])


def test_two_drivers_at_once_on_s3_make_one_dataset(client, tmp_path, inputs, undisturbed, soak):
    like, expected = undisturbed
    for number in range(soak.times(1, share=6)):
        dice = soak.dice("two", number)
        recipe = recipe_for(inputs, f"two-{number}")
        first = Driver(recipe, tmp_path, runner="serial")
        offset = dice.uniform(0, like.seconds - like.begun)
        first.wait(offset)
        second = Driver(recipe, tmp_path, runner="serial")
        codes = first.wait(), second.wait()
        # Who loses has the same result, or says that another writer was there.
        assert codes in {(0, 0), (0, 5), (5, 0)}, (offset, first.errors(), second.errors())
        soak.struck(f"two drivers {codes}")
        assert_whole(client, f"two-{number}", expected)
