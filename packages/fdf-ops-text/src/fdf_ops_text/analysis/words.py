"""The words of a text column under a named segmentation, found once per batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.sharing import known, shared
from fdf_ops_text import text_filter
from fdf_ops_text.analysis.texts import Integers, Texts
from fdf_ops_text.characters import SPACE, Table, table
from fdf_ops_text.folding import folding
from fdf_ops_text.kernels.words import STARTS_ALNUM, whitespace_words

_FASTTEXT_SPACES = " \n\t\v\f\r\0"

Tokenizer = text_filter.Tokenizer | Literal["rpv2_normalized"]
"""What operators offer as `tokenizer`, and words that lie in texts of their own."""


@dataclass(frozen=True, eq=False)
class Words:
    """Words of some texts. Row r has the words ``first[r]`` to ``last[r]`` (exclusive) of the arrays after them.

    Per word: first byte, length in bytes, length in characters, flags (see `fdf_ops_text.kernels.words`), hash.
    """

    texts: Texts
    first: Integers
    last: Integers
    at_byte: npt.NDArray[np.int32]
    n_bytes: npt.NDArray[np.int32]
    n_chars: npt.NDArray[np.int32]
    flags: npt.NDArray[np.uint8]
    hashes: npt.NDArray[np.uint64]

    @property
    def counts(self) -> Integers:
        """Per row: how many words it has."""
        return self.last - self.first

    def take(self, rows: Integers) -> Words:
        """Return the words of these rows only."""
        return replace(self, texts=self.texts.take(rows), first=self.first[rows], last=self.last[rows])

    def having(self, flag: int) -> Words:
        """Return the words that have this flag."""
        keep = self.flags & flag != 0
        before = np.concatenate([[0], np.cumsum(keep)])
        return Words(
            self.texts,
            before[self.first],
            before[self.last],
            self.at_byte[keep],
            self.n_bytes[keep],
            self.n_chars[keep],
            self.flags[keep],
            self.hashes[keep],
        )

    def of_row(self, row: int) -> list[str]:
        """Return the words of one row, as strings: for tests and explanations."""
        data = self.texts.data
        return [
            bytes(data[self.at_byte[i] : self.at_byte[i] + self.n_bytes[i]]).decode()
            for i in range(self.first[row], self.last[row])
        ]


def words_of(column: pa.Array, tokenizer: Tokenizer) -> Words:
    """Return the words of a column: found now, or by an operator before in this batch.

    - `whitespace`: maximal runs without whitespace, Python's ``text.split()``.
    - `datatrove`: spaCy's blank English tokenizer, as datatrove 0.10.1 uses it (needs the extra `spacy`).
    - `rpv2`: runs of word characters and runs of other marks, NLTK 3.8's WordPunct, RedPajama-v2's raw words.
    - `rpv2_normalized`: its normalised words, which lie in texts of their own (`Words.texts`).
    - `unicode`: the segments between word boundaries of UAX #29 (Unicode 16.0) that hold a character other than
      whitespace (`str.isspace`): letters and digits, and also punctuation, symbols and emoji (needs the extra
      `unicode`).
    - `dclm`: of these, the segments whose first character is a letter or a digit (`str.isalnum`), as DCLM has them
      from uniseg.
    - `dolma`: dolma's words, which are those of `whitespace`.
    - `fasttext`: maximal runs without the whitespace of ASCII and NUL whose first character is a letter or a digit, as
      DCLM has them from fastText's tokenizer.
    """
    return shared(column, ("words", tokenizer), lambda: _SEGMENTATIONS[tokenizer](column))


def known_words(column: pa.Array, tokenizer: Tokenizer) -> Words | None:
    """Return the words of a column if an operator before in this batch has found them."""
    return cast("Words | None", known(column, ("words", tokenizer)))


def _whitespace(column: pa.Array) -> Words:
    texts = Texts.of(column)
    return Words(texts, *whitespace_words(texts.data, texts.starts, texts.ends, table()))


def _datatrove(column: pa.Array) -> Words:
    from fdf_ops_text.analysis.chunks import english

    return english().cut(words_of(column, "whitespace"))


def _rpv2(column: pa.Array) -> Words:
    from fdf_ops_text.kernels.wordpunct import wordpunct_words

    texts = Texts.of(column)
    return Words(texts, *wordpunct_words(texts.data, texts.starts, texts.ends, table(), folding().traits))


def _rpv2_normalized(column: pa.Array) -> Words:
    from fdf_ops_text.analysis.rpv2 import normalized_of

    return normalized_of(column).words


def _unicode(column: pa.Array) -> Words:
    return _between_breaks(column, alnum=False)


def _dclm(column: pa.Array) -> Words:
    return _between_breaks(column, alnum=True)


def _between_breaks(column: pa.Array, *, alnum: bool) -> Words:
    from fdf_ops_text.analysis.wordbreaks import break_table
    from fdf_ops_text.kernels.uax29 import unicode_words

    texts = Texts.of(column)
    return Words(texts, *unicode_words(texts.data, texts.starts, texts.ends, table(), break_table(), alnum))


def _dolma(column: pa.Array) -> Words:
    return words_of(column, "whitespace")


def _fasttext(column: pa.Array) -> Words:
    texts = Texts.of(column)
    words = Words(texts, *whitespace_words(texts.data, texts.starts, texts.ends, _fasttext_table()))
    return words.having(STARTS_ALNUM)


@cache
def _fasttext_table() -> Table:
    """Return the table of characters with fastText's idea of whitespace (dictionary.cc, `readWord`)."""
    ours = table() & np.uint16(~SPACE & 0xFFFF)
    ours[[ord(space) for space in _FASTTEXT_SPACES]] |= np.uint16(SPACE)
    # Of the same type as the table that is read only, so that no kernel is compiled twice.
    ours.flags.writeable = False
    return ours


_SEGMENTATIONS: dict[str, Callable[[pa.Array], Words]] = {
    "whitespace": _whitespace,
    "datatrove": _datatrove,
    "rpv2": _rpv2,
    "rpv2_normalized": _rpv2_normalized,
    "unicode": _unicode,
    "dclm": _dclm,
    "dolma": _dolma,
    "fasttext": _fasttext,
}
