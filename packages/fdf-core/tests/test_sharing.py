from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import fdf
from fdf.sharing import follow, follow_piece, known, shared, shared_by_row, sharing


@dataclass(frozen=True)
class Lengths:
    """How long each text is, made in one piece or narrowed."""

    values: np.ndarray

    def take(self, rows: np.ndarray) -> Lengths:
        return Lengths(self.values[rows])


def counted() -> tuple[Callable[[pa.Array], Lengths], list[int]]:
    """Return a function that measures a column, and the list of how many rows it measured each time."""
    made: list[int] = []

    def lengths(column: pa.Array) -> Lengths:
        def make() -> Lengths:
            made.append(len(column))
            return Lengths(pc.utf8_length(column).to_numpy())

        return shared(column, "lengths", make)

    return lengths, made


def batch(*texts: str) -> pa.RecordBatch:
    return pa.record_batch({"text": list(texts), "n": list(range(len(texts)))})


def test_second_ask_gets_what_the_first_made():
    lengths, made = counted()
    rows = batch("a", "bb", "ccc")
    with sharing():
        first = lengths(rows.column("text"))
        assert lengths(rows.column("text")) is first
    assert made == [3]


def test_rows_that_stay_keep_what_is_known_of_them_through_several_filters():
    lengths, made = counted()
    rows = batch("a", "bb", "ccc", "dddd")
    with sharing():
        lengths(rows.column("text"))
        for keep in (np.array([True, False, True, True]), np.array([False, True, True])):
            narrowed = rows.filter(pa.array(keep))
            follow(rows, narrowed, keep)
            rows = narrowed
        assert lengths(rows.column("text")).values.tolist() == [3, 4]
    assert made == [4]


def test_another_key_a_slice_and_a_rewritten_column_are_made_anew():
    lengths, made = counted()
    rows = batch("a", "bb", "ccc")
    with sharing():
        lengths(rows.column("text"))
        assert shared(rows.column("text"), "other", lambda: Lengths(np.zeros(3))).values.tolist() == [0, 0, 0]
        assert lengths(rows.slice(1).column("text")).values.tolist() == [2, 3]
        assert lengths(pc.utf8_upper(rows.column("text"))).values.tolist() == [1, 2, 3]
    assert made == [3, 2, 3]


def test_what_is_known_can_be_asked_for_without_making_it():
    lengths, made = counted()
    rows = batch("a", "bb", "ccc")
    with sharing():
        assert known(rows.column("text"), "lengths") is None
        first = lengths(rows.column("text"))
        assert known(rows.column("text"), "lengths") is first
        keep = np.array([False, True, True])
        narrowed = rows.filter(pa.array(keep))
        follow(rows, narrowed, keep)
        assert known(narrowed.column("text"), "lengths").values.tolist() == [2, 3]
    assert known(rows.column("text"), "lengths") is None
    assert made == [3]


def test_nothing_is_kept_outside_or_after_a_batch():
    lengths, made = counted()
    column = batch("a").column("text")
    lengths(column)
    lengths(column)
    with sharing():
        lengths(column)
    with sharing():
        lengths(column)
    assert made == [1, 1, 1, 1]


OPERATORS = """
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import fdf
from fdf.sharing import shared


@dataclass(frozen=True)
class Lengths:
    values: object

    def take(self, rows):
        return Lengths(self.values[rows])


def lengths(column, log):
    def make():
        with Path(log).open("a") as file:
            file.write(f"{len(column)} ")
        return Lengths(pc.utf8_length(column).to_numpy())

    return shared(column, "lengths", make).values


@dataclass(frozen=True, kw_only=True)
class AtLeast(fdf.Filter):
    log: str
    chars: int
    field: str = "text"
    version = "1"
    reasons = ("short",)

    def verdict(self, batch):
        return fdf.Verdict.first(short=fdf.below(pa.array(lengths(batch.column(self.field), self.log)), self.chars))


@dataclass(frozen=True, kw_only=True)
class Twice(fdf.Refiner):
    field: str = "text"
    version = "1"

    def writes(self, schema):
        return {self.field: schema.field(self.field).type}

    def refine(self, batch):
        text = batch.column(self.field)
        return {self.field: pc.binary_join_element_wise(text, text, "")}
"""


def test_engine_shares_across_filters_and_measures_a_rewritten_column_anew(tmp_path, home, words, texts_of):
    (tmp_path / "my_ops.py").write_text(OPERATORS)
    words("a", ["a", "bb", "ccc", "dddd", "eeeee"])
    log = tmp_path / "log"

    def at_least(chars: int) -> dict[str, object]:
        params = {"log": str(log), "chars": chars}
        return {"id": f"f{chars}", "kind": "filter", "op": f"{tmp_path}/my_ops.py:AtLeast", "params": params}

    twice = {"id": "twice", "kind": "refiner", "op": f"{tmp_path}/my_ops.py:Twice"}
    stage = {"name": "s", "materialize": {"path": str(tmp_path / "s")}}
    stage["operators"] = [at_least(2), at_least(3), at_least(4), twice, at_least(9)]
    source = {"type": "parquet", "path": str(tmp_path / "in")}
    fdf.run({"name": "sharing", "input": source, "stages": [stage]}, runner="serial")
    assert texts_of(tmp_path / "s") == ["eeeeeeeeee"]
    assert log.read_text().split() == ["5", "2"]


class Lazy:
    """Measures a text when it is asked for it, once."""

    def __init__(self, column: pa.Array, rows: np.ndarray, made: list[str]) -> None:
        self.column, self.rows, self.made = column, rows, made

    def take(self, rows: np.ndarray) -> Lazy:
        return Lazy(self.column, self.rows[rows], self.made)

    def texts(self) -> list[str]:
        return [self.column[int(row)].as_py() for row in self.rows]


def test_pieces_of_a_batch_ask_the_analysis_of_the_whole():
    made: list[int] = []

    def make(column: pa.Array) -> Lazy:
        made.append(len(column))
        return Lazy(column, np.arange(len(column)), [])

    rows = batch("a", "bb", "ccc", "dddd", "eeeee")
    with sharing():
        for start, stop in ((0, 2), (2, 5), (0, 4), (1, 3)):
            piece = rows.slice(start, stop - start)
            follow_piece(rows, piece, start, stop)
            found = shared_by_row(piece.column("text"), "lazy", make)
            assert found.texts() == piece.column("text").to_pylist()
            # A piece of a piece without its first row, as where that is null.
            keep = np.arange(len(piece)) > 0
            rest = piece.filter(pa.array(keep))
            follow(piece, rest, keep, unasked=True)
            assert shared_by_row(rest.column("text"), "lazy", make).texts() == rest.column("text").to_pylist()
    assert made == [5]
    assert shared_by_row(rows.column("text"), "lazy", make).texts() == rows.column("text").to_pylist()
