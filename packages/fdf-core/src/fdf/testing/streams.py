r"""The suite that every source passes that can only be streamed.

A package subclasses it with a fixture that gives the source:

```python
class TestMySource(StreamConformance):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        return MySource(query="...")
```

The stream should hold fifty records or more.
"""

from __future__ import annotations

import json
import pickle
from typing import Any

import pyarrow as pa
import pytest

from fdf.sources.base import Reject, Source
from fdf.sources.stored_files import as_read

BATCH_LIMIT = 32 << 20


class StreamConformance:
    """Subclass it as `Test...`, with a fixture `source`."""

    @pytest.fixture
    def source(self) -> Source:
        """Give the source."""
        raise NotImplementedError("define a fixture `source`")

    def test_is_not_indexed(self, source: Source) -> None:
        """Whatever can be listed and cut is under `SourceConformance`."""
        assert not source.indexed

    def test_schema_is_plain(self, source: Source) -> None:
        """Names are unique; no dictionaries, nulls or metadata."""
        schema = source.physical_schema()
        assert len(set(schema.names)) == len(schema.names)
        assert not schema.metadata
        assert not any(pa.types.is_dictionary(f.type) or pa.types.is_null(f.type) for f in schema)

    def test_records_are_numbered_from_zero_without_gaps(self, source: Source) -> None:
        """Rejects included."""
        rows, rejects = streamed(source, source.physical_schema())
        assert rows
        assert sorted([*rows, *rejects]) == list(range(len(rows) + len(rejects)))

    def test_goes_on_from_any_record(self, source: Source) -> None:
        """With the same records under the same numbers; past the end there is nothing."""
        schema = source.physical_schema()
        rows, rejects = streamed(source, schema)
        end = len(rows) + len(rejects)
        for start in sorted({0, 1, end // 3, end // 2, end - 1}):
            some, bad = streamed(source, schema, start=start)
            assert repr(some) == repr({n: row for n, row in rows.items() if n >= start})
            assert bad == {n: reject for n, reject in rejects.items() if n >= start}
        assert streamed(source, schema, start=end) == ({}, {})

    def test_rows_have_exactly_the_wanted_schema(self, source: Source) -> None:
        """All columns, some, in another order, none, and one that no record has."""
        physical = source.physical_schema()
        everything = streamed(source, physical)[0]
        reverse = pa.schema(list(physical)[::-1])
        absent = pa.schema([*list(physical)[:1], pa.field("no such column", pa.list_(pa.int32()))])
        for schema in (reverse, absent, pa.schema(list(physical)[-1:]), pa.schema([])):
            some = streamed(source, schema)[0]
            # A value that does not fit costs its row only where its column is read.
            assert some.keys() >= everything.keys()
            for number, row in everything.items():
                assert repr(some[number]) == repr({n: row.get(n) for n in schema.names})

    def test_files_are_read_as_their_bytes(self, source: Source) -> None:
        """Of a column that holds files as `datasets` stores them bytes may be asked for."""
        physical = source.physical_schema()
        read = as_read(physical)
        files = [n for n in physical.names if read.field(n) != physical.field(n)]
        if not files:
            pytest.skip("no column of this source holds files")
        stored = streamed(source, physical)[0]
        for number, row in streamed(source, read)[0].items():
            assert [row[n] for n in files] == [(stored[number][n] or {}).get("bytes") for n in files]

    def test_pickled_source_streams_the_same(self, source: Source) -> None:
        """The process that reads gets a copy."""
        copy: Source = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
        schema = source.physical_schema()
        assert repr(streamed(copy, schema)) == repr(streamed(source, schema))

    def test_options_are_json(self, source: Source) -> None:
        """They belong to the fingerprint."""
        options = source.options()
        assert json.loads(json.dumps(options)) == options
        assert options["type"] == source.type


def streamed(
    source: Source, schema: pa.Schema, *, start: int = 0
) -> tuple[dict[int, dict[str, Any]], dict[int, Reject]]:
    """Read to the end; return rows and rejects by number, having checked each batch against the contract."""
    rows: dict[int, dict[str, Any]] = {}
    rejects: dict[int, Reject] = {}
    highest = start - 1
    for batch in source.stream(schema=schema, start=start):
        assert batch.rows.schema.equals(schema)
        assert batch.positions.type == pa.int64()
        assert len(batch.positions) == batch.rows.num_rows or not len(schema)
        batch.rows.validate(full=True)
        assert batch.rows.nbytes <= BATCH_LIMIT or batch.rows.num_rows == 1
        values = batch.rows.to_pylist() if len(schema) else [{}] * len(batch.positions)
        numbers = batch.positions.to_pylist()
        assert numbers == sorted(numbers)
        rows |= dict(zip(numbers, values, strict=True))
        rejects |= {r.position: r for r in batch.rejects}
        here = [*numbers, *(r.position for r in batch.rejects)]
        assert len(set(here)) == len(here)
        assert not here or min(here) > highest
        highest = max([highest, *here])
    return rows, rejects
