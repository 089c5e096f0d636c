from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from fdf.errors import MissingDependency, PlanError, TransientError
from fdf.storage import open_store, retry
from fdf.storage.local import LocalStore
from fdf.storage.s3 import S3Store
from fdf.storage.uri import redacted
from fdf.testing.s3 import s3_stand_in
from fdf.testing.stores import StoreConformance


@pytest.fixture(scope="module")
def s3():
    with s3_stand_in("bucket") as address:
        yield address


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: None)


class TestLocalStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path):
        return open_store(str(tmp_path / "run" / "stage"))


class TestLocalStoreWithoutHardLinks(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        return open_store(f"file://{tmp_path}/stage")


class TestS3Store(StoreConformance):
    @pytest.fixture
    def store(self, s3):
        return open_store(f"s3://bucket/{uuid.uuid4().hex}/stage/")


class TestS3StoreForOneWriter(StoreConformance):
    @pytest.fixture
    def store(self, s3, monkeypatch):
        ignore_conditions(monkeypatch)
        store = open_store(f"s3://bucket/{uuid.uuid4().hex}")
        assert not store.probe()
        return store


class TestFsspecStore(StoreConformance):
    @pytest.fixture
    def store(self):
        return open_store(f"memory://{uuid.uuid4().hex}/stage")


def ignore_conditions(monkeypatch):
    """Make the store answer as one that does not know If-None-Match and If-Match."""
    real = S3Store._fs.fget

    class Deaf:
        def __init__(self, fs):
            self._fs = fs

        def __getattr__(self, name):
            return getattr(self._fs, name)

        def call_s3(self, method, **given):
            return self._fs.call_s3(method, **{k: v for k, v in given.items() if not k.startswith("If")})

    monkeypatch.setattr(S3Store, "_fs", property(lambda self: Deaf(real(self))))


def refused(code, status):
    answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


def failing_puts(monkeypatch, *, first, after=True):
    """Make the first PUTs raise, after they were done or instead."""
    real = S3Store._fs.fget
    errors = list(first)

    class Unlucky:
        def __init__(self, fs):
            self._fs = fs

        def __getattr__(self, name):
            return getattr(self._fs, name)

        def call_s3(self, method, **given):
            if method == "put_object" and errors:
                error = errors.pop(0)
                if after:
                    self._fs.call_s3(method, **given)
                raise error
            return self._fs.call_s3(method, **given)

    monkeypatch.setattr(S3Store, "_fs", property(lambda self: Unlucky(real(self))))


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionResetError("reset"), refused("InternalError", 500)])
def test_put_whose_answer_was_lost_has_won(s3, quick, monkeypatch, error):
    store = open_store(f"s3://bucket/{uuid.uuid4().hex}")
    failing_puts(monkeypatch, first=[error])
    assert store.put_if_absent("r.json", b"mine")
    assert store.swap("m.json", b"mine", None)


def test_put_that_never_arrived_is_tried_again(s3, quick, monkeypatch):
    store = open_store(f"s3://bucket/{uuid.uuid4().hex}")
    failing_puts(monkeypatch, first=[TimeoutError("slow"), refused("SlowDown", 503)], after=False)
    assert store.put_if_absent("r.json", b"mine")
    assert store.read("r.json") == b"mine"


def test_put_that_timed_out_behind_another_writer_has_lost(s3, quick, monkeypatch):
    store = open_store(f"s3://bucket/{uuid.uuid4().hex}")
    store.put_if_absent("r.json", b"theirs")
    failing_puts(monkeypatch, first=[TimeoutError("slow")], after=False)
    assert not store.put_if_absent("r.json", b"mine")


def test_fault_that_does_not_pass_is_a_transient_error_at_last(s3, quick, monkeypatch):
    store = open_store(f"s3://bucket/{uuid.uuid4().hex}")
    failing_puts(monkeypatch, first=[refused("ServiceUnavailable", 503)] * 50, after=False)
    with pytest.raises(TransientError, match=r"r\.json failed 8 times"):
        store.put_if_absent("r.json", b"mine")


def test_uploaded_file_of_the_same_size_is_not_sent_again(s3, tmp_path, monkeypatch):
    store = open_store(f"s3://bucket/{uuid.uuid4().hex}")
    (tmp_path / "f").write_bytes(b"12345")
    store.place(tmp_path / "f", "data/f")
    monkeypatch.setattr(type(store._fs), "put_file", None)
    (tmp_path / "f").write_bytes(b"12345")
    store.place(tmp_path / "f", "data/f")
    assert store.read("data/f") == b"12345"


def test_many_objects_are_listed_in_pages_and_deleted_in_batches(s3, monkeypatch):
    store, real, asked = open_store(f"s3://bucket/{uuid.uuid4().hex}"), S3Store._fs.fget, []

    class SmallPages:
        def __init__(self, fs):
            self._fs = fs

        def __getattr__(self, name):
            return getattr(self._fs, name)

        def call_s3(self, method, **given):
            asked.append(method)
            return self._fs.call_s3(method, **given, **({"MaxKeys": 3} if method == "list_objects_v2" else {}))

    monkeypatch.setattr(S3Store, "_fs", property(lambda self: SmallPages(real(self))))
    monkeypatch.setattr("fdf.storage.s3._DELETE_AT_ONCE", 4)
    for i in range(7):
        store.put_if_absent(f"r/{i}", b"")
    paths = [e.path for e in store.list("r")]
    assert sorted(paths) == [f"r/{i}" for i in range(7)]
    assert asked.count("list_objects_v2") == 3
    store.delete(paths)
    assert asked.count("delete_objects") == 2
    assert list(store.list()) == []


def test_missing_bucket_says_what_to_do(s3):
    with pytest.raises(PlanError, match=r"no-such-bucket.*does not exist"):
        open_store("s3://no-such-bucket/x").put_if_absent("a", b"")


def test_refused_credentials_are_an_error_of_the_environment(s3, quick, monkeypatch):
    store = open_store("s3://bucket/x")
    failing_puts(monkeypatch, first=[PermissionError("Access Denied")], after=False)
    with pytest.raises(MissingDependency, match="AWS_ACCESS_KEY_ID") as raised:
        store.put_if_absent("a", b"")
    assert "stand-in-secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:wJalrXUt@bucket/x",
        "s3://wJalrXUt@bucket/x",
        "https://host/x?X-Amz-Signature=wJalrXUt&v=1",
        "gs://bucket/x?access_token=wJalrXUt",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url):
    with pytest.raises(PlanError, match="credentials stand in the URL") as raised:
        open_store(url)
    assert "wJalrXUt" not in str(raised.value)
    assert "wJalrXUt" not in redacted(f"failed at {url} twice")


def test_unknown_protocol_is_an_error_that_names_it():
    with pytest.raises(PlanError, match="weird://bucket/x"):
        open_store("weird://bucket/x").read("a")


def test_scratch_of_a_killed_process_is_swept(tmp_path):
    script = (
        "import os, sys; from fdf.storage import open_store; s = open_store(sys.argv[1]); "
        "(s.scratch() / 'left').write_bytes(b'x'); print(s.scratch(), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    left = done.stdout.strip()
    assert Path(left, "left").exists()
    own = open_store(str(tmp_path)).scratch()
    assert own.exists()
    assert not Path(left).exists()


def test_scratch_of_a_living_process_stays(tmp_path):
    script = (
        "import sys; from fdf.storage import open_store; s = open_store(sys.argv[1]); "
        "(s.scratch() / 'work').write_bytes(b'x'); print(s.scratch(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        theirs = other.stdout.readline().strip()
        open_store(str(tmp_path)).scratch()
        assert Path(theirs, "work").exists()
        other.communicate(timeout=60)
    assert not Path(theirs).exists(), "a process that ends by itself takes its scratch folder with it"


def test_placed_file_from_another_file_system_is_copied(tmp_path, monkeypatch):
    store, real = LocalStore(tmp_path / "stage"), os.link

    def across(source, target):
        if str(source).startswith(str(tmp_path / "elsewhere")):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "link", across)
    (tmp_path / "elsewhere").write_bytes(b"data")
    store.place(tmp_path / "elsewhere", "data/f")
    assert store.read("data/f") == b"data"
    assert not (tmp_path / "elsewhere").exists()


def test_folder_with_unfinished_work_opens_in_other_tools(tmp_path):
    import duckdb
    import polars as pl
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    store = open_store(str(tmp_path))
    for name in ("part-1.parquet", "part-2.parquet"):
        pq.write_table(pa.table({"a": [1, 2]}), store.scratch() / name)
        store.place(store.scratch() / name, name)
    pq.write_table(pa.table({"a": [9] * 5}), store.scratch() / "part-3.parquet")
    store.put_if_absent("__fdf__/manifest.json", b"{}")
    assert ds.dataset(str(tmp_path)).count_rows() == 4
    assert pl.read_parquet(str(tmp_path / "*.parquet")).height == 4
    assert duckdb.sql(f"select count(*) from '{tmp_path}/*.parquet'").fetchall() == [(4,)]
    import datasets

    loaded = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path.parent / "cache"))
    assert loaded.num_rows == 4


def test_store_names_no_credentials_when_pickled(s3):
    assert b"stand-in-secret" not in pickle.dumps(open_store("s3://bucket/x"))


def test_calls_within_calls_do_not_multiply_their_attempts_while_nothing_succeeds(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(retry, "_TROUBLE", retry._Trouble())
    calls = []

    def down():
        calls.append(clock[0])
        raise ConnectionResetError

    def inner():
        return retry.retrying(down, what="inner")

    with pytest.raises(retry.GivenUp, match="nothing has succeeded for"):
        retry.retrying(lambda: retry.retrying(inner, what="middle"), what="outer")
    assert retry.PATIENCE < calls[-1] < retry.PATIENCE + retry.LONGEST_WAIT
    # 8 * 8 * 8 without a common end.
    assert len(calls) < 100


def test_a_success_gives_new_patience(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(retry, "_TROUBLE", retry._Trouble())
    for _ in range(100):
        answers = iter([ConnectionResetError(), ConnectionResetError(), None])

        def now_and_then(answers=answers):
            answer = next(answers)
            if answer is not None:
                raise answer
            return "done"

        assert retry.retrying(now_and_then, what="it") == "done"
        clock[0] += 5
    assert clock[0] > 2 * retry.PATIENCE
