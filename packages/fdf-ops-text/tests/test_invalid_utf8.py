"""Bytes that are no UTF-8 in columns that claim to be text, as a file from elsewhere may hold them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from references.invalid_utf8 import INVALID

import fdf
from fdf.operator import Context, Filter, Refiner
from fdf.registry import entries, load_entry
from fdf.sharing import sharing
from fdf_ops_text.gopher_quality import GopherQualityFilter
from fdf_ops_text.remove_lines import RemoveLines
from fdf_ops_text.statistics import TextStatistics

NO_UTF8 = r"(?i)utf-?8"
PARAMETERS = {"BadWordsFilter": {"words": {"en": ("x",)}}}
ANNOUNCED = {entry.name: entry for entry in entries("fdf.operators") if entry.distribution == "fdf-ops-text"}


def column_of_bytes(rows, kind=None):
    """Return bytes as a text column that nobody checked; null for None."""
    binary = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    kind = kind or pa.string()
    held = pa.array(rows, binary[kind])
    return pa.Array.from_buffers(kind, len(held), held.buffers())


def kinds_of_columns(rows):
    """Yield bytes as columns of every kind of text, and as a slice of a longer column."""
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        yield column_of_bytes(rows, kind)
    yield pa.DictionaryArray.from_arrays(np.arange(len(rows), dtype=np.int32), column_of_bytes(rows))
    yield column_of_bytes([b"before", *rows, b"after"]).slice(1, len(rows))


def batch_of(field, column):
    """Return a batch in which everything is well but this column."""
    rows = len(column)
    columns = {
        "text": pa.array(["A text in English."] * rows),
        "url": pa.array(["http://example.com/"] * rows),
        "language": pa.array(["en"] * rows),
        "language_score": pa.array([0.9] * rows, pa.float32()),
    }
    return pa.record_batch({**columns, field: column})


def answer(operator, batch):
    if isinstance(operator, Filter):
        return operator.verdict(batch).codes.tolist()
    columns = operator.refine(batch) if isinstance(operator, Refiner) else operator.score(batch)
    return {name: column.to_pylist() for name, column in columns.items()}


@pytest.fixture(scope="module", params=sorted(ANNOUNCED))
def operator(request, tmp_path_factory):
    made = load_entry(ANNOUNCED[request.param])(**PARAMETERS.get(request.param, {}))
    made.setup(Context(operator_id=request.param, seed=0, cache_dir=tmp_path_factory.mktemp("cache")))
    yield made
    made.teardown()


@pytest.mark.parametrize("name", INVALID)
def test_every_operator_raises_for_a_batch_with_bytes_that_are_no_utf8(operator, name):
    rows = INVALID[name]
    with pytest.raises(UnicodeDecodeError):
        [row.decode() for row in rows]
    for column in kinds_of_columns(rows):
        with pytest.raises(ValueError, match=NO_UTF8):
            answer(operator, batch_of(operator.field, column))


def test_every_operator_answers_where_the_same_columns_hold_text(operator):
    rows = [row.decode(errors="replace").encode() for rows in INVALID.values() for row in rows]
    told = [answer(operator, batch_of(operator.field, column)) for column in kinds_of_columns(rows)]
    assert all(one == told[0] for one in told)


def test_what_a_null_hides_is_nobodys_text(operator):
    told = []
    for hidden in (b"caf\xc3", b"", b"\xff\xff"):
        held = column_of_bytes([b"A text.", hidden, b"Another one."])
        valid = pa.array([True, False, True]).buffers()[1]
        column = pa.Array.from_buffers(pa.string(), 3, [valid, *held.buffers()[1:]])
        assert column.null_count == 1
        told.append(answer(operator, batch_of(operator.field, column)))
    assert told[0] == told[1] == told[2]


def test_shared_columns_are_refused_as_often_as_they_are_asked_about():
    batch = batch_of("text", column_of_bytes([b"fine", b"caf\xe9"]))
    with sharing():
        for _ in range(2):
            with pytest.raises(ValueError, match=NO_UTF8):
                GopherQualityFilter(tokenizer="whitespace").verdict(batch)
        with pytest.raises(ValueError, match=NO_UTF8):
            RemoveLines().refine(batch)


@pytest.mark.parametrize("operators", [(GopherQualityFilter(min_words=2, min_stop_words=1),), (TextStatistics(),)])
def test_rows_of_a_parquet_file_that_are_no_utf8_are_quarantined_and_no_others(tmp_path, monkeypatch, operators):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    good = [f"This is the text number {i} of the file, and it is good.".encode() for i in range(200)]
    bad = {17 * i + 3: row for i, rows in enumerate(INVALID.values()) if i < 11 for row in rows[-1:]}
    bad = {place: row for place, row in bad.items() if not _is_text(row)}
    rows = [bad.get(i, row) for i, row in enumerate(good)]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": pa.array(range(200)), "text": column_of_bytes(rows)}), path, row_group_size=64)

    pipeline = fdf.Pipeline("p").read("parquet", path=str(path)).stage("s", list(operators), path=str(tmp_path / "s"))
    result = fdf.run(pipeline, runner="serial")

    assert result.exit_code == 0
    counts = result.stages[0].manifest["counts"]
    assert len(bad) > 5
    assert (counts["rows_in"], counts["rows_quarantined"], counts["rows_dropped"]) == (200, len(bad), 0)
    kept = result.to_arrow()
    assert sorted(kept["id"].to_pylist()) == [i for i in range(200) if i not in bad]
    assert sorted(kept["text"].to_pylist()) == sorted(row.decode() for i, row in enumerate(good) if i not in bad)


def _is_text(row):
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True
