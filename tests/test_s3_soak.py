"""Runs on S3 that are killed, with a store that fails now and then: they end as a run that nothing befell.

A moto server stands in for S3, and between it and the drivers a proxy that refuses, loses answers and breaks
connections. Moments and faults are drawn from seeds; `make soak` draws more of them (see `Soak` in conftest.py).
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator
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
from fdf.testing.faults import FAULTS, faulty_proxy
from fdf.testing.s3 import s3_stand_in

FILES, ROWS = 4, 60
BUCKET = "fdf-soak"
FAILING = 0.1


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_stand_in(BUCKET) as address:
        yield address


@pytest.fixture
def client(server, tmp_path, monkeypatch) -> Any:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # Only FDF's own patience stands between a fault and a failed run.
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


def test_runs_killed_while_the_store_fails_lose_and_double_nothing(client, server, tmp_path, inputs, undisturbed, soak):
    like, expected = undisturbed
    seed = soak.dice("faults").getrandbits(32)
    with faulty_proxy(server, seed=seed, rate=FAILING, faults=(*FAULTS, "late"), strikes=1_000_000, hold=0.5) as proxy:

        def run(root: Path) -> Driver:
            return Driver(
                recipe_for(inputs, root.name), root, env={"AWS_ENDPOINT_URL": proxy.address}, runner="local", workers=2
            )

        def settled(root: Path) -> None:
            assert_whole(client, root.name, expected)

        soak.kill_drivers(
            run, tmp_path, times=soak.times(2), like=like, alive=lambda _: None, settled=settled, may_give_up=True
        )
    for fault, times in proxy.struck.items():
        soak.struck(f"fault {fault}", times=times)
    assert proxy.struck.total() > 10


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_driver_killed_at_any_point_while_the_store_fails(client, server, tmp_path, inputs, undisturbed, soak, point):
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
