"""Stores that refuse or fail: missing buckets and rights are told as such, and faults cost time, never rows."""

from __future__ import annotations

import hashlib
import io
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import fsspec.config
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fdf
from fdf.stage import worker
from fdf.storage import retry
from fdf.testing.faults import FaultyProxy, faulty_proxy
from fdf.testing.s3 import s3_stand_in

BUCKET = "fdf-bad-input"
FILES = 3
SECRET = "s3cr3t-Of-This-Test-0123456789abcdef"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run a store with a bucket of input files."""
    with s3_stand_in(BUCKET) as address:
        client = boto3.client("s3")
        for number in range(FILES):
            data = io.BytesIO()
            pq.write_table(pa.table({"text": [f"row {number} {'word ' * (i % 6)}" for i in range(50)]}), data)
            client.put_object(Bucket=BUCKET, Key=f"in/{number}.parquet", Body=data.getvalue())
        client.close()
        yield address


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """Let FDF wait less before it tries again; nothing below it tries again."""
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(worker, "FIRST_PAUSE", 0.01)


class Bucket:
    """The bucket past FDF's own code, and past any proxy."""

    def __init__(self, server: str) -> None:
        self._client = boto3.client("s3", endpoint_url=server)

    def objects(self, below: str) -> dict[str, bytes]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{below}/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {
            key.removeprefix(f"{below}/"): self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in keys
        }

    def outcome(self, below: str) -> dict[str, str]:
        """Return every object: of data the sha256, of manifests the id; of receipts and the card only that they are."""
        found = {}
        for name, data in self.objects(below).items():
            if name.endswith("manifest.json"):
                found[name] = json.loads(data)["id"]
            elif "part-" in name:
                found[name] = hashlib.sha256(data).hexdigest()
            else:
                found[name] = "there"
        return found


@pytest.fixture
def bucket(server) -> Bucket:
    return Bucket(server)


def recipe_for(below: str) -> dict[str, Any]:
    return {
        "name": "stores",
        "input": {"type": "parquet", "name": "src", "path": f"s3://{BUCKET}/in/*.parquet"},
        "stages": [
            {
                "name": "one",
                "materialize": {"path": f"s3://{BUCKET}/{below}/one"},
                "operators": [
                    {"id": "words", "kind": "filter", "op": "WordCountFilter", "params": {"min_words": 4}},
                    {"id": "count", "kind": "score", "op": "TextStatistics"},
                ],
            }
        ],
        "output": {"type": "parquet", "path": f"s3://{BUCKET}/{below}/out", "shard_size": 1},
    }


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FDF_HOME", str(tmp_path_factory.mktemp("home")))
        fdf.run(recipe_for("reference"), runner="serial")
    return Bucket(server).outcome("reference")


# --- Buckets and rights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["s3://fdf-no-such/in/*.parquet", "s3://fdf-no-such/in/a.parquet", "s3://fdf-no-such"])
def test_an_input_bucket_that_is_not_there_is_found_before_anything_runs(fdf, bucket, path):
    recipe = recipe_for("nothing")
    recipe["input"]["path"] = path
    fdf.refuses(recipe, code=2, says=["fdf-no-such"])
    assert bucket.objects("nothing") == {}


@pytest.mark.parametrize("part", ["stage", "output"])
def test_a_bucket_to_write_to_that_is_not_there_is_found_before_anything_runs(fdf, bucket, part):
    recipe = recipe_for("nothing")
    place = recipe["output"] if part == "output" else recipe["stages"][0]["materialize"]
    place["path"] = "s3://fdf-no-such/it"
    fdf.refuses(recipe, code=2, says=["the bucket `fdf-no-such`", "does not exist", "create it"])
    assert bucket.objects("nothing") == {}


@pytest.fixture
def strict(server, monkeypatch) -> Iterator[dict[str, str]]:
    """Have the store check signatures and rights; give the key of an account that may do nothing."""
    iam = boto3.client("iam", endpoint_url=server)
    iam.create_user(UserName="guest")
    key = iam.create_access_key(UserName="guest")["AccessKey"]
    _checks(server, after="0")
    yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    _checks(server, after="inf")
    iam.delete_access_key(UserName="guest", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="guest")


def _checks(server: str, *, after: str) -> None:
    plain = {"Content-Type": "text/plain"}
    asked = urllib.request.Request(f"{server}/moto-api/reset-auth", data=after.encode(), headers=plain, method="POST")
    urllib.request.urlopen(asked).close()


@pytest.mark.parametrize("part", ["input", "output"])
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN000000000", "AWS_SECRET_ACCESS_KEY": SECRET}, "InvalidAccessKeyId"),
        ({"AWS_SECRET_ACCESS_KEY": SECRET}, "SignatureDoesNotMatch"),
        ({}, "AccessDenied"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no credentials were found"),
    ],
)
def test_credentials_that_do_not_open_the_store_are_told_with_what_to_set(
    fdf, strict, monkeypatch, *, part, wrong, why
):
    given = strict | wrong
    for name, value in given.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    recipe = recipe_for("nothing")
    if part == "output":
        pq.write_table(pa.table({"text": ["one"]}), fdf.folder / "in.parquet")
        recipe["input"]["path"] = "in.parquet"
    told = fdf.refuses(recipe, code=4, says=[f"s3://{BUCKET}/", why, "set AWS_ACCESS_KEY_ID"])
    assert SECRET not in told
    assert given["AWS_SECRET_ACCESS_KEY"] is None or given["AWS_SECRET_ACCESS_KEY"] not in told


# --- Faults -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(server, monkeypatch) -> Iterator[Any]:
    """Give a function that puts a faulty proxy before the store."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(**settings: Any) -> FaultyProxy:
            proxy = stack.enter_context(faulty_proxy(server, **settings))
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
            return proxy

        yield start


@pytest.mark.parametrize("seed", range(3))
def test_errors_resets_and_lost_answers_now_and_then_change_nothing(fdf, bucket, undisturbed, proxied, seed):
    proxy = proxied(seed=seed, rate=0.25)
    fdf.finishes(recipe_for(f"seed-{seed}"))
    assert sum(proxy.struck.values()) > 10
    assert bucket.outcome(f"seed-{seed}") == undisturbed


def test_faults_change_nothing_for_several_workers_either(fdf, bucket, undisturbed, proxied):
    proxy = proxied(seed=7, rate=0.15)
    fdf.finishes(recipe_for("workers"), "--runner", "local", "--workers", "2")
    assert sum(proxy.struck.values()) > 5
    assert bucket.outcome("workers") == undisturbed


@pytest.mark.parametrize("fault", ["500", "lost"])
def test_a_fault_of_every_first_write_changes_nothing(fdf, bucket, undisturbed, proxied, fault):
    proxy = proxied(rate=1.0, strikes=1, faults=(fault,), methods=frozenset({"PUT"}))
    fdf.finishes(recipe_for(f"every-{fault}"))
    assert proxy.struck[fault] >= len([name for name in undisturbed if "part-" in name or name.endswith(".json")])
    assert bucket.outcome(f"every-{fault}") == undisturbed


def test_writes_whose_answer_comes_too_late_have_been_done_once(fdf, bucket, undisturbed, proxied, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.3}})
    # Shards, receipts, the manifest and the card of the output: each is stored, and each answer is lost to patience.
    proxy = proxied(rate=1.0, strikes=1, faults=("late",), methods=frozenset({"PUT"}), where="/out/", hold=0.6)
    fdf.finishes(recipe_for("late"))
    assert proxy.struck["late"] > 3
    assert bucket.outcome("late") == undisturbed


@pytest.mark.parametrize("until", ["one", None])
def test_a_store_that_goes_away_fails_the_stage_and_when_it_is_back_the_run_goes_on(
    fdf, bucket, undisturbed, proxied, until
):
    below = f"away-{until}"
    stage, place = ("output", f"{below}/out") if until else ("one", f"{below}/one")
    proxy = proxied(rate=1.0, strikes=10**9, faults=("500",), methods=frozenset({"PUT"}), where=place)
    if until:
        fdf.finishes(recipe_for(below), "--until", until)
    told = fdf.refuses(
        recipe_for(below), code=3, says=[f"stage `{stage}`", f"s3://{BUCKET}/{place}/", "run again when"]
    )
    assert f"failed {retry.ATTEMPTS} times" in told
    assert [name for name in bucket.objects(below) if "manifest" in name] == (["one/manifest.json"] if until else [])
    proxy.rate = 0.0
    fdf.finishes(recipe_for(below))
    assert bucket.outcome(below) == undisturbed


def test_a_store_that_cannot_be_listed_fails_the_plan_by_the_input(fdf, bucket, proxied):
    proxied(rate=1.0, strikes=10**9, faults=("500",), where="prefix=in")
    fdf.refuses(
        recipe_for("nothing"),
        code=3,
        says=[f"s3://{BUCKET}/in/*.parquet failed {retry.ATTEMPTS} times", "run again when"],
    )
    assert bucket.objects("nothing") == {}


def test_ranges_of_a_file_are_tried_again_alone(fdf, bucket, undisturbed, proxied):
    # Twice as many tries as a split has would be needed if each fault began its split anew.
    proxy = proxied(rate=1.0, strikes=6, faults=("reset",), methods=frozenset({"GET"}), where="/in/")
    done = fdf.finishes(recipe_for("ranges"), "--json")
    assert proxy.struck["reset"] >= 6
    assert "split_retried" not in done.stdout
    assert bucket.outcome("ranges") == undisturbed


def test_a_store_that_stays_down_is_given_up_by_all_at_once(fdf, bucket, proxied, monkeypatch):
    # Seven waits are longer than the patience at their shortest, and each is shorter than it at its longest.
    monkeypatch.setattr(retry, "PATIENCE", 2.0)
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.2)
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.8)
    proxy = proxied(rate=0.0, strikes=10**9, faults=("500",), where="/in/")
    fdf.finishes(recipe_for("down"), "--until", "one")
    struck_before = sum(proxy.struck.values())
    proxy.rate, proxy.where = 1.0, f"/{BUCKET}"
    told = fdf.refuses(recipe_for("down"), code=3, says=["run again when"])
    assert "nothing has succeeded for" in told
    # Without a common end, the calls around the one that failed would begin it anew.
    assert sum(proxy.struck.values()) - struck_before < 2 * retry.ATTEMPTS
