"""Where spaCy's look for exceptions among the words of a text reaches across the space between two chunks.

It joins no words across a space, but a longer exception that would reach across one keeps it from joining words within
a chunk: in ``.:(( (x`` the last three marks stay apart, since ``:(((`` begins there, and is none for the space in it.
So a chunk in which words were joined is looked at once more where a space parts it from a neighbour that could go on
with an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdf_ops_text.analysis.words import Words

REACH = 11
"""The most words of an exception, and so the most chunks on either side that can matter."""
SPACE = 0x20
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Borders:
    """Tells which chunks a neighbour may decide about. `pairs[a, b]`: an exception has the byte `b` after `a`."""

    pairs: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, exceptions: list[str]) -> Borders:
        """Make the table for the exceptions that are looked for among words."""
        pairs = np.zeros((256, 256), np.bool_)
        for exception in exceptions:
            encoded = np.frombuffer(exception.encode(), np.uint8)
            pairs[encoded[:-1], encoded[1:]] = True
        return cls(pairs)

    def open(self, chunks: Words, indices: Indices) -> list[int]:
        """Return those of the chunks that have a neighbour, one space away, with which an exception could go on."""
        before = self._joined(chunks, indices - 1)
        after = self._joined(chunks, indices)
        return [int(i) for i in indices[before | after]]

    def _joined(self, chunks: Words, left: Indices) -> npt.NDArray[np.bool_]:
        data, at_byte, n_bytes = chunks.texts.data, chunks.at_byte, chunks.n_bytes
        held = (left >= 0) & (left + 1 < len(at_byte))
        left = np.where(held, left, 0)
        right = np.minimum(left + 1, len(at_byte) - 1)
        end, start = at_byte[left] + n_bytes[left], at_byte[right]
        held &= (start == end + 1) & (data[np.minimum(end, len(data) - 1)] == SPACE)
        held &= self.pairs[data[end - 1], data[start]]
        # The next row's first chunk is no neighbour.
        held &= np.searchsorted(chunks.texts.starts, end, side="right") == np.searchsorted(
            chunks.texts.starts, start, side="right"
        )
        return held


def cut_among_neighbours(nlp: Any, chunks: Words, index: int) -> list[int]:
    """Return the byte lengths of a chunk's words, cut by spaCy with as much of its text around it as can matter."""
    data = chunks.texts.data
    row = int(np.searchsorted(chunks.first, index, side="right")) - 1
    first = max(int(chunks.first[row]), index - REACH)
    last = min(int(chunks.last[row]), index + 1 + REACH)
    begin, end = int(chunks.at_byte[first]), int(chunks.at_byte[last - 1] + chunks.n_bytes[last - 1])
    start = int(chunks.at_byte[index]) - begin
    stop = start + int(chunks.n_bytes[index])
    sizes = []
    at = 0
    with nlp.memory_zone():
        for token in nlp.tokenizer(bytes(data[begin:end]).decode()):
            size = len(token.text.encode())
            if start <= at < stop:
                sizes.append(size)
            at += size + len(token.whitespace_)
    return sizes
