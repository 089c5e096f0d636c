"""Counts what rows weigh in a mixture's unit: rows, images, bytes or tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import MissingDependency, PlanError, Problem
from fdf.fingerprint import sha256_hex

Sizes: TypeAlias = npt.NDArray[np.int64]
Method: TypeAlias = Literal[
    "rows", "image column", "images column", "utf-8 bytes", "binary bytes", "tokens column", "tokenizer", "estimate"
]

Types: TypeAlias = dict[str, pa.DataType]

TEXT, TOKENS, IMAGE, IMAGES = "text", "tokens", "image", "images"
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How the rows of one source are counted. `columns` are read for it."""

    unit: str
    method: Method
    columns: tuple[str, ...] = ()
    tokenizer: str | None = None
    tokenizer_sha256: str | None = None
    otherwise: Measure | None = None
    """How rows are counted that have none of `columns`: those of a mixture's datasets that lack them."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Every column that counting may read."""
        return self.columns if self.otherwise is None else (*self.columns, *self.otherwise.reads)

    def of(self, batch: pa.RecordBatch) -> Sizes:
        """Return what each row weighs; a null weighs nothing."""
        rows = batch.num_rows
        if self.method == "rows":
            return np.ones(rows, dtype=np.int64)
        total = np.zeros(rows, dtype=np.int64)
        for name in self.columns:
            total += self._column(batch.column(name))
        if self.otherwise is not None:
            lacking = np.logical_and.reduce(
                [batch.column(n).is_null().to_numpy(zero_copy_only=False) for n in self.columns]
            )
            if lacking.any():
                total[lacking] = self.otherwise.of(batch.select(self.otherwise.reads).filter(pa.array(lacking)))
        return total

    def of_block(self, rows: int, held: Iterable[int], values: Iterable[int]) -> int:
        """Return what a block weighs by its footer: the bytes that its columns take uncompressed, or their values."""
        if self.method == "rows":
            return rows
        if self.method in ("image column", "images column", "tokens column"):
            return sum(values)
        return -(-sum(held) // BYTES_PER_TOKEN) if self.method == "estimate" else sum(held)

    def describe(self) -> dict[str, Any]:
        """Return where the sizes come from, for the manifest."""
        said: dict[str, Any] = {"unit": self.unit, "method": self.method, "columns": list(self.columns)}
        if self.method == "estimate":
            said["formula"] = f"ceil(UTF-8 bytes / {BYTES_PER_TOKEN})"
        if self.tokenizer_sha256 is not None:
            said["tokenizer_sha256"] = self.tokenizer_sha256
        if self.otherwise is not None:
            said["otherwise"] = self.otherwise.describe()
        return said

    def _column(self, column: pa.Array) -> Sizes:
        if self.method == "image column":
            return _integers(pc.cast(pc.is_valid(column), pa.int64()))
        if self.method == "images column":
            return _integers(pc.list_value_length(column))
        if self.method == "tokens column":
            return _integers(pc.list_value_length(column) if _is_list(column.type) else column)
        if self.method == "tokenizer":
            assert self.tokenizer is not None
            return _tokenized(column, self.tokenizer)
        lengths = _integers(pc.binary_length(column))
        return -(-lengths // BYTES_PER_TOKEN) if self.method == "estimate" else lengths


def choose_measure(
    unit: str, schema: pa.Schema, *, tokenizer: str | None, name: str, lacking: Collection[str] = ()
) -> Measure:
    """Return how rows with these columns are counted. Raises PlanError where they cannot be.

    `lacking` are columns that not every dataset of the rows has: theirs are counted by the next column that does.
    """
    types = {f.name: f.type for f in schema}
    made = _chosen(unit, types, tokenizer=tokenizer, name=name)
    rest = {n: t for n, t in types.items() if n not in made.columns}
    if lacking and made.columns and {*made.columns} <= {*lacking} and _METHODS[unit](rest) is not None:
        rows = pa.schema(list(rest.items()))
        made = replace(made, otherwise=choose_measure(unit, rows, tokenizer=tokenizer, name=name, lacking=lacking))
    return made


def _chosen(unit: str, types: Types, *, tokenizer: str | None, name: str) -> Measure:
    found = _METHODS[unit](types)
    if found is None:
        raise PlanError(
            Problem(
                code="FDF346",
                message=f"`{name}` cannot be mixed by {unit}: it has no column for that",
                about="unit",
                help=f"that needs {_WANTED[unit]}; it has: {', '.join(types) or 'none'} (rename with `columns:`)",
            )
        )
    method, columns = found
    if method != "estimate" or tokenizer is None:
        return Measure(unit=unit, method=method, columns=columns)
    try:
        digest = sha256_hex(Path(tokenizer).read_bytes())
    except OSError as error:
        raise PlanError(
            Problem(
                code="FDF300",
                message=f"the tokenizer {tokenizer} cannot be read: {error.strerror or error}",
                about="tokenizer",
                help="give the path of a tokenizer.json, or leave it out to count ceil(UTF-8 bytes / 4)",
            )
        ) from error
    return Measure(unit=unit, method="tokenizer", columns=columns, tokenizer=tokenizer, tokenizer_sha256=digest)


def counting(unit: str, schema: pa.Schema, *, tokenizer: str | None, lacking: Collection[str] = ()) -> Measure:
    """Return how rows of several sources are counted alike; by rows where their columns allow nothing else."""
    try:
        return choose_measure(unit, schema, tokenizer=tokenizer, name="the mixture", lacking=lacking)
    except PlanError:
        return Measure(unit="rows", method="rows")


Found: TypeAlias = tuple[Method, tuple[str, ...]] | None
_WANTED = {
    "images": "a column `image`, or a list `images`",
    "bytes": "a column `text`, or columns of bytes",
    "tokens": "a column `tokens` or `text`",
}


def _by_images(types: Types) -> Found:
    if IMAGE in types:
        return "image column", (IMAGE,)
    return ("images column", (IMAGES,)) if IMAGES in types and _is_list(types[IMAGES]) else None


def _by_bytes(types: Types) -> Found:
    if TEXT in types and _is_text(types[TEXT]):
        return "utf-8 bytes", (TEXT,)
    binary = tuple(n for n, t in types.items() if pa.types.is_binary(t) or pa.types.is_large_binary(t))
    return ("binary bytes", binary) if binary else None


def _by_tokens(types: Types) -> Found:
    if TOKENS in types and _countable(types[TOKENS]):
        return "tokens column", (TOKENS,)
    return ("estimate", (TEXT,)) if TEXT in types and _is_text(types[TEXT]) else None


_METHODS: dict[str, Callable[[Types], Found]] = {
    "rows": lambda _: ("rows", ()),
    "images": _by_images,
    "bytes": _by_bytes,
    "tokens": _by_tokens,
}


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _countable(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or _is_list(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _integers(array: pa.Array) -> Sizes:
    whole = pc.fill_null(pc.cast(array, pa.int64()), 0)
    sizes: Sizes = whole.to_numpy(zero_copy_only=False)
    return sizes


_TOKENIZERS: dict[str, Callable[[list[str]], list[int]]] = {}


def _tokenized(column: pa.Array, path: str) -> Sizes:
    if path not in _TOKENIZERS:
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise MissingDependency(
                "counting tokens by a tokenizer file needs the package `tokenizers`", help="pip install tokenizers"
            ) from error
        try:
            tokenizer = Tokenizer.from_file(path)
        except Exception as error:  # the package raises nothing narrower
            raise PlanError(
                Problem(
                    code="FDF300",
                    message=f"the tokenizer {path} cannot be used: {error}",
                    help="give the path of a tokenizer.json, as `tokenizers` writes it",
                )
            ) from error

        def count(texts: list[str]) -> list[int]:
            return [len(e) for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

        _TOKENIZERS[path] = count
    return np.array(_TOKENIZERS[path](pc.fill_null(column, "").to_pylist()), dtype=np.int64)
