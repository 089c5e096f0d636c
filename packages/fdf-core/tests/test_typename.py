from __future__ import annotations

import pyarrow as pa
import pytest

from fdf.typename import parse_type

TYPES = [
    pa.bool_(), pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.large_binary(), pa.date32(),
    pa.timestamp("us"), pa.timestamp("ns", tz="Europe/Berlin"), pa.decimal128(10, -2), pa.list_(pa.string()),
    pa.large_list(pa.list_(pa.int8())),
    pa.struct({"a": pa.int64(), "b": pa.list_(pa.struct({"c": pa.decimal128(3, 1)}))}),
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_what_arrow_prints_is_understood(kind):
    assert parse_type(str(kind)) == kind


def test_short_forms_are_understood():
    assert parse_type("list<string>") == pa.list_(pa.string())
    assert parse_type(" float ") == pa.float32()


@pytest.mark.parametrize("name", ["int46", "list<>", "list<int8", "struct<a>", "struct<a: >", "", "list<int8, int8>"])
def test_what_is_no_type_is_refused_with_what_is(name):
    with pytest.raises(ValueError, match="is not the name of a type"):
        parse_type(name)
