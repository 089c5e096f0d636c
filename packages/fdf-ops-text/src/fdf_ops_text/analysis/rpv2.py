"""RedPajama-v2's view of a text column: its lines as they stand, and its normal form with words and lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.sharing import shared
from fdf_ops_text.analysis.texts import MOST_BYTES, Integers, Texts
from fdf_ops_text.analysis.words import Words
from fdf_ops_text.characters import table
from fdf_ops_text.folding import folding
from fdf_ops_text.kernels.folding import folded_bytes, folded_words
from fdf_ops_text.kernels.rpv2 import raw_lines

# RedPajama-Data 6d2cee9, core/quality_signals/lines.py: bullets, triangles, squares and the en dash.
BULLETS = np.array([0x2022, 0x2023, 0x25B6, 0x25C0, 0x25E6, 0x25A0, 0x25A1, 0x25AA, 0x25AB, 0x2013], np.int64)


@dataclass(frozen=True, eq=False)
class Lines:
    """Something known of each line: row r has the lines from ``borders[r]`` to ``borders[r + 1]`` of `values`."""

    borders: Integers
    values: tuple[npt.NDArray[Any], ...]

    @classmethod
    def up_to(cls, last: Integers, values: tuple[npt.NDArray[Any], ...]) -> Lines:
        """Make it of each row's last line + 1."""
        return cls(np.concatenate([np.zeros(1, np.int64), last]), values)

    @property
    def counts(self) -> Integers:
        """Per row: how many lines it has."""
        return np.diff(self.borders)

    def take(self, rows: Integers) -> Lines:
        """Return the lines of these rows only, numbered anew."""
        counts = self.counts[rows]
        borders = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        lines = np.repeat(self.borders[:-1][rows] - borders[:-1], counts) + np.arange(borders[-1])
        return Lines(borders, tuple(values[lines] for values in self.values))


@dataclass(frozen=True, eq=False)
class RawLines:
    """Per row: sentences, curly brackets, lines that end in an ellipsis. Per line: first character, the one after its
    last, whether it ends in a terminal mark, whether it starts with a bullet, characters in upper case.
    """

    sentences: Integers
    curly: Integers
    ellipses: Integers
    lines: Lines

    def take(self, rows: Integers) -> RawLines:
        """Return what is known of these rows only."""
        return RawLines(self.sentences[rows], self.curly[rows], self.ellipses[rows], self.lines.take(rows))


@dataclass(frozen=True, eq=False)
class Normalized:
    """Normal forms (`words.texts`) with their words. Per line of the text before: words, their characters, numeric
    characters, and words that are ``javascript``.
    """

    words: Words
    lines: Lines

    def take(self, rows: Integers) -> Normalized:
        """Return these rows only."""
        return replace(self, words=self.words.take(rows), lines=self.lines.take(rows))


def raw_lines_of(column: pa.Array) -> RawLines:
    """Return the lines of a column, shared within a batch. A line ends with a line feed or with the text."""
    return shared(column, "rpv2 lines", lambda: _raw_lines(column))


def normalized_of(column: pa.Array) -> Normalized:
    """Return the normal forms of a column, shared within a batch.

    ASCII punctuation is removed, the rest put in lower case, whitespace collapsed to one space between words, and the
    result decomposed canonically (NFD), in this order.
    """
    return shared(column, "rpv2 normal form", lambda: _normalized(column))


def _raw_lines(column: pa.Array) -> RawLines:
    texts = Texts.of(column)
    sentences, curly, ellipses, last, values = raw_lines(texts.data, texts.starts, texts.ends, table(), BULLETS)
    return RawLines(sentences, curly, ellipses, Lines.up_to(last, values))


def _normalized(column: pa.Array) -> Normalized:
    texts, tables = Texts.of(column), folding()
    size = folded_bytes(texts.data)
    if size > MOST_BYTES:
        raise MemoryError(f"a batch of text whose normal form may take {size:,} bytes is too large for one piece")
    data, starts, ends, words, last, values = folded_words(
        texts.data, texts.starts, texts.ends, table(), tables.traits, tables.index, tables.entries, size
    )
    data.flags.writeable = False
    normal = Texts(data, starts, ends, texts.valid)
    return Normalized(Words(normal, *words), Lines.up_to(last, values))
