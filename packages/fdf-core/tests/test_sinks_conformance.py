from __future__ import annotations

import io
import json
import tarfile
from itertools import groupby
from urllib.parse import unquote

import polars as pl
import pyarrow as pa

from fdf.schema import ID
from fdf.sinks.jsonl import JsonlSink
from fdf.sinks.parquet import ParquetSink
from fdf.sinks.webdataset import WebdatasetSink
from fdf.testing.sinks import SinkConformance


class TestParquetSink(SinkConformance):
    sink = ParquetSink()

    def read_back(self, data):
        return pl.read_parquet(io.BytesIO(data)).to_dicts()


class TestParquetSinkInSmallRowGroups(TestParquetSink):
    sink = ParquetSink(row_group_rows=7, compression="none")


class TestJsonlSink(SinkConformance):
    sink = JsonlSink()

    def read_back(self, data):
        text = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read().decode()
        return [json.loads(line) for line in text.split("\n") if line]


class TestWebdatasetSink(SinkConformance):
    sink = WebdatasetSink()

    def read_back(self, data):
        rows = []
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for key, members in groupby(tar.getmembers(), lambda member: member.name.split(".")[0]):
                parts = {m.name.split(".", 1)[1]: tar.extractfile(m).read() for m in members}
                row = json.loads(parts.pop("json"))
                row.update({"text": parts.pop("txt").decode()} if "txt" in parts else {})
                assert parts == {}
                assert row[ID] == unquote(key)
                rows.append(row)
        return rows
