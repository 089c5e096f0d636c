from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fdf
from fdf.errors import BadFile, PlanError
from fdf.sources.arrow import ArrowSource
from fdf.sources.base import InputFile
from fdf.sources.conform import conform, positions_from, unify
from fdf.sources.delimited import CsvSource
from fdf.sources.files import FilesSource
from fdf.sources.grouping import grouped
from fdf.sources.jsonl import JsonlSource
from fdf.sources.lines import line_blocks
from fdf.sources.memory import MemorySource
from fdf.sources.naming import resolve_columns, types_of
from fdf.sources.parquet import ParquetSource
from fdf.sources.text import TextSource
from fdf.sources.webdataset import WebdatasetSource
from fdf.testing.sources import rows_of

DATA = Path(os.environ.get("FDF_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real data here")


def everything(source):
    rows, rejects = rows_of(source, source.physical_schema())
    return [rows[k] for k in sorted(rows)], [rejects[k] for k in sorted(rejects)]


def paths(source):
    return [f.path for f in source.files()]


class TestListing:
    @pytest.fixture
    def tree(self, tmp_path):
        names = (
            "a.parquet",
            "x/b.PARQUET",
            "x/y/c.pq",
            "_tmp/d.parquet",
            ".hid/e.parquet",
            "x/_f.parquet",
            "x/note.txt",
        )
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    def test_folder_gives_fitting_files_below_it_but_hidden_ones(self, tree):
        assert paths(ParquetSource(path=str(tree))) == ["a.parquet", "x/b.PARQUET", "x/y/c.pq"]

    def test_glob_gives_what_it_matches_relative_to_its_fixed_part(self, tree):
        assert paths(ParquetSource(path=f"{tree}/x/**/*.p*")) == ["y/c.pq"]
        assert paths(ParquetSource(path=f"{tree}/**/*.parquet")) == ["a.parquet"]

    def test_file_named_outright_is_taken_whatever_its_name(self, tree):
        assert paths(ParquetSource(path=f"{tree}/x/_f.parquet")) == ["_f.parquet"]

    def test_hidden_folder_above_the_root_hides_nothing(self, tree):
        assert paths(ParquetSource(path=f"{tree}/.hid/*.parquet")) == ["e.parquet"]

    def test_list_of_paths_gives_each_file_once_under_its_own_path(self, tree):
        source = ParquetSource(path=[f"{tree}/x/b.PARQUET", f"{tree}/a.parquet", f"{tree}/x/*.PARQUET"])
        assert paths(source) == ["a.parquet", "x/b.PARQUET"]

    def test_file_whose_name_holds_magic_is_found(self, tree):
        (tree / "part[1].parquet").write_bytes(b"x")
        assert paths(ParquetSource(path=f"{tree}/part[1].parquet")) == ["part[1].parquet"]

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("gone/a.parquet", "gone/a.parquet does not exist"),
            ("x/*.csv", r"no file matches .*x/\*\.csv"),
            ("x/y/z/*.parquet", "no file matches"),
            ("_tmp", "holds no file that ends in"),
        ],
    )
    def test_nothing_there_is_a_plan_error_that_names_it(self, tree, path, message):
        (tree / "_tmp" / "d.parquet").unlink()
        with pytest.raises(PlanError, match=message):
            list(ParquetSource(path=f"{tree}/{path}").splits())

    def test_missing_path_names_the_nearest_folder(self, tree):
        with pytest.raises(PlanError, match=f"{tree}/x exists; check the rest"):
            ParquetSource(path=f"{tree}/x/nope/c.parquet").files()

    def test_empty_list_is_a_plan_error(self):
        with pytest.raises(PlanError, match="list of input paths is empty"):
            ParquetSource(path=[]).files()

    def test_version_changes_with_the_file_or_only_with_its_content(self, tree):
        def versions(identity):
            return [f.version for f in ParquetSource(path=f"{tree}/a.parquet", identity=identity).files()]

        stat, content = versions("stat"), versions("content")
        os.utime(tree / "a.parquet", ns=(1, 1))
        assert versions("stat") != stat
        assert versions("content") == content
        (tree / "a.parquet").write_bytes(b"y")
        assert versions("content") != content


class TestGrouping:
    @settings(max_examples=60, deadline=None)
    @given(numbers=st.sets(st.integers(0, 5000), min_size=2, max_size=400), data=st.data())
    def test_one_more_file_changes_one_group_at_most(self, numbers, data):
        def groups(some):
            files = [InputFile(uri=f"/r/{n:05d}", path=f"{n:05d}", size=10, version="1") for n in sorted(some)]
            return {tuple(s.file.path for s in split.slices) for split in grouped(files)}

        extra = data.draw(st.sampled_from(sorted(numbers)))
        with_it, without = groups(numbers), groups(numbers - {extra})
        assert sorted(p for g in with_it for p in g) == [f"{n:05d}" for n in sorted(numbers)]
        # The group that it joins changes; where it ends a group itself, what followed was one with it before.
        assert len(without - with_it) <= 1
        assert len(with_it - without) <= 2

    def test_group_is_full_at_128_mib(self):
        files = [InputFile(uri=f"/{i}", path=f"{i}", size=50 << 20, version="1") for i in range(10)]
        assert max(len(split.slices) for split in grouped(files)) <= 3


class TestNaming:
    def test_well_known_names_become_text_and_url_where_these_are_absent(self):
        schema = pa.schema([("content", pa.string()), ("TEXT", pa.string()), ("URL", pa.string()), ("n", pa.int8())])
        naming = resolve_columns(schema, None)
        assert naming.pairs == (("text", "content"), ("TEXT", "TEXT"), ("url", "URL"), ("n", "n"))
        assert len(naming.notes) == 2
        assert "`content` (not `TEXT`) is read as `text`" in naming.notes[0]

    def test_alias_leaves_a_name_that_is_there(self):
        schema = pa.schema([("caption", pa.string()), ("text", pa.string())])
        assert resolve_columns(schema, None).pairs == (("caption", "caption"), ("text", "text"))

    def test_bytes_named_after_a_format_become_the_image_where_there_is_one_such_column(self):
        files = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        for kind in (pa.binary(), pa.large_binary(), files):
            naming = resolve_columns(pa.schema([("jpg", kind), ("txt", pa.string()), ("png", pa.string())]), None)
            assert naming.pairs == (("image", "jpg"), ("text", "txt"), ("png", "png"))
            assert "column `jpg` is read as `image`" in naming.notes
        several = resolve_columns(pa.schema([("jpg", files), ("PNG", files)]), None)
        assert several.pairs == (("jpg", "jpg"), ("PNG", "PNG"))
        assert "any of `jpg`, `PNG`" in several.notes[0]
        there = resolve_columns(pa.schema([("image", files), ("png", files)]), None)
        assert there.pairs == (("image", "image"), ("png", "png"))
        assert resolve_columns(pa.schema([("jpg", files)]), {"thumb": "jpg"}).pairs == (("thumb", "jpg"),)

    def test_what_becomes_the_image_by_its_name_is_in_the_fingerprint(self):
        schema = pa.schema([("jpg", pa.binary()), ("txt", pa.string())])
        named = types_of(ParquetSource(path="x"), schema)
        assert named == [["jpg", "binary", "image"], ["txt", "string"]]
        # What the recipe says is there as it is, and a column that is called so already is not renamed.
        assert types_of(ParquetSource(path="x", columns={"image": "jpg"}), schema)[0] == ["jpg", "binary"]
        assert types_of(ParquetSource(path="x"), pa.schema([("image", pa.binary())])) == [["image", "binary"]]

    def test_only_renamed_columns_are_read(self):
        schema = pa.schema([("content", pa.string()), ("n", pa.int8())])
        assert resolve_columns(schema, {"body": "content"}).pairs == (("body", "content"),)

    def test_absent_column_is_a_plan_error_with_the_closest_name(self):
        with pytest.raises(PlanError, match=r"`contnet`.*\n.*did you mean `content`"):
            resolve_columns(pa.schema([("content", pa.string())]), {"text": "contnet"})

    def test_columns_of_an_earlier_run_are_left_out_and_can_be_kept_under_another_name(self):
        schema = pa.schema([("text", pa.string()), ("__fdf__/id", pa.string())])
        naming = resolve_columns(schema, None)
        assert naming.pairs == (("text", "text"),)
        assert "earlier run" in naming.notes[0]
        assert resolve_columns(schema, {"old": "__fdf__/id"}).pairs == (("old", "__fdf__/id"),)
        with pytest.raises(PlanError, match="FDF's own"):
            resolve_columns(schema, {"__fdf__/id": "text"})

    def test_two_columns_of_one_name_make_a_bad_file_that_is_named(self, tmp_path):
        twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
        pq.write_table(twice, tmp_path / "b.parquet")
        with pytest.raises(BadFile, match=r"b\.parquet.*`text`"):
            ParquetSource(path=str(tmp_path)).physical_schema()
        pq.write_table(pa.table({"text": ["c"]}), tmp_path / "a.parquet")
        skipping = ParquetSource(path=str(tmp_path), on_bad_file="skip")
        assert skipping.physical_schema() == pa.schema([("text", pa.string())])

    def test_unknown_type_is_a_plan_error_that_names_the_column(self, tmp_path):
        (tmp_path / "a.jsonl").write_text("{}")
        with pytest.raises(PlanError, match=r"column `a`.*int46.*did you mean `int64`"):
            JsonlSource(path=str(tmp_path), schema={"a": "int46"}).physical_schema()


class TestConform:
    @pytest.mark.parametrize(
        ("have", "wanted", "kept", "rejected"),
        [
            (pa.array([1, 2], pa.int32()), pa.int64(), [1, 2], []),
            (pa.array([1, 2], pa.int64()), pa.float64(), [1.0, 2.0], []),
            (pa.array([1, 300, None], pa.int64()), pa.int8(), [1, None], [1]),
            (pa.array([1.0, 1.5]), pa.int64(), [1], [1]),
            (pa.array([2**53 + 1, 1]), pa.float64(), [1.0], [0]),
            (pa.array(["a", None]), pa.large_string(), ["a", None], []),
            (pa.array(["a", "b"]).dictionary_encode(), pa.string(), ["a", "b"], []),
            (pa.nulls(2), pa.list_(pa.int8()), [None, None], []),
            (pa.array([b"ok", b"\xff", None]), pa.string(), ["ok", None], [1]),
            (pa.array(["1", None]), pa.int64(), [None], [0]),
            (pa.array([[1], None], pa.list_(pa.int32())), pa.list_(pa.int64()), [[1], None], []),
            (pa.array([True]), pa.int64(), [], [0]),
        ],
    )
    def test_values_widen_or_reject_their_row(self, have, wanted, kept, rejected):
        batch = pa.RecordBatch.from_arrays([have], names=["x"])
        got = conform(batch, schema=pa.schema([("x", wanted)]), positions=positions_from(100, len(have)))
        assert got.rows.column(0).to_pylist() == kept
        assert got.rows.schema.field("x").type == wanted
        assert [r.position - 100 for r in got.rejects] == rejected
        assert all("`x`" in r.error for r in got.rejects)

    def test_text_that_is_not_utf8_is_rejected_though_its_type_says_string(self):
        offsets, data = pa.array([0, 1, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfe")
        batch = pa.RecordBatch.from_arrays([pa.StringArray.from_buffers(2, offsets, data)], names=["x"])
        got = conform(batch, schema=pa.schema([("x", pa.string())]), positions=positions_from(0, 2))
        assert got.rows.column(0).to_pylist() == ["a"]
        assert [r.position for r in got.rejects] == [1]

    def test_text_within_lists_is_checked_too(self):
        offsets, data = pa.array([0, 1, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfeb")
        texts = pa.StringArray.from_buffers(3, offsets, data)
        batch = pa.RecordBatch.from_arrays([pa.ListArray.from_arrays([0, 1, 2, 3], texts)], names=["x"])
        got = conform(batch, schema=batch.schema, positions=positions_from(0, 3))
        assert got.rows.column(0).to_pylist() == [["a"], ["b"]]
        assert [r.position for r in got.rejects] == [1]

    def test_row_that_is_too_heavy_is_rejected(self):
        batch = pa.record_batch({"x": ["a" * 10, "b" * 1000]})
        got = conform(batch, schema=batch.schema, positions=positions_from(0, 2), max_row_bytes=100)
        assert [r.position for r in got.rejects] == [1]
        assert "max_row_bytes (100)" in got.rejects[0].error

    def test_conflicting_types_name_files_column_types_and_the_way_out(self):
        schemas = [("a.jsonl", pa.schema([("x", pa.int64())])), ("b.jsonl", pa.schema([("x", pa.string())]))]
        with pytest.raises(
            PlanError, match=r"`x` is int64 in a\.jsonl and string in b\.jsonl(.|\n)*schema: \{ x: string \}"
        ):
            unify(schemas)

    def test_types_of_several_files_widen(self):
        one = pa.schema([("x", pa.int32()), ("y", pa.null())])
        two = pa.schema([("x", pa.float64()), ("y", pa.string()), ("z", pa.bool_())])
        assert unify([("a", one), ("b", two)]) == pa.schema(
            [("x", pa.float64()), ("y", pa.string()), ("z", pa.bool_())]
        )


class TestParquet:
    def test_large_file_is_cut_between_row_groups(self, tmp_path):
        pq.write_table(pa.table({"n": range(100)}), tmp_path / "a.parquet", row_group_size=10)
        group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).total_byte_size
        source = ParquetSource(path=str(tmp_path), split_size=group * 3)
        assert [s.location for s in source.splits()] == [f"a.parquet[{i}:{min(i + 30, 100)}]" for i in (0, 30, 60, 90)]

    @pytest.mark.parametrize("part", [0.5, 0.99])
    def test_file_cut_in_half_is_a_bad_file_that_is_named(self, tmp_path, part):
        pq.write_table(pa.table({"n": range(10000)}), tmp_path / "whole.parquet")
        data = (tmp_path / "whole.parquet").read_bytes()
        (tmp_path / "half.parquet").write_bytes(data[: int(len(data) * part)])
        source = ParquetSource(path=str(tmp_path / "half.parquet"), split_size=1)
        (split,) = source.splits()
        with pytest.raises(BadFile, match=r"half\.parquet cannot be read as parquet"):
            list(source.read(split.slices[0], schema=pa.schema([("n", pa.int64())])))
        with pytest.raises(BadFile, match=r"half\.parquet"):
            source.physical_schema()

    def test_bad_file_can_be_passed_by(self, tmp_path):
        pq.write_table(pa.table({"n": range(10)}), tmp_path / "b.parquet")
        (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
        source = ParquetSource(path=str(tmp_path), on_bad_file="skip")
        assert source.physical_schema() == pa.schema([("n", pa.int64())])

    def test_damaged_page_is_a_bad_file(self, tmp_path):
        pq.write_table(
            pa.table({"n": range(100_000)}), tmp_path / "a.parquet", compression="zstd", use_dictionary=False
        )
        data = bytearray((tmp_path / "a.parquet").read_bytes())
        data[4:40] = bytes(36)  # the first page's header
        (tmp_path / "a.parquet").write_bytes(data)
        source = ParquetSource(path=str(tmp_path))
        with pytest.raises(BadFile, match=r"a\.parquet"):
            list(source.read(next(source.splits()).slices[0], schema=source.physical_schema()))

    def test_only_wanted_columns_are_read(self, tmp_path):
        pq.write_table(pa.table({"n": range(10), "big": [os.urandom(1 << 20)] * 10}), tmp_path / "a.parquet")
        source = ParquetSource(path=str(tmp_path))
        size = (tmp_path / "a.parquet").stat().st_size
        data = bytearray((tmp_path / "a.parquet").read_bytes())
        data[size // 4 : size // 2] = bytes(size // 2 - size // 4)  # within `big`
        (tmp_path / "a.parquet").write_bytes(data)
        (batch,) = source.read(next(source.splits()).slices[0], schema=pa.schema([("n", pa.int64())]))
        assert batch.rows.column(0).to_pylist() == list(range(10))
        assert batch.extra_columns == ("big",)

    def test_batches_stay_small(self, tmp_path):
        pq.write_table(pa.table({"b": [bytes(1 << 20)] * 64}), tmp_path / "a.parquet", use_dictionary=False)
        source = ParquetSource(path=str(tmp_path))
        sizes = [
            b.rows.nbytes for s in source.splits() for b in source.read(s.slices[0], schema=source.physical_schema())
        ]
        assert sum(sizes) >= 64 << 20
        assert max(sizes) <= 17 << 20


LINE = st.one_of(
    st.fixed_dictionaries({"a": st.integers(-9, 9), "t": st.text(max_size=8)}).map(lambda r: json.dumps(r).encode()),
    st.fixed_dictionaries({"a": st.integers(-9, 9), "t": st.text(max_size=8)}).map(
        lambda r: json.dumps(r, ensure_ascii=False).encode(errors="surrogatepass")
    ),
    st.sampled_from(
        [b"", b"  ", b"null", b"[]", b"7", b'{"a":', b'{"a": "x"}', b'{"t":"\xff"}', b'{"a":1}{"a":2}', b"{}"]
    ),
    st.integers(50, 90).map(lambda n: b'{"t": "' + b"y" * n + b'"}'),
)


class TestJsonl:
    SCHEMA = pa.schema([("a", pa.int64()), ("t", pa.string())])

    @settings(max_examples=60, deadline=None)
    @given(
        lines=st.lists(LINE, max_size=30),
        end=st.sampled_from([b"\n", b"\r\n"]),
        final=st.booleans(),
        size=st.integers(1, 200),
    )
    def test_rows_equal_those_of_json_loads_however_the_file_is_cut(self, tmp_path_factory, lines, end, final, size):
        data = end.join(lines) + (end if final and lines else b"")
        path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
        path.write_bytes(data)
        rows, rejects = rows_of(JsonlSource(path=str(path), split_size=size, max_row_bytes=90), self.SCHEMA)

        good, bad, offset = {}, set(), 0
        for raw in data.split(b"\n"):
            where = ("a.jsonl", offset)
            offset += len(raw) + 1
            if not raw.strip():
                continue
            try:
                value = json.loads(raw.decode())
                fits = isinstance(value, dict) and isinstance(value.get("a", 0), int) and len(raw) <= 90
            except ValueError:
                fits = False
            if fits:
                good[where] = {"a": value.get("a"), "t": value.get("t")}
            else:
                bad.add(where)
        assert rows == good
        assert rejects.keys() == bad

    def test_dates_stay_text_and_all_null_columns_are_text(self, tmp_path):
        (tmp_path / "a.jsonl").write_text(
            '{"d": "2024-01-01T00:00:00Z", "n": null, "l": [], "s": {"d": "2024-01-01"}, "e": {}}\n'
        )
        schema = JsonlSource(path=str(tmp_path)).physical_schema()
        inner = pa.struct([("d", pa.string())])
        assert schema == pa.schema([("d", pa.string()), ("n", pa.string()), ("l", pa.list_(pa.string())), ("s", inner)])

    def test_most_lines_decide_where_types_disagree(self, tmp_path):
        lines = ['{"x": 1}'] * 20 + ['{"x": "odd"}', "broken"] + ['{"x": 2.5}'] * 3
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        source = JsonlSource(path=str(tmp_path))
        assert source.physical_schema() == pa.schema([("x", pa.float64())])
        rows, rejects = everything(source)
        assert len(rows) == 23
        assert [r.raw for r in rejects] == [b'{"x": "odd"}', b"broken"]

    @pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
    def test_compressed_file_cut_in_the_middle_is_a_bad_file(self, tmp_path, name):
        text = b"".join(b'{"a": %d, "r": "%s"}\n' % (i, os.urandom(20).hex().encode()) for i in range(5000))
        data = gzip.compress(text) if name.endswith("gz") else pa.Codec("zstd").compress(text, asbytes=True)
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        source = JsonlSource(path=str(tmp_path))
        with pytest.raises(BadFile, match=name):
            list(source.read(next(source.splits()).slices[0], schema=self.SCHEMA))

    def test_endless_line_is_rejected_without_being_held(self):
        class Endless(io.RawIOBase):
            """A line of 3 GiB that is never in memory, then a short one."""

            left, most = 3 << 30, 0

            def read(self, size=-1):
                self.most = max(self.most, size)
                if self.left <= 0:
                    tail, self.tail = self.tail, b""
                    return tail
                self.left -= size
                return memoryview(self.block)[:size].tobytes()

            block, tail = b"x" * (8 << 20), b'\n{"a": 1}\n'

        stream = Endless()
        blocks = list(line_blocks(stream, start=0, stop=None, max_row_bytes=16 << 20))
        rejects = [r for b in blocks for r in b.rejects]
        assert [r.position for r in rejects] == [0]
        assert len(rejects[0].raw) == 4096
        assert sum(len(b.starts) for b in blocks) == 1
        assert stream.most <= 8 << 20
        assert max(len(b.data) for b in blocks) < 4096

    def test_lines_that_end_the_process_of_arrow_are_rejected(self, tmp_path):
        deep = "[" * 100_000 + "]" * 100_000
        (tmp_path / "a.jsonl").write_text('null\n{"a": 1}\n{"deep": ' + deep + '}\nnull\n{"a": 2}\n')
        for extra in ("drop", "error"):
            source = JsonlSource(path=str(tmp_path), extra_columns=extra)
            rows, rejects = everything(source)
            assert [r["a"] for r in rows if r["a"]] == [1, 2]
            assert b"null" in [r.raw for r in rejects]

    def test_unknown_columns_are_named(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"a": 1, "t": "x"}\n' * 50 + '{"a": 1, "late": 1}\n')
        for extra, names in (("drop", {"t"}), ("error", {"t", "late"})):
            source = JsonlSource(path=str(tmp_path), extra_columns=extra)
            batches = list(source.read(next(source.splits()).slices[0], schema=pa.schema([("a", pa.int64())])))
            assert {n for b in batches for n in b.extra_columns} == names

    @real_data
    def test_real_shard_equals_what_json_loads_says(self):
        path = DATA / "web_mdn" / "mdn-00002-of-00016.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            expected = [json.loads(line) for line in file]
        rows, rejects = everything(JsonlSource(path=str(path)))
        assert not rejects
        assert rows == expected


class TestCsv:
    def test_positions_count_malformed_rows_and_pass_by_blank_lines(self, tmp_path):
        (tmp_path / "a.csv").write_text('a,b\n1,2\n\n3\n4,"5\n\n6"\n7,8,9\n10,11\n')
        rows, rejects = rows_of(CsvSource(path=str(tmp_path)), pa.schema([("a", pa.string())]))
        assert {k[1]: v["a"] for k, v in rows.items()} == {0: "1", 2: "4", 4: "10"}
        assert {k[1]: v.raw for k, v in rejects.items()} == {1: b"3", 3: b"7,8,9"}

    def test_options_decide_how_text_is_cut(self, tmp_path):
        (tmp_path / "a.csv").write_text("1;'x;y';it\\'s\n")
        source = CsvSource(path=str(tmp_path), delimiter=";", quote="'", escape="\\", header=["a", "b", "c"])
        assert everything(source)[0] == [{"a": "1", "b": "x;y", "c": "it's"}]

    def test_declared_types_reject_what_does_not_fit(self, tmp_path):
        (tmp_path / "a.csv").write_text("n,t\n 1 ,a\nx,b\n,c\n")
        rows, rejects = everything(CsvSource(path=str(tmp_path), schema={"n": "int64"}))
        assert rows == [{"n": 1, "t": "a"}, {"n": None, "t": "c"}]
        assert [r.position for r in rejects] == [1]

    def test_empty_file_is_a_bad_file(self, tmp_path):
        (tmp_path / "a.csv").write_text("")
        with pytest.raises(BadFile, match=r"a\.csv is empty"):
            CsvSource(path=str(tmp_path)).physical_schema()


class TestTextAndFiles:
    def test_documents_are_whole_files_with_their_paths(self, tmp_path):
        (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\r\ntwo".encode())
        (tmp_path / "b.txt").write_bytes(b"\xff")
        rows, rejects = everything(TextSource(path=str(tmp_path)))
        assert rows == [{"text": "one\r\n\r\ntwo", "path": "a.txt"}]
        assert "not UTF-8" in rejects[0].error

    def test_lines_lose_their_ends_and_blank_ones(self, tmp_path):
        (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\r\n  two  \n\nthree é".encode())
        rows, _ = everything(TextSource(path=str(tmp_path), sample_by="line"))
        assert [r["text"] for r in rows] == ["one", "  two  ", "three é"]

    @pytest.mark.parametrize(
        ("names", "column"),
        [(("a.jpg", "b.PNG"), "image"), (("a.wav",), "audio"), (("a.mp4",), "video"), (("a.jpg", "a.wav"), "bytes")],
    )
    def test_column_is_named_by_what_the_files_are(self, tmp_path, names, column):
        for name in names:
            (tmp_path / name).write_bytes(b"data")
        rows, _ = everything(FilesSource(path=str(tmp_path)))
        assert rows == [{"path": name, column: b"data"} for name in sorted(names)]

    @real_data
    def test_real_images_come_back_byte_for_byte(self):
        rows, rejects = everything(FilesSource(path=str(DATA / "img_odd" / "*.jpg")))
        assert not rejects
        assert len(rows) >= 5
        assert all(row["image"] == (DATA / "img_odd" / row["path"]).read_bytes() for row in rows)


class TestArrowAndMemory:
    def test_stream_cut_in_half_is_a_bad_file(self, tmp_path):
        table = pa.table({"n": range(10_000)})
        for name, start in (("a.arrow", pa.ipc.new_stream), ("b.arrow", pa.ipc.new_file)):
            with start(str(tmp_path / name), table.schema) as writer:
                writer.write_table(table, max_chunksize=1000)
            data = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(data[: len(data) // 2])
            source = ArrowSource(path=str(tmp_path / name))
            with pytest.raises(BadFile, match=name):
                list(source.read(next(source.splits()).slices[0], schema=table.schema))

    def test_equal_rows_are_spooled_once_whatever_holds_them(self, tmp_path):
        import datasets

        table = pa.table({"a": [1, 2, 3], "t": ["x", None, "z"]})
        frame = pl.DataFrame(pl.from_arrow(table))
        held = [table, table.to_batches()[0], table.to_reader(), frame, frame.lazy(), table.to_pylist()]
        held.append(datasets.Dataset.from_dict(table.to_pydict()))
        assert len({MemorySource.of(rows, folder=tmp_path).path for rows in held}) == 1
        assert len(list(tmp_path.iterdir())) == 1
        source = MemorySource.of(frame, folder=tmp_path)
        assert everything(source)[0] == table.to_pylist()
        assert [s.location for s in source.splits()] == ["memory"]
        assert next(source.splits()).version != next(MemorySource.of(frame.head(2), folder=tmp_path).splits()).version

    def test_filtered_dataset_gives_its_rows(self, tmp_path):
        import datasets

        rows = datasets.Dataset.from_dict({"a": list(range(10))}).select([7, 3])
        assert everything(MemorySource.of(rows, folder=tmp_path))[0] == [{"a": 7}, {"a": 3}]

    def test_dicts_give_every_column_that_any_of_them_has(self, tmp_path):
        rows = [{"a": 1}, {"b": "x"}, {"a": 2, "c": True}]
        assert everything(MemorySource.of(rows, folder=tmp_path))[0] == [
            {"a": 1, "b": None, "c": None},
            {"a": None, "b": "x", "c": None},
            {"a": 2, "b": None, "c": True},
        ]

    def test_dicts_of_conflicting_types_are_a_plan_error_that_names_the_column(self, tmp_path):
        with pytest.raises(PlanError, match="`text`"):
            MemorySource.of([{"text": "a"}, {"text": 3}], folder=tmp_path)

    def test_maps_are_read_and_weigh_what_they_hold(self, tmp_path):
        table = pa.table({"m": pa.array([[("k", 1)], [("k" * 500, 2)]], pa.map_(pa.string(), pa.int64()))})
        pq.write_table(table, tmp_path / "a.parquet")
        rows, rejects = everything(ParquetSource(path=str(tmp_path), max_row_bytes=400))
        assert (rows, len(rejects)) == ([{"m": [{"key": "k", "value": 1}]}], 1)

    def test_maps_at_any_depth_become_lists_of_pairs_which_datasets_can_open(self, tmp_path, monkeypatch):
        datasets = pytest.importorskip("datasets")
        monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
        counts = pa.map_(pa.string(), pa.int64())
        table = pa.table(
            {
                "m": pa.array([[("a", 1), ("b", None)], None, []], counts),
                "s": pa.array([{"x": [("k", 2)]}, None, {"x": None}], pa.struct([("x", counts)])),
                "l": pa.array([[[("q", 3)]], [], None], pa.list_(counts)),
            }
        )
        pq.write_table(table, tmp_path / "a.parquet")
        source = {"type": "parquet", "path": str(tmp_path / "a.parquet")}
        recipe = {"name": "maps", "provenance": "none", "input": source}
        result = fdf.run(recipe | {"output": {"type": "parquet", "path": str(tmp_path / "out")}}, runner="serial")
        opened = datasets.load_dataset("parquet", data_dir=result.path, cache_dir=str(tmp_path / "cache"))["train"]
        assert opened.to_list() == [
            {
                "m": [{"key": "a", "value": 1}, {"key": "b", "value": None}],
                "s": {"x": [{"key": "k", "value": 2}]},
                "l": [[{"key": "q", "value": 3}]],
            },
            {"m": None, "s": None, "l": []},
            {"m": [], "s": {"x": None}, "l": None},
        ]

    def test_rows_of_another_kind_are_a_plan_error(self, tmp_path):
        with pytest.raises(PlanError, match=r"builtins\.int"):
            MemorySource.of(7, folder=tmp_path)


def tar_of(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


class TestWebdataset:
    def test_members_that_share_a_key_are_one_row(self, tmp_path):
        members = [
            ("a/1.jpg", b"J"),
            ("a/1.txt", b"one"),
            ("a/1.seg.png", b"P"),
            ("a/2.PNG", b"Q"),
            ("a/2.json", b"{}"),
        ]
        tar_of(tmp_path / "a.tar", members)
        rows, _ = everything(WebdatasetSource(path=str(tmp_path)))
        none = dict.fromkeys(("image", "text", "seg.png", "json"))
        assert rows == [
            {"__key__": "a/1", **none, "image": b"J", "text": "one", "seg.png": b"P"},
            {"__key__": "a/2", **none, "image": b"Q", "json": "{}"},
        ]

    def test_two_candidates_reject_their_sample_alone(self, tmp_path):
        tar_of(
            tmp_path / "a.tar",
            [("1.jpg", b"J"), ("1.png", b"P"), ("2.jpg", b"K"), ("3.txt", b"\xff"), ("4.txt", b"ok")],
        )
        rows, rejects = rows_of(source := WebdatasetSource(path=str(tmp_path)), source.physical_schema())
        assert [k[1] for k in rows] == [1, 3]
        assert "both .jpg and .png" in rejects["a.tar", 0].error
        assert "UTF8" in rejects["a.tar", 2].error

    def test_renamed_columns_switch_the_names_of_formats_off(self, tmp_path):
        tar_of(tmp_path / "a.tar", [("1.jpg", b"J"), ("1.png", b"P")])
        source = WebdatasetSource(path=str(tmp_path), columns={"image": "png"})
        assert source.physical_schema().names == ["__key__", "jpg", "png"]
        assert everything(source)[0] == [{"__key__": "1", "jpg": b"J", "png": b"P"}]

    def test_names_that_leave_the_folder_and_odd_members_are_data_only(self, tmp_path):
        members = [("../../evil.txt", b"e"), ("/abs.txt", b"a"), ("no_extension", b"x"), (".hidden.txt", b"h")]
        tar_of(tmp_path / "a.tar", members)
        with tarfile.open(tmp_path / "a.tar", "a") as tar:
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
                info = tarfile.TarInfo(f"odd{kind.decode()}.txt")
                info.type, info.linkname = kind, "/etc/passwd"
                tar.addfile(info)
        before = sorted(tmp_path.parent.rglob("*"))
        rows, rejects = everything(WebdatasetSource(path=str(tmp_path)))
        assert [r["text"] for r in rows] == ["e", "a"]
        assert not rejects
        assert sorted(tmp_path.parent.rglob("*")) == before

    def test_sample_that_is_too_large_is_rejected_unread(self, tmp_path):
        tar_of(tmp_path / "a.tar", [("1.jpg", bytes(500)), ("2.jpg", bytes(50))])
        rows, rejects = everything(WebdatasetSource(path=str(tmp_path), max_row_bytes=100))
        assert len(rows) == 1
        assert "more than max_row_bytes (100)" in rejects[0].error

    @pytest.mark.parametrize("cut", [700, 512 * 2, 512 * 5 + 100, 512 * 8])
    def test_tar_that_is_cut_off_is_a_bad_file(self, tmp_path, cut):
        tar_of(tmp_path / "a.tar", [(f"{i}.txt", b"x" * 600) for i in range(6)])
        data = (tmp_path / "a.tar").read_bytes()
        (tmp_path / "a.tar").write_bytes(data[:cut])
        source = WebdatasetSource(path=str(tmp_path))
        with pytest.raises(BadFile, match=r"a\.tar cannot be read as webdataset tar"):
            list(source.read(next(source.splits()).slices[0], schema=pa.schema([("text", pa.string())])))

    @real_data
    def test_real_shards_hold_208_samples(self):
        source = WebdatasetSource(path=str(DATA / "wds" / "*.tar"))
        rows, rejects = rows_of(
            source, pa.schema([("__key__", pa.string()), ("text", pa.string()), ("json", pa.string())])
        )
        assert len(rows) + len(rejects) == 208
        assert not rejects
        # The data set's own card: 14 captions are empty.
        assert sum(not (row["text"] or "").strip() for row in rows.values()) == 14
        assert all("licence" in json.loads(row["json"]) for row in rows.values())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"n": "many"}', 'column `n` holds text ("many"), which does not fit int64'),
        ('{"n": true}', "column `n` holds true or false (true), which does not fit int64"),
        ('{"n": 99999999999999999999}', "column `n` holds a number (99999999999999999999), which does not fit int64"),
        (
            '{"n": 1, "tags": ["a", {}]}',
            'column `tags` holds a list (["a", {}]), which does not fit list<item: string>',
        ),
        ('{"n": 1, "tags": 2}', "column `tags` holds a number (2), which does not fit list<item: string>"),
        ('{"n": {"of": 1}}', 'column `n` holds an object ({"of": 1}), which does not fit int64'),
        ("{'n': 1}", "the line is not JSON: Expecting property name enclosed in double quotes at character 2"),
        ('{"n": 1}{"n": 2}', "the line is not JSON: Extra data at character 9"),
    ],
)
def test_a_line_that_does_not_fit_is_told_by_its_column_and_value(tmp_path, line, says):
    file = tmp_path / "a.jsonl"
    file.write_text('{"n": 1, "tags": ["x"]}\n' + line + '\n{"n": 3, "tags": null}\n')
    schema = pa.schema([("n", pa.int64()), ("tags", pa.list_(pa.field("element", pa.string())))])
    source = JsonlSource(path=str(file))
    (split,) = source.splits()
    batches = list(source.read(split.slices[0], schema=schema))
    assert [r.error for b in batches for r in b.rejects] == [says]
    assert [n for b in batches for n in b.rows.column("n").to_pylist()] == [1, 3]
