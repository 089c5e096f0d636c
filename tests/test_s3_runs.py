"""The same recipe with `s3://` paths, against a moto server: input, stage and output there, killed and resumed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

import fdf
from fdf.errors import FdfError

FILES = 3
SECRET = "s3cr3t-Of-This-Test-0123456789abcdef"
ACCESS = "AKIATESTOFTHISTEST00"
DRIVER = textwrap.dedent(
    """
    import json, sys
    import fdf

    fdf.run(json.loads(sys.argv[1]), runner=sys.argv[2], workers=2, on_event=lambda e: print(json.dumps(e.to_json())))
    """
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch, tmp_path, request) -> Any:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    name = f"fdf-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=name)
    for number in range(FILES):
        file = tmp_path / f"{number}.parquet"
        texts = [f"row {number} {'word ' * (i % 6)}" for i in range(20)]
        pq.write_table(pa.table({"text": [*texts, None]}), file)
        client.upload_file(str(file), name, f"in/{number}.parquet")
    return Bucket(client, name)


class Bucket:
    """A bucket as the tests look at it, past FDF's own code."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    def files(self) -> dict[str, bytes]:
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {o["Key"]: self.client.get_object(Bucket=self.name, Key=o["Key"])["Body"].read() for o in listed}

    def outcome(self, below: str) -> dict[str, str]:
        """Return the sha256 of data files, and the ids of manifests."""
        found = {}
        for key, data in self.files().items():
            name = key.removeprefix(f"{below}/")
            if not key.startswith(f"{below}/") or "_receipts" in key:
                continue
            if key.endswith("manifest.json"):
                found[name] = json.loads(data)["id"]
            elif "part-" in key:
                found[name] = hashlib.sha256(data).hexdigest()
        return found

    def receipts(self, below: str) -> int:
        return sum("_receipts" in key for key in self.files() if key.startswith(f"{below}/"))


def recipe_for(bucket: Bucket, below: str) -> dict[str, Any]:
    root = f"s3://{bucket.name}/{below}"
    return {
        "name": "remote",
        "input": {"type": "parquet", "name": "src", "path": f"s3://{bucket.name}/in/*.parquet"},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": f"{root}/one"},
                "operators": [
                    {"id": "count", "kind": "score", "op": "TextStatistics"},
                    {"id": "words", "kind": "filter", "op": "WordCountFilter", "params": {"min_words": 4}},
                ],
            }
        ],
        "output": {"type": "parquet", "path": f"{root}/output", "shard_size": 1},
    }


def drive(recipe: dict[str, Any], *, runner: str = "serial", crash_at: str | None = None) -> Any:
    env = dict(os.environ) | ({"FDF_TEST_CRASH_AT": crash_at} if crash_at else {})
    return subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(recipe), runner],
        env=env, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_a_recipe_on_s3_ends_as_it_does_on_a_local_disk(bucket, tmp_path):
    result = fdf.run(recipe_for(bucket, "run"), runner="serial")
    # Row ids come from names below the declared root, so the local run has the same: compare the bytes themselves.
    local = recipe_for(bucket, "run")
    local["stages"][0]["materialize"]["path"] = str(tmp_path / "local" / "one")
    local["output"]["path"] = str(tmp_path / "local" / "output")
    fdf.run(local, runner="serial")
    on_disk = {
        str(p.relative_to(tmp_path / "local")): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in (tmp_path / "local").rglob("part-*")
    }
    there = bucket.outcome("run")
    assert {k: v for k, v in there.items() if "part-" in k} == on_disk
    assert {k: v for k, v in there.items() if k.endswith("manifest.json")} == {
        str(p.relative_to(tmp_path / "local")): json.loads(p.read_text())["id"]
        for p in (tmp_path / "local").rglob("manifest.json")
    }
    assert result.to_arrow().num_rows == result.manifest["counts"]["rows_out"] > 0


def test_a_run_on_s3_that_is_killed_resumes_with_what_is_missing(bucket, tmp_path):
    fdf.run(recipe_for(bucket, "reference"), runner="serial", run_id="reference")
    recipe = recipe_for(bucket, "killed")
    killed = drive(recipe, runner="serial", crash_at=f"shard-placed:{tmp_path}/once")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = bucket.receipts("killed/one")
    started: list[str] = []
    fdf.run(
        recipe,
        runner="serial",
        on_event=lambda e: started.append(e.stage) if e.kind == "split_started" else None,
    )
    assert started.count("one") == FILES - done
    assert bucket.outcome("killed") == bucket.outcome("reference")


def test_an_appended_object_is_one_new_split(bucket, tmp_path):
    recipe = recipe_for(bucket, "run")
    fdf.run(recipe, runner="serial")
    before = set(bucket.outcome("run"))
    file = tmp_path / "new.parquet"
    pq.write_table(pa.table({"text": ["five words are in here"]}), file)
    bucket.client.upload_file(str(file), bucket.name, "in/0a.parquet")
    started: list[str] = []
    fdf.run(
        recipe,
        runner="serial",
        on_event=lambda e: started.append(e.stage) if e.kind == "split_started" else None,
    )
    assert started == ["one", "output"]
    assert before <= set(bucket.outcome("run"))


def test_no_credential_is_told_anywhere(bucket, tmp_path):
    recipe = recipe_for(bucket, "run")
    ended = drive(recipe, runner="local")
    assert ended.returncode == 0, ended.stderr
    written = dict(bucket.files())
    written |= {str(p): p.read_bytes() for p in Path(os.environ["FDF_HOME"]).rglob("*") if p.is_file()}
    written |= {"stdout": ended.stdout.encode(), "stderr": ended.stderr.encode()}
    assert len(written) > 10
    for place, data in written.items():
        assert SECRET.encode() not in data, place
        assert ACCESS.encode() not in data, place


@pytest.mark.parametrize("part", ["input", "output"])
def test_a_credential_in_a_url_is_refused_and_not_repeated(bucket, part):
    recipe = recipe_for(bucket, "run")
    recipe[part]["path"] = f"s3://{ACCESS}:{SECRET}@{bucket.name}/x"
    with pytest.raises(FdfError) as refused:
        fdf.run(recipe, runner="serial")
    assert refused.value.exit_code == 2
    assert SECRET not in str(refused.value)
    assert not any(SECRET.encode() in p.read_bytes() for p in Path(os.environ["FDF_HOME"]).rglob("*") if p.is_file())


def test_a_bucket_that_is_not_there_is_the_recipes_fault(bucket):
    recipe = recipe_for(bucket, "run")
    recipe["output"]["path"] = "s3://no-such-bucket-of-fdf/out"
    with pytest.raises(FdfError, match="no-such-bucket-of-fdf") as refused:
        fdf.run(recipe, runner="serial")
    assert refused.value.exit_code == 2
