"""The words of a text column under a named segmentation, found once per batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.sharing import shared
from fdf_ops_text.analysis.texts import Integers, Texts
from fdf_ops_text.characters import table
from fdf_ops_text.folding import folding
from fdf_ops_text.kernels.words import whitespace_words

Tokenizer = Literal["whitespace", "datatrove", "rpv2", "rpv2_normalized"]


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
    """
    return shared(column, ("words", tokenizer), lambda: _SEGMENTATIONS[tokenizer](column))


def prepare(tokenizer: Tokenizer) -> None:
    """Load what a segmentation needs. Raises ModuleNotFoundError where a library is missing."""
    words_of(pa.array(["It's warm."]), tokenizer)


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


_SEGMENTATIONS: dict[str, Callable[[pa.Array], Words]] = {
    "whitespace": _whitespace,
    "datatrove": _datatrove,
    "rpv2": _rpv2,
    "rpv2_normalized": _rpv2_normalized,
}
