"""The suite that every sink passes: the same rows are the same bytes, and they come back.

```python
class TestJsonlSink(SinkConformance):
    sink = JsonlSink()

    def read_back(self, data: bytes) -> list[dict[str, Any]]:
        return [json.loads(line) for line in unpacked(data).splitlines()]
```
"""

from __future__ import annotations

import io
import pickle
import re
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import pytest

from fdf.errors import PlanError
from fdf.schema import ID
from fdf.sinks.base import Sink

COUNT = 50
ROWS = pa.record_batch(
    {
        ID: [f"0123456789abcdef:{n}" for n in range(COUNT)],
        "text": [f'naïve \u2028 "text"\n{n}' if n % 7 else None for n in range(COUNT)],
        "lang": ["en" if n % 2 else "de" for n in range(COUNT)],
        "n": pa.array([n * 2**50 if n % 5 else None for n in range(COUNT)], pa.int64()),
    }
)
CONSTANT = ("__fdf__/operator_versions", '{"x": "1"}')


class _OneWay(io.BytesIO):
    """A stream as shards get it: nothing can be read again or overwritten, and only its owner closes it."""

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation("seek")

    def seekable(self) -> bool:
        return False

    def read(self, *_: Any) -> bytes:
        raise io.UnsupportedOperation("read")

    def readable(self) -> bool:
        return False


class SinkConformance:
    """Subclass it as `Test...`, with `sink` and `read_back`."""

    sink: ClassVar[Sink]

    def read_back(self, data: bytes) -> list[dict[str, Any]]:
        """Read a file with something else than FDF: its rows in order. Where the format has no null, a null column
        may be left out."""
        raise NotImplementedError("define `read_back`, which reads a written file")

    def test_is_a_value(self) -> None:
        """It is hashable, a worker receives an equal one, and its extension fits the names of shards."""
        assert pickle.loads(pickle.dumps(self.sink)) == self.sink  # noqa: S301 (our own bytes)
        assert hash(self.sink)
        assert self.sink.type
        assert re.fullmatch(r"[a-z0-9]+(\.[a-z0-9]+)*", self.sink.extension)

    def test_rows_come_back_in_order(self) -> None:
        """Every value is what was written."""
        assert _present(self.read_back(self._written([ROWS]))) == _present(ROWS.to_pylist())

    def test_bytes_do_not_depend_on_batches(self) -> None:
        """Nor on offsets into longer buffers, or on dictionaries."""
        whole = self._written([ROWS])
        random = np.random.default_rng(7)
        cuts = [list(range(COUNT + 1))]
        cuts += [[0, *sorted(random.integers(0, COUNT + 1, size=4).tolist()), COUNT] for _ in range(5)]
        for cut in cuts:
            assert self._written(ROWS.slice(a, b - a) for a, b in pairwise(cut)) == whole
        behind = pa.concat_batches([ROWS, ROWS]).slice(COUNT)
        lang = behind.column("lang").dictionary_encode()
        columns = [lang if name == "lang" else behind.column(name) for name in behind.schema.names]
        assert self._written([pa.RecordBatch.from_arrays(columns, names=behind.schema.names)]) == whole

    def test_bytes_do_not_depend_on_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No stamp is written."""
        whole = self._written([ROWS])
        later = time.time() + 1e6
        monkeypatch.setattr(time, "time", lambda: later)
        assert self._written([ROWS]) == whole

    def test_no_rows_are_a_file_too(self) -> None:
        """A reader opens it, and an empty batch adds nothing."""
        empty = self._written([])
        assert self.read_back(empty) == []
        assert self._written([ROWS.slice(0, 0)]) == empty
        assert self._written([ROWS.slice(0, 0), ROWS, ROWS.slice(0, 0)]) == self._written([ROWS])

    def test_constant_stands_in_every_row(self) -> None:
        """It is made only when rows are written."""
        rows = self.read_back(self._written([ROWS], constants={CONSTANT[0]: CONSTANT[1]}))
        assert [row[CONSTANT[0]] for row in rows] == [CONSTANT[1]] * COUNT

    def test_stored_schema_is_plain(self) -> None:
        """Dictionaries are decoded, metadata is gone, and storing what is stored changes nothing."""
        given = pa.schema(
            [(ID, pa.string()), ("kind", pa.dictionary(pa.int8(), pa.string()))], metadata={"made": "by hand"}
        )
        stored = self.sink.stored_schema(given)
        assert stored.names == given.names
        assert stored.field("kind").type == pa.string()
        assert not stored.metadata
        assert self.sink.stored_schema(stored).equals(stored)

    def test_column_that_stands_twice_is_a_plan_error(self) -> None:
        """It says so before any row is read."""
        with pytest.raises(PlanError):
            self.sink.stored_schema(pa.schema([("a", pa.int8()), ("a", pa.int8())]))

    def _written(self, batches: Iterable[pa.RecordBatch], *, constants: dict[str, str] | None = None) -> bytes:
        stream = _OneWay()
        writer = self.sink.open(cast("Any", stream), self.sink.stored_schema(ROWS.schema), constants=constants)
        for batch in batches:
            writer.write(batch)
        writer.close()
        assert not stream.closed, "the stream is its owner's to close"
        return stream.getvalue()


def _present(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if value is not None} for row in rows]
