"""The `huggingface` source against a stand-in hub: what is found, how it is read, what is said where it cannot be."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import struct
import sys
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fdf.errors import MissingDependency, PlanError, TransientError
from fdf.recipe import load
from fdf.sources.huggingface.fetching import fetched
from fdf.sources.huggingface.source import HubSource
from fdf.sources.naming import resolve_columns
from fdf.sources.parquet import ParquetSource
from fdf.testing.hub import TOKEN, hub_stand_in
from fdf.testing.sources import SourceConformance, rows_of

pytest.importorskip("huggingface_hub")

TABLE = pa.table(
    {
        "content": [f"text {i} é" if i % 5 else None for i in range(200)],
        "n": pa.array(range(200), pa.int32()),
        "tags": [["x", None] if i % 3 else [] for i in range(200)],
    }
)
LINES = "".join(json.dumps({"text": f"line {i}", "n": i}) + "\n" for i in range(50))


def parquet(table=TABLE, **more) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **more)
    return file.getvalue()


def tar(count: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for i in range(count):
            for extension, data in (("jpg", b"\xff\xd8" + bytes([i])), ("txt", f"caption {i}".encode())):
                info = tarfile.TarInfo(f"{i:04d}.{extension}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("fdf.storage.retry.FIRST_WAIT", 0.001)
    with hub_stand_in(tmp_path) as hub:
        yield hub


def read(source: HubSource) -> list[dict]:
    return list(rows_of(source, source.physical_schema())[0].values())


class TestParquetOfTheHubStreamed(SourceConformance):
    @pytest.fixture
    def source(self, hub):
        files = {f"data/train-0000{i}-of-00002.parquet": parquet(row_group_size=30) for i in (0, 1)}
        hub.dataset("a/b").commit(files | {"README.md": "# A card", "data/test-00000-of-00001.parquet": b"no parquet"})
        return HubSource(path="a/b", streaming=True)


class TestLinesOfTheHubFetched(SourceConformance):
    @pytest.fixture
    def source(self, hub):
        bad = LINES + '{"n": "no number"}\nnull\n'
        hub.dataset("a/b").commit({"train.jsonl": bad, "deep/train-1.jsonl.gz": gzip.compress(LINES.encode())})
        return HubSource(path="a/b")


class TestPreparedByDatasets(SourceConformance):
    @pytest.fixture
    def source(self, hub):
        pytest.importorskip("datasets")
        hub.dataset("a/b").commit({"train.json": json.dumps(TABLE.to_pylist())})
        return HubSource(path="a/b")


class TestSavedToDisk(SourceConformance):
    @pytest.fixture
    def source(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        datasets.Dataset(TABLE).save_to_disk(tmp_path / "saved", num_shards=2)
        return HubSource(path=str(tmp_path / "saved"))


@pytest.mark.parametrize("streaming", [True, False])
def test_the_datasets_of_the_vlm_recipe_are_read(hub, streaming):
    texts = pa.table({"content": ["a", "b"], "url": ["u", "v"], "timestamp": [1, 2]})
    hub.dataset("tiiuae/falcon-refinedweb").commit({"data/train-00000-of-00001-f00.parquet": parquet(texts)})
    pairs = pa.table({"URL": ["u"], "TEXT": ["caption"], "SAMPLE_ID": [7]})
    hub.dataset("laion/laion2B-en").commit({"part-00000-f00.snappy.parquet": parquet(pairs)})

    def named(path, **more):
        source = HubSource(path=path, streaming=streaming, **more)
        naming = dict(resolve_columns(source.physical_schema(), source.columns).pairs)
        return [{new: row[old] for new, old in naming.items()} for row in read(source)]

    assert [(r["text"], r["url"]) for r in named("tiiuae/falcon-refinedweb")] == [("a", "u"), ("b", "v")]
    assert named("laion/laion2B-en") == [{"url": "u", "text": "caption", "SAMPLE_ID": 7}]
    renamed = named("tiiuae/falcon-refinedweb", columns={"text": "content", "link": "url"})
    assert renamed[0] == {"text": "a", "link": "u"}


def test_streamed_files_leave_no_copy_and_only_what_is_needed_is_asked_for(hub, tmp_path):
    wide = pa.table({"text": ["x"] * 20_000, "blob": [bytes([i % 251]) * 100 for i in range(20_000)]})
    content = parquet(wide, compression="none", use_dictionary=False)
    hub.dataset("a/b").commit({"train.parquet": content})
    source = HubSource(path="a/b", streaming=True)
    rows, _ = rows_of(source, pa.schema([("text", pa.string())]))
    assert len(rows) == 20_000
    ranges = [tuple(map(int, r.range.split("-"))) for r in hub.asked("^GET /objects/")]
    assert sum(stop - start + 1 for start, stop in ranges) < len(content) / 4
    assert not [p for p in (tmp_path / "hf-home").rglob("*") if p.is_file() and p.stat().st_size >= len(content)]


def test_ranges_of_a_file_come_from_where_the_hub_sent_the_first(hub):
    hub.dataset("a/b").commit({"data/train-00000-of-00001.parquet": parquet(row_group_size=20)})
    source = HubSource(path="a/b", streaming=True)
    schema, (split,) = source.physical_schema(), source.splits()
    expected = [b.rows.num_rows for b in source.read(split.slices[0], schema=schema)]
    hub.forget()
    assert [b.rows.num_rows for b in source.read(split.slices[0], schema=schema)] == expected
    assert len(hub.asked("^GET .*/resolve/")) == 1
    assert len(hub.asked("^GET /objects/")) > 5
    # An address that is too old is asked for again.
    hub.forget()
    batches = source.read(split.slices[0], schema=schema)
    first = next(batches)
    hub.fail("^GET /objects/", times=1, status=403)
    assert [first.rows.num_rows, *(b.rows.num_rows for b in batches)] == expected
    assert len(hub.asked("^GET .*/resolve/")) == 2


def test_fetched_files_come_once_and_not_again_with_another_commit(hub):
    repository = hub.dataset("a/b")
    repository.commit({"data/train-00000-of-00001.parquet": parquet()})
    assert len(read(HubSource(path="a/b"))) == 200
    whole = [r for r in hub.asked("^GET /objects/") if r.range is None]
    assert len(whole) == 1
    repository.commit({"data/more.txt": "x"})
    assert len(read(HubSource(path="a/b"))) == 200
    assert [r for r in hub.asked("^GET /objects/") if r.range is None] == whole


def test_workers_that_need_one_file_at_once_download_it_once(hub):
    hub.dataset("a/b").commit({"train.jsonl.gz": gzip.compress(LINES.encode())})
    (file,) = HubSource(path="a/b").files()
    hub.slow("^GET /objects/", times=9, seconds=0.5)
    with ThreadPoolExecutor(4) as workers:
        local = {f.uri for f in workers.map(fetched, [file] * 4)}
    assert len(local) == 1
    assert len(hub.asked("^GET /objects/")) == 1


def test_workers_look_nothing_up(hub):
    hub.dataset("a/b").commit({"train.jsonl": LINES})
    source = HubSource(path="a/b", streaming=True)
    schema, (split,) = source.physical_schema(), source.splits()
    worker = pickle.loads(pickle.dumps(source))
    hub.forget()
    batches = list(worker.read(split.slices[0], schema=schema))
    assert sum(b.rows.num_rows for b in batches) == 50
    routes = {f"{r.method} {r.path.split('?')[0]}" for r in hub.requests}
    commit = source.pins()["commit"]
    # One for the file's size; the tree is not listed and no branch is resolved.
    assert routes <= {f"POST /api/datasets/a/b/paths-info/{commit}", f"GET /datasets/a/b/resolve/{commit}/train.jsonl"}


def test_a_revision_is_resolved_once_and_kept(hub):
    repository = hub.dataset("a/b")
    first = repository.commit({"train.jsonl": '{"n": 1}\n'})
    repository.tags["v1"] = first
    source = HubSource(path="a/b")
    assert source.pins() == {"path": "a/b", "repository": "a/b", "revision": "main", "commit": first,
                             "format": "jsonl"}  # fmt: skip
    second = repository.commit({"train.jsonl": '{"n": 2}\n', "extra/train.jsonl": '{"n": 3}\n'})
    assert read(source) == [{"n": 1}]
    assert read(HubSource(path="a/b").pinned(json.loads(json.dumps(source.pins())))) == [{"n": 1}]
    hub.forget()
    listed = HubSource(path="a/b").pinned(source.pins()).listed(source.files())
    assert [f.path for f in listed.files()] == ["train.jsonl"]
    assert (listed.indexed, listed.options()) == (True, source.options())
    assert hub.requests == []
    assert read(HubSource(path="a/b")) == [{"n": 3}, {"n": 2}]
    for revision in ("v1", first, first[:9]):
        assert HubSource(path="a/b", revision=revision).pins()["commit"] == first
    assert HubSource(path="a/b", revision=second).pins()["commit"] == second


def test_a_file_that_a_commit_leaves_alone_keeps_its_version(hub):
    repository = hub.dataset("a/b")
    repository.commit({"train/a.jsonl": LINES, "train/b.parquet.jsonl": LINES, "train/c.jsonl.gz": gzip.compress(b"")})

    def versions():
        return {f.path: f.version for f in HubSource(path="a/b").files()}

    before = versions()
    repository.commit({"train/a.jsonl": LINES + LINES})
    after = versions()
    assert {path for path in before if before[path] != after[path]} == {"train/a.jsonl"}


def test_formats_are_read_as_by_their_own_sources(hub):
    for name, content in {
        "jsonl.gz": gzip.compress(LINES.encode()),
        "csv": "text,n\n" + "".join(f"line {i},{i}\n" for i in range(50)),
        "txt": "".join(f"line {i}\n" for i in range(50)),
        "json": LINES,
    }.items():
        hub.dataset(f"a/{name.replace('.', '-')}").commit({f"train.{name}": content})
        rows = read(HubSource(path=f"a/{name.replace('.', '-')}"))
        assert [r["text"] for r in rows] == [f"line {i}" for i in range(50)]
    hub.dataset("a/tar").commit({"shards/train/0.tar": tar(3), "shards/train/1.tar": tar(2)})
    for streaming in (True, False):
        rows = read(HubSource(path="a/tar", streaming=streaming))
        assert [r["text"] for r in rows] == [f"caption {i}" for i in (0, 1, 2, 0, 1)]
        assert rows[1]["image"] == b"\xff\xd8\x01"


@pytest.mark.parametrize("name", ["train é ü.jsonl", "train@v1#2?.jsonl", "train%20a+b.jsonl", "train [1]*.jsonl"])
@pytest.mark.parametrize("streaming", [True, False])
def test_odd_names_are_files_like_others(hub, name, streaming):
    hub.dataset("a/b").commit({f"data/{name}": LINES})
    source = HubSource(path="a/b", streaming=streaming)
    assert len(read(source)) == 50
    assert [f.path for f in source.files()] == [f"data/{name}"]


def test_one_packed_list_is_no_lines(hub):
    pytest.importorskip("datasets")
    hub.dataset("a/b").commit({"train.json.gz": gzip.compress(json.dumps([{"n": 1}, {"n": 2}]).encode())})
    assert read(HubSource(path="a/b")) == [{"n": 1}, {"n": 2}]


def test_a_local_folder_is_read_like_a_repository(tmp_path, monkeypatch):
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / "data" / "train-0.jsonl").write_text('{"n": 1}\n')
    (tmp_path / "set" / "data" / "test-0.jsonl").write_text('{"n": 2}\n')
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / "set"), "./set", "set"):
        source = HubSource(path=path, split="test")
        assert read(source) == [{"n": 2}]
        assert [f.path for f in source.files()] == ["data/test-0.jsonl"]
        assert source.pins() == {"path": path, "format": "jsonl"}
    with pytest.raises(PlanError, match="does not exist"):
        HubSource(path="./gone").physical_schema()
    with pytest.raises(PlanError, match="no revision `v1`"):
        HubSource(path="set", revision="v1").physical_schema()


def test_a_saved_dataset_on_the_hub_is_read(hub, tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict(train=datasets.Dataset(TABLE), held=datasets.Dataset(TABLE.slice(190))).save_to_disk(
        tmp_path / "saved"
    )
    hub.dataset("a/b").commit_folder(tmp_path / "saved")
    assert len(read(HubSource(path="a/b"))) == 200
    assert [r["n"] for r in read(HubSource(path="a/b", split="held", streaming=True))] == list(range(190, 200))


def picture(shade: int) -> bytes:
    """Return a PNG of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes([0, shade]))) + chunk(b"IEND", b"")


def test_pictures_without_pillow_say_what_is_missing(hub, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "PIL_AVAILABLE", False)
    hub.dataset("a/b").commit({"train/cat/1.png": picture(1), "train/dog/2.png": picture(2)})
    with pytest.raises(MissingDependency, match="Pillow"):
        HubSource(path="a/b").physical_schema()


def test_pictures_in_folders_come_with_their_bytes(hub):
    pytest.importorskip("datasets")
    pytest.importorskip("PIL")
    pictures = {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": picture(i) for i in range(6)}
    hub.dataset("a/b").commit({**pictures, "test/cat/9.png": picture(9)})
    wanted = sorted((path.split("/")[1] == "dog", content) for path, content in pictures.items())
    prepared = HubSource(path="a/b")
    assert prepared.indexed
    assert sorted((bool(r["label"]), r["image"]["bytes"]) for r in read(prepared)) == wanted
    streamed = HubSource(path="a/b", streaming=True)
    assert not streamed.indexed
    schema = streamed.physical_schema()
    rows = [row for batch in streamed.stream(schema=schema, start=0) for row in batch.rows.to_pylist()]
    assert sorted((bool(r["label"]), r["image"]["bytes"]) for r in rows) == wanted


def test_what_was_prepared_on_another_machine_is_prepared_again(hub, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    hub.dataset("a/b").commit({"train.json": json.dumps([{"n": n} for n in range(10)])})
    source = HubSource(path="a/b")
    schema, (split,) = source.physical_schema(), source.splits()
    worker = pickle.loads(pickle.dumps(source))
    hub.dataset("a/b").commit({"train.json": json.dumps([{"n": -1}])})
    shutil.rmtree(datasets.config.HF_DATASETS_CACHE)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "elsewhere")
    (batch,) = worker.read(split.slices[0], schema=schema)
    assert batch.rows.column("n").to_pylist() == list(range(10))
    assert batch.positions.to_pylist() == list(range(10))


def test_a_stream_goes_on_with_the_same_rows_under_the_same_numbers(hub):
    pytest.importorskip("datasets")
    for i, part in enumerate((range(1500), range(1500, 2500))):
        hub.dataset("a/b").commit({f"train-{i}.json": json.dumps([{"n": n, "text": str(n)} for n in part])})
    source = HubSource(path="a/b", streaming=True)
    schema = source.physical_schema()

    def stream(start, columns=schema):
        batches = list(source.stream(schema=columns, start=start))
        assert all(b.rows.schema.equals(columns) for b in batches)
        numbers = [n for b in batches for n in b.positions.to_pylist()]
        return numbers, [row for b in batches for row in b.rows.to_pylist()]

    numbers, rows = stream(0)
    assert numbers == list(range(2500))
    assert [r["n"] for r in rows] == numbers
    hub.dataset("a/b").commit({"train-0.json": json.dumps([{"n": 0, "text": "another"}])})
    assert stream(1700) == (numbers[1700:], rows[1700:])
    assert stream(2499, pa.schema([("text", pa.string())])) == ([2499], [{"text": "2499"}])
    assert stream(0, pa.schema([]))[0] == numbers
    worker = pickle.loads(pickle.dumps(source))
    assert worker.pins() == source.pins()
    hub.forget()
    assert sum(b.rows.num_rows for b in worker.stream(schema=schema, start=2000)) == 500
    assert not hub.asked("/api/datasets/a/b/revision/main")


def test_a_stream_outlives_faults_that_pass(hub):
    pytest.importorskip("datasets")
    hub.dataset("a/b").commit({"train.json": json.dumps([{"n": n} for n in range(100)])})
    source = HubSource(path="a/b", streaming=True)
    schema = source.physical_schema()
    for pattern, status in (("^GET .*train.json", 503), ("^GET .*train.json", 0), ("/tree/|/revision/", 502)):
        hub.fail(pattern, times=1, status=status)
    rows = [row for batch in source.stream(schema=schema, start=10) for row in batch.rows.to_pylist()]
    assert [row["n"] for row in rows] == list(range(10, 100))


def test_what_is_not_there_is_told_with_what_is(hub):
    repository = hub.dataset("a/b")
    repository.tags["v1"] = repository.commit({"data/train.jsonl": LINES, "data/test.jsonl": LINES})
    for options, message in (
        ({"split": "tset"}, r"no split `tset`(.|\n)*did you mean `test`(.|\n)*it has: train, test"),
        ({"config": "en"}, r"no config `en`"),
        ({"revision": "mian"}, r"no revision `mian`(.|\n)*did you mean `main`(.|\n)*it has: main, v1"),
        ({"path": "a/none"}, r"no dataset `a/none`(.|\n)*HF_TOKEN"),
        ({"path": "a//b"}, r"does not exist"),
        ({"path": "a/b", "data_files": "x.jsonl"}, r"no file x\.jsonl"),
    ):
        with pytest.raises(PlanError, match=message):
            HubSource(**{"path": "a/b", **options}).physical_schema()


def test_a_commit_that_is_gone_is_told(hub):
    hub.dataset("a/b").commit({"train.jsonl": LINES})
    source = HubSource(path="a/b")
    source = source.pinned({**source.pins(), "commit": "0" * 40})
    with pytest.raises(PlanError, match=r"no revision `0{40}`(.|\n)*--fresh"):
        source.physical_schema()


def test_what_may_not_be_read_asks_for_a_token(hub, monkeypatch):
    for name in ("a/gated", "a/private"):
        hub.dataset(name).commit({"train.jsonl": LINES, "README.md": "# Card"})
    hub.dataset("a/gated").gated = hub.dataset("a/private").private = True
    with pytest.raises(MissingDependency, match=r"gated(.|\n)*HF_TOKEN"):
        HubSource(path="a/gated").physical_schema()
    with pytest.raises(PlanError, match=r"private(.|\n)*HF_TOKEN"):
        HubSource(path="a/private").physical_schema()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in ("a/gated", "a/private"):
        for streaming in (True, False):
            assert len(read(HubSource(path=name, streaming=streaming))) == 50


def test_a_gate_that_closes_is_told_while_reading(hub):
    hub.dataset("a/b").commit({"train.jsonl": LINES})
    source = HubSource(path="a/b", streaming=True)
    schema, (split,) = source.physical_schema(), source.splits()
    hub.dataset("a/b").gated = True
    with pytest.raises(MissingDependency, match=r"gated(.|\n)*HF_TOKEN"):
        list(source.read(split.slices[0], schema=schema))


@pytest.mark.parametrize("streaming", [True, False])
def test_faults_that_pass_are_not_seen(hub, streaming):
    hub.dataset("a/b").commit({"data/train-00000-of-00001.parquet": parquet(row_group_size=20), "README.md": "# Card"})
    expected = read(HubSource(path="a/b", streaming=streaming))
    for pattern, status in (("api/.*/revision", 503), ("/tree/", 429), ("/README.md", 500), ("/objects/", 0),
                            ("^GET .*/resolve/.*parquet", 502), ("/paths-info/", 503)):  # fmt: skip
        hub.fail(pattern, times=2, status=status)
    assert read(HubSource(path="a/b", streaming=streaming)) == expected


def test_a_hub_that_stays_away_is_a_fault_that_may_pass(hub):
    hub.dataset("a/b").commit({"train.jsonl": LINES})
    hub.fail("revision", times=100)
    with pytest.raises(TransientError, match=r"the dataset a/b on the hub \(http.*503"):
        HubSource(path="a/b").physical_schema()
    hub.close()
    with pytest.raises(TransientError, match="the dataset a/b on the hub"):
        HubSource(path="a/b").physical_schema()


def test_a_hub_that_is_switched_off_is_not_waited_for(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingDependency, match=r"HF_HUB_OFFLINE(.|\n)*local folder"):
        HubSource(path="a/b").physical_schema()


def test_a_recipe_is_checked_without_the_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    recipe = {"name": "x", "input": {"type": "huggingface", "path": "a/b", "streaming": True}}
    loaded = load({**recipe, "output": {"type": "parquet", "path": "out"}})
    assert loaded.input.source == HubSource(path="a/b", streaming=True)


def test_without_its_client_the_source_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"pip install .fdf-core\[huggingface\]"):
        HubSource(path="a/b").physical_schema()


def test_any_source_reads_files_of_the_hub_at_a_commit(hub):
    files = {f"deep/{i}.parquet": parquet(TABLE.slice(i * 50, 50)) for i in range(4)} | {"deep/er/x.txt": "x"}
    commit = hub.dataset("a/b").commit(files)
    for path in ("deep", "deep/*.parquet", "**/*.parquet"):
        source = ParquetSource(path=f"hf://datasets/a/b@{commit}/{path}")
        assert [r["n"] for r in rows_of(source, source.physical_schema())[0].values()] == list(range(200))
        hub.dataset("a/b").commit({"deep/0.parquet": parquet(TABLE)})
    with pytest.raises(PlanError, match="does not exist"):
        ParquetSource(path=f"hf://datasets/a/b@{commit}/shallow").physical_schema()
    # A branch moves: what was listed of it is not believed a second time.
    for rows in (350, 360):
        hub.dataset("a/b").commit({"deep/1.parquet": parquet(TABLE.slice(0, rows - 300))})
        source = ParquetSource(path="hf://datasets/a/b/deep")
        assert sum(source.count_rows(split.slices[0], at_most=999) for split in source.splits()) == rows
