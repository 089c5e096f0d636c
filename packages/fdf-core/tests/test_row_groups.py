"""Row groups are cut at the same rows however the rows arrive, also where weighing is put off."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.row_groups import RowGroups, even, whole
from fdf.schema import row_bytes

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.text(max_size=30),
            "flags": st.none() | st.lists(st.booleans(), max_size=200),
            "flag": st.none() | st.booleans(),
            "box": st.none() | st.fixed_dictionaries({"n": st.integers(0, 9), "b": st.none() | st.binary(max_size=9)}),
        }
    ),
    max_size=40,
)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("flags", pa.list_(pa.bool_())),
        ("flag", pa.bool_()),
        ("box", pa.struct([("n", pa.int64()), ("b", pa.binary())])),
    ]
)


def cut(batches: Iterable[pa.RecordBatch], *, max_bytes: int, max_rows: int) -> list[int]:
    groups = RowGroups(SCHEMA, max_bytes=max_bytes, max_rows=max_rows)
    done = [g for b in batches for g in groups.add(b)]
    return [sum(b.num_rows for b in g) for g in [*done, *groups.rest()]]


def expected(weights: list[int], *, max_bytes: int, max_rows: int) -> list[int]:
    """The rule, one row at a time: the row that reaches a limit is its group's last."""
    sizes, rows, held = [], 0, 0
    for weight in weights:
        rows, held = rows + 1, held + weight
        if held >= max_bytes or rows >= max_rows:
            sizes.append(rows)
            rows = held = 0
    return [*sizes, rows] if rows else sizes


@settings(max_examples=200, deadline=None)
@given(
    rows=ROWS,
    edges=st.lists(st.integers(0, 40), max_size=8),
    max_bytes=st.integers(1, 3000),
    max_rows=st.integers(1, 40),
)
def test_cuts_follow_the_rows_alone(rows: list[dict], edges: list[int], max_bytes: int, max_rows: int) -> None:
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    edges = sorted({0, *(e for e in edges if e < len(rows))})
    parts = [batch.slice(a, b - a) for a, b in pairwise([*edges, len(rows)])]
    wanted = expected(row_bytes(batch).tolist(), max_bytes=max_bytes, max_rows=max_rows)
    assert cut(parts, max_bytes=max_bytes, max_rows=max_rows) == wanted
    assert cut([batch], max_bytes=max_bytes, max_rows=max_rows) == wanted


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, edges=st.lists(st.integers(0, 40), max_size=8), size=st.integers(1, 50))
def test_chunks_are_even_and_hold_the_rows_in_order(rows: list[dict], edges: list[int], size: int) -> None:
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    edges = sorted({0, *(e for e in edges if e < len(rows))})
    parts = [batch.slice(a, b - a) for a, b in pairwise([*edges, len(rows)])]
    chunks = list(even(parts, size))
    assert [c.num_rows for c in chunks] == [len(rows[i : i + size]) for i in range(0, len(rows), size)]
    assert [row for c in chunks for row in c.to_pylist()] == batch.to_pylist()


def test_chunk_within_one_batch_is_not_copied() -> None:
    batch = pa.record_batch({"text": ["a", "b", "c", "d"]})
    first, second = even([batch], 2)
    held = [c.column("text").buffers()[2].address for c in (batch, first, second)]
    assert len(set(held)) == 1
    assert whole([batch]) is batch
