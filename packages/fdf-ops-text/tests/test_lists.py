from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.errors import PlanError
from fdf_ops_text.lists import EntryIndex, check_files, digests, read_entries


def read(*inline, paths=()):
    return read_entries(inline, [str(p) for p in paths], parameter="domains", operator="URLFilter")


def test_files_by_glob_plain_and_gzipped_are_read_line_by_line(tmp_path):
    for name, data in (("adult", b"a.com\r\n# a comment\n\n  b.com \n"), ("games", gzip.compress("ü.com".encode()))):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("domains" if name == "adult" else "domains.gz")).write_bytes(data)
    entries = read("x.com", "", "#no", paths=[tmp_path / "*" / "domains*"])
    told = [(value, entries.name(at)) for at, value in enumerate(entries.values.to_pylist())]
    assert told == [
        ("x.com", "domains"),
        ("a.com", "adult/domains"),
        ("b.com", "adult/domains"),
        ("ü.com", "games/domains.gz"),
    ]


def test_line_in_another_encoding_spoils_no_other(tmp_path):
    (tmp_path / "urls").write_bytes(b"\xef\xbb\xbfone\ncaf\xe9\nlast")
    assert read(paths=[tmp_path / "urls"]).values.to_pylist() == ["one", "caf\ufffd", "last"]


def test_list_that_is_not_there_is_told_with_parameter_and_operator(tmp_path):
    for path in (tmp_path / "absent", tmp_path / "*.nothing"):
        with pytest.raises(PlanError, match="`domain_files` of URLFilter"):
            check_files({"domain_files": (str(path),)}, operator="URLFilter")


def test_file_that_is_no_gzip_is_told(tmp_path):
    (tmp_path / "list.gz").write_bytes(b"plain")
    with pytest.raises(PlanError, match=r"list.gz is no gzip file"):
        read(paths=[tmp_path / "list.gz"])


def test_digest_is_that_of_the_content(tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"one\n")
    told = digests({"url_files": (str(path),)}, operator="URLFilter")
    assert told == {"url_files/list": hashlib.sha256(b"one\n").hexdigest()}
    path.write_bytes(b"another\n")
    assert digests({"url_files": (str(path),)}, operator="URLFilter") != told


words = st.lists(st.text(max_size=3), max_size=20)


@settings(deadline=None)
@given(words, words)
def test_index_finds_what_a_python_list_finds(entries, values):
    held = read(*entries)
    kept = held.values.to_pylist()
    expected = [kept.index(v) if v in kept else -1 for v in values]
    assert EntryIndex(held).find(pa.array(values, pa.large_string())).tolist() == expected


def test_null_is_found_nowhere():
    assert EntryIndex(read("a")).find(pa.array([None, "a"], pa.large_string())).tolist() == [-1, 0]


def test_equal_hashes_of_different_texts_are_no_find(monkeypatch):
    index = EntryIndex(read("a"))
    monkeypatch.setattr("fdf_ops_text.lists.row_hashes", lambda values, key: np.full(len(values), index._hashes[0]))
    assert index.find(pa.array(["b", "a"], pa.large_string())).tolist() == [-1, 0]
