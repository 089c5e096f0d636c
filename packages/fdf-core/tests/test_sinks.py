from __future__ import annotations

import base64
import io
import json
import math
import tarfile
from itertools import pairwise
from urllib.parse import unquote

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdf.errors import PlanError
from fdf.schema import ID, row_bytes
from fdf.sinks.jsonl import JsonlSink
from fdf.sinks.magic import extension_of
from fdf.sinks.parquet import ParquetSink
from fdf.sinks.webdataset import WebdatasetSink
from fdf.sources.webdataset import WebdatasetSource

PNG, JPG = b"\x89PNG\r\n\x1a\n....", b"\xff\xd8\xff\xe0...."
SINKS = [
    ParquetSink(),
    ParquetSink(row_group_bytes=300, compression="none"),
    ParquetSink(row_group_rows=3, compression="zstd", compression_level=9),
    JsonlSink(),
    WebdatasetSink(),
]
ROW = st.fixed_dictionaries(
    {
        ID: st.integers(0, 10**6).map(lambda i: f"0123456789abcdef:{i}"),
        "text": st.none() | st.text(max_size=40),
        "lang": st.none() | st.sampled_from(["en", "de"]),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(width=32),
        "tags": st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3),
        "size": st.none() | st.fixed_dictionaries({"w": st.none() | st.integers(0, 9)}),
        "image": st.none() | st.binary(max_size=30).map(lambda b: PNG + b),
        "ok": st.none() | st.booleans(),
    }
)
SCHEMA = pa.schema(
    [
        (ID, pa.string()),
        ("text", pa.string()),
        ("lang", pa.string()),
        ("n", pa.int64()),
        ("f", pa.float32()),
        ("tags", pa.list_(pa.string())),
        ("size", pa.struct([("w", pa.int32())])),
        ("image", pa.binary()),
        ("ok", pa.bool_()),
    ]
)


def written(sink, batches, schema, **constants):
    stream = io.BytesIO()
    writer = sink.open(stream, sink.stored_schema(schema), constants=constants or None)
    for batch in batches:
        writer.write(batch)
    writer.close()
    return stream.getvalue()


def unpacked(data):
    return pa.CompressedInputStream(pa.BufferReader(data), "zstd").read().decode()


@pytest.mark.parametrize("sink", SINKS, ids=[f"{sink.type}-{number}" for number, sink in enumerate(SINKS)])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, max_size=25), cuts=st.lists(st.integers(0, 25), max_size=6), pad=st.integers(0, 9))
def test_bytes_depend_on_rows_not_on_batches_offsets_or_dictionaries(sink, rows, cuts, pad):
    whole = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    expected = written(sink, [whole] if rows else [], SCHEMA, **{"__fdf__/operator_versions": "{}"})

    # The same rows behind others that are sliced away, cut elsewhere, one column a dictionary, with metadata.
    other = [
        {**row, "text": "other", "n": 1, "tags": ["x"], "image": b"y"}
        for row in (rows or [dict.fromkeys(SCHEMA.names)])
    ]
    padded = pa.Table.from_pylist([*(other * 9)[:pad], *rows, *other[:1]], schema=SCHEMA).combine_chunks()
    lang = padded.column("lang").dictionary_encode()
    shuffled = padded.set_column(2, pa.field("lang", lang.type), lang).replace_schema_metadata({"made": "by hand"})
    borders = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    batches = [
        batch
        for start, stop in pairwise(borders)
        for batch in shuffled.slice((pad if rows else 0) + start, stop - start).to_batches()
    ]
    assert written(sink, batches, shuffled.schema, **{"__fdf__/operator_versions": "{}"}) == expected


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(ROW, max_size=25))
def test_parquet_gives_the_rows_back(rows):
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    data = written(ParquetSink(row_group_rows=4), table.to_batches(), SCHEMA)
    back = pq.read_table(pa.BufferReader(data))
    assert back.schema.equals(SCHEMA)
    assert not back.schema.metadata
    assert repr(back.to_pylist()) == repr(table.to_pylist())


def test_row_group_ends_with_the_row_that_fills_it():
    table = pa.table({"text": ["x" * n for n in (10, 50, 40, 200, 1, 1, 1, 1, 1)]})
    weights = row_bytes(table.to_batches()[0]).tolist()
    limit = sum(weights[:3])
    data = written(
        ParquetSink(row_group_bytes=limit, row_group_rows=4), table.to_batches(max_chunksize=2), table.schema
    )
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    # By bytes after the third row and after the long one, by number after four more, then the rest.
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [3, 1, 4, 1]


def test_ids_are_stored_as_deltas_that_every_reader_reads(tmp_path):
    ids = [f"0123456789abcdef:{i * 37}" for i in range(5000)]
    table = pa.table({ID: pa.array(ids).dictionary_encode(), "image": pa.array([PNG] * 5000)})
    path = tmp_path / "part.parquet"
    path.write_bytes(written(ParquetSink(), table.to_batches(), table.schema))
    group = pq.ParquetFile(path).metadata.row_group(0)
    assert "DELTA_BYTE_ARRAY" in group.column(0).encodings
    assert not any("DICTIONARY" in e for i in (0, 1) for e in group.column(i).encodings)
    assert pq.read_table(path).column(ID).to_pylist() == ids
    assert pl.read_parquet(path)[ID].to_list() == ids
    assert [row[0] for row in duckdb.sql(f"select \"{ID}\" from '{path}'").fetchall()] == ids
    import datasets

    loaded = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert loaded[ID][:] == ids


def test_shard_without_rows_is_a_file_with_the_schema():
    assert pq.read_table(pa.BufferReader(written(ParquetSink(), [], SCHEMA))).schema.equals(SCHEMA)
    assert unpacked(written(JsonlSink(), [], SCHEMA)) == ""
    with tarfile.open(fileobj=io.BytesIO(written(WebdatasetSink(), [], SCHEMA))) as tar:
        assert tar.getmembers() == []


def test_constant_column_stands_in_every_row():
    rows = [pa.RecordBatch.from_pylist([{"text": "a"}, {"text": "b"}])]
    versions = {"__fdf__/operator_versions": '{"x": "1"}'}
    table = pq.read_table(pa.BufferReader(written(ParquetSink(), rows, rows[0].schema, **versions)))
    assert table.column("__fdf__/operator_versions").to_pylist() == ['{"x": "1"}'] * 2
    lines = unpacked(written(JsonlSink(), rows, rows[0].schema, **versions)).splitlines()
    assert json.loads(lines[1]) == {"text": "b", **versions}
    with tarfile.open(fileobj=io.BytesIO(written(WebdatasetSink(), rows, rows[0].schema, **versions))) as tar:
        assert json.load(tar.extractfile("000000001.json")) == versions


@pytest.mark.parametrize("sink", [ParquetSink(), JsonlSink(), WebdatasetSink()])
def test_column_that_stands_twice_is_a_plan_error(sink):
    with pytest.raises(PlanError, match=r"\['a'\] stand twice"):
        sink.stored_schema(pa.schema([("a", pa.int8()), ("a", pa.int8())]))


def test_type_that_parquet_cannot_hold_is_a_plan_error_that_names_the_column():
    with pytest.raises(PlanError, match="column `empty`"):
        ParquetSink().stored_schema(pa.schema([("fine", pa.int8()), ("empty", pa.struct([]))]))


def test_json_lines_hold_what_json_can():
    batch = pa.record_batch(
        {
            "text": ['é "quoted"\n\u2028', None],
            "f": pa.array([math.nan, -math.inf]),
            "image": [PNG, None],
            "day": pa.array([0, None], pa.date32()),
            "at": pa.array([0, None], pa.timestamp("us", "UTC")),
            "big": pa.array([2**64 - 1, 0], pa.uint64()),
            "size": [{"w": 1}, {"w": None}],
        }
    )
    first, second = map(json.loads, unpacked(written(JsonlSink(), [batch], batch.schema)).rstrip("\n").split("\n"))
    assert first["text"] == 'é "quoted"\n\u2028'
    assert first["f"] is None
    assert second["f"] is None
    assert base64.b64decode(first["image"]) == PNG
    assert first["day"] == "1970-01-01"
    assert first["at"].startswith("1970-01-01T00:00:00")
    assert first["big"] == 2**64 - 1
    assert first["size"] == {"w": 1}
    assert second["text"] is second["image"] is second["day"] is None


def test_bytes_within_lists_are_a_plan_error_for_json():
    with pytest.raises(PlanError, match="column `pages`"):
        JsonlSink().stored_schema(pa.schema([("pages", pa.list_(pa.binary()))]))


def test_json_lines_are_one_zstd_frame():
    rows = pa.RecordBatch.from_pydict({"text": [f"{i}" * 300 for i in range(70_000)]})
    data = written(JsonlSink(), [rows], rows.schema)
    assert data.startswith(b"\x28\xb5\x2f\xfd")
    assert unpacked(data).count("\n") == 70_000
    # Polars reads the first frame only where there are several.
    assert pl.read_ndjson(io.BytesIO(data)).height == 70_000


def test_webdataset_sample_has_text_json_and_media_members():
    batch = pa.record_batch(
        {
            ID: ["00ff:7", "00ff:8/gen.x/0", "00ff:9#1"],
            "text": ["caption", None, ""],
            "image": [PNG, JPG, None],
            "mask": [None, PNG, None],
            "score": [0.5, None, 1.0],
        }
    )
    with tarfile.open(fileobj=io.BytesIO(written(WebdatasetSink(), [batch], batch.schema))) as tar:
        members = tar.getmembers()
        contents = {m.name: tar.extractfile(m).read() for m in members}
    keys = list(dict.fromkeys(m.name.split(".")[0] for m in members))
    assert [unquote(k) for k in keys] == ["00ff:7", "00ff:8/gen.x/0", "00ff:9#1"]
    assert [m.name.split(".", 1)[1] for m in members] == [
        "json",
        "png",
        "txt",
        "jpg",
        "json",
        "mask.png",
        "json",
        "txt",
    ]
    assert contents[f"{keys[0]}.txt"] == b"caption"
    assert contents[f"{keys[1]}.jpg"] == JPG
    assert json.loads(contents[f"{keys[0]}.json"]) == {ID: "00ff:7", "score": 0.5}
    assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o644)}


def test_webdataset_comes_back_through_its_source(tmp_path):
    keys = ["0001", "deep/er.dir/0002", "0001", "../../etc/passwd", "/abs", "a.b", "x" * 150, "é"]
    batch = pa.record_batch(
        {"__key__": keys, "text": [f"t{i}" for i in range(8)], "image": [PNG] * 8, "n": list(range(8))}
    )
    (tmp_path / "a.tar").write_bytes(written(WebdatasetSink(), [batch], batch.schema))
    source = WebdatasetSource(path=str(tmp_path))
    (split,) = source.splits()
    (got,) = source.read(split.slices[0], schema=source.physical_schema())
    rows = got.rows.to_pylist()
    assert not got.rejects
    assert [r["text"] for r in rows] == [f"t{i}" for i in range(8)]
    assert [json.loads(r["json"])["n"] for r in rows] == list(range(8))
    assert all(r["image"] == PNG for r in rows)
    read = [r["__key__"] for r in rows]
    assert len(set(read)) == 8, "a key that came twice has become two samples"
    assert [read[i] for i in (0, 1, 6, 7)] == [keys[i] for i in (0, 1, 6, 7)]
    assert not any(k.startswith("/") or ".." in k.split("/") for k in read)


def test_two_columns_for_the_one_media_member_are_a_plan_error():
    with pytest.raises(PlanError, match=r"image.*audio"):
        WebdatasetSink().stored_schema(pa.schema([("image", pa.binary()), ("audio", pa.binary())]))


@pytest.mark.parametrize(
    ("start", "extension"),
    [
        (PNG, "png"),
        (JPG, "jpg"),
        (b"RIFF....WEBPVP8 ", "webp"),
        (b"RIFF....WAVEfmt ", "wav"),
        (b"....ftypisom", "mp4"),
        (b"", "bin"),
        (b"plain", "bin"),
    ],
)
def test_format_is_known_by_its_first_bytes(start, extension):
    assert extension_of(start) == extension


@settings(max_examples=10, deadline=None)
@given(borders=st.lists(st.integers(0, 5000), max_size=6))
def test_parquet_bytes_of_many_rows_do_not_depend_on_batches(borders):
    numbers = np.arange(5000)
    table = pa.table(
        {
            "text": pc.utf8_slice_codeunits(pa.array(["some words to cut"] * 5000), 0, 9),
            "many": pa.array([[str(n)] * int(n % 7) for n in numbers], pa.list_(pa.string())),
            "part": pa.array([None if n % 5 == 0 else {"n": int(n), "s": "x" * int(n % 11)} for n in numbers]),
            "long": pa.array([f"{n:09}" * 40 for n in numbers]),
        }
    )
    (whole,) = table.combine_chunks().to_batches()
    edges = sorted({0, 5000, *borders})
    parts = [whole.slice(start, stop - start) for start, stop in pairwise(edges)]
    assert written(ParquetSink(), parts, table.schema) == written(ParquetSink(), [whole], table.schema)
