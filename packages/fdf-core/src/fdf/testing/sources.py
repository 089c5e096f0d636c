r"""The suite that every source passes.

A package subclasses it with a fixture that gives the source over files it wrote:

```python
class TestJsonlSource(SourceConformance):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
        return JsonlSource(path=str(tmp_path))
```

The files should hold ten rows or more, in two files or more where the source can.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any, TypeAlias

import pyarrow as pa
import pytest

from fdf.sources.base import Reject, Source
from fdf.sources.stored_files import as_read

Where: TypeAlias = tuple[str, int]
"""A row's file and its position there."""

BATCH_LIMIT = 32 << 20


class SourceConformance:
    """Subclass it as `Test...`, with a fixture `source`."""

    @pytest.fixture
    def source(self) -> Source:
        """Give the source."""
        raise NotImplementedError("define a fixture `source`")

    def test_splits_are_the_same_each_time(self, source: Source) -> None:
        """Also in another process; locations are unique, versions are there."""
        splits = list(source.splits())
        assert splits
        assert splits == list(source.splits())
        assert splits == list(_copy(source).splits())
        locations = [s.location for s in splits]
        assert len(set(locations)) == len(locations)
        assert all(f.version for s in splits for f in (piece.file for piece in s.slices))

    def test_files_are_in_order(self, source: Source) -> None:
        """By URI, then by range."""
        order = [(piece.file.uri, piece.start) for split in source.splits() for piece in split.slices]
        assert order == sorted(order)

    def test_schema_is_plain(self, source: Source) -> None:
        """Names are unique; no dictionaries, nulls or metadata."""
        schema = source.physical_schema()
        assert len(set(schema.names)) == len(schema.names)
        assert not schema.metadata
        assert not any(pa.types.is_dictionary(f.type) or pa.types.is_null(f.type) for f in schema)

    def test_rows_have_exactly_the_wanted_schema(self, source: Source) -> None:
        """All columns, some, in another order, none, and one that no file has."""
        physical = source.physical_schema()
        everything = rows_of(source, physical)[0]
        assert everything
        reverse = pa.schema(list(physical)[::-1])
        absent = pa.schema([*list(physical)[:1], pa.field("no such column", pa.list_(pa.int32()))])
        for schema in (reverse, absent, pa.schema(list(physical)[-1:]), pa.schema([])):
            some = rows_of(source, schema)[0]
            # A value that does not fit costs its row only where its column is read.
            assert some.keys() >= everything.keys()
            for where, row in everything.items():
                assert repr(some[where]) == repr({n: row.get(n) for n in schema.names})

    def test_files_are_read_as_their_bytes(self, source: Source) -> None:
        """Of a column that holds files as `datasets` stores them bytes may be asked for."""
        physical = source.physical_schema()
        read = as_read(physical)
        files = [n for n in physical.names if read.field(n) != physical.field(n)]
        if not files:
            pytest.skip("no column of this source holds files")
        stored = rows_of(source, physical)[0]
        for where, row in rows_of(source, read)[0].items():
            assert [row[n] for n in files] == [(stored[where][n] or {}).get("bytes") for n in files]

    def test_positions_name_rows(self, source: Source) -> None:
        """No two records of a file have one position, rejects included."""
        rows, rejects = rows_of(source, source.physical_schema())
        assert not rows.keys() & rejects.keys()

    def test_pickled_source_reads_the_same(self, source: Source) -> None:
        """Worker processes get a copy."""
        schema = source.physical_schema()
        assert repr(rows_of(_copy(source), schema)) == repr(rows_of(source, schema))

    def test_count_is_of_all_records_and_stops(self, source: Source) -> None:
        """Rejects count; no more is read than asked for."""
        rows, rejects = rows_of(source, source.physical_schema())
        pieces = [piece for split in source.splits() for piece in split.slices]
        assert sum(source.count_rows(piece, at_most=1 << 40) for piece in pieces) == len(rows) + len(rejects)
        assert all(source.count_rows(piece, at_most=1) <= 1 for piece in pieces)

    def test_options_are_json_without_the_place(self, source: Source) -> None:
        """They belong to the fingerprint, and the same data elsewhere has the same."""
        options = source.options()
        assert json.loads(json.dumps(options)) == options
        assert options["type"] == source.type
        assert "path" not in options

    def test_rows_do_not_depend_on_how_files_are_cut(self, source: Source) -> None:
        """Any split size gives the same rows at the same positions."""
        if not any(f.name == "split_size" for f in dataclasses.fields(source)):
            pytest.skip("this source has no split_size")
        schema = source.physical_schema()
        expected = repr(_sorted(rows_of(source, schema)))
        for size in (64, 1000, 1 << 40):
            options: Any = {"split_size": size}
            cut = dataclasses.replace(source, **options)
            assert repr(_sorted(rows_of(cut, schema))) == expected


def rows_of(source: Source, schema: pa.Schema) -> tuple[dict[Where, dict[str, Any]], dict[Where, Reject]]:
    """Read everything; return rows and rejects by file and position, having checked each batch against the contract."""
    rows: dict[Where, dict[str, Any]] = {}
    rejects: dict[Where, Reject] = {}
    for split in source.splits():
        for piece in split.slices:
            for batch in source.read(piece, schema=schema):
                assert batch.rows.schema.equals(schema)
                assert batch.positions.type == pa.int64()
                assert batch.positions.null_count == 0
                assert len(batch.positions) == batch.rows.num_rows or not len(schema)
                batch.rows.validate(full=True)
                assert batch.rows.nbytes <= BATCH_LIMIT or batch.rows.num_rows == 1
                values = batch.rows.to_pylist() if len(schema) else [{}] * len(batch.positions)
                for position, row in zip(batch.positions.to_pylist(), values, strict=True):
                    where = (piece.file.path, position)
                    assert where not in rows, f"{where} was read twice"
                    rows[where] = row
                for reject in batch.rejects:
                    where = (piece.file.path, reject.position)
                    assert where not in rejects, f"{where} was rejected twice"
                    assert reject.error
                    rejects[where] = reject
    return rows, rejects


def _copy(source: Source) -> Source:
    copy: Source = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
    return copy


def _sorted(found: tuple[dict[Where, dict[str, Any]], dict[Where, Reject]]) -> list[tuple[Where, Any]]:
    return sorted([*found[0].items(), *found[1].items()], key=lambda item: item[0])
