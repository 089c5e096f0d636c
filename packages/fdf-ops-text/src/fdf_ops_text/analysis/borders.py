"""Where spaCy's look for exceptions among the words of a text reaches across the space between two chunks.

It joins no words across a space, but a longer exception that would reach across one keeps it from joining words within
a chunk: in ``.:(( (x`` the last three marks stay apart, since ``:(((`` begins there, and is none for the space in it.
So a chunk in which words were joined is looked at once more where a space parts it from a neighbour that could go on
with an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
    """Tells which chunks a neighbour may decide about.

    `pairs[a, b]`: an exception has the byte `b` after `a`. `parts` are all parts of exceptions.
    """

    pairs: npt.NDArray[np.bool_]
    parts: frozenset[bytes]

    @classmethod
    def of(cls, exceptions: list[str]) -> Borders:
        """Make the tables for the exceptions that are looked for among words."""
        pairs = np.zeros((256, 256), np.bool_)
        parts: set[bytes] = set()
        for exception in exceptions:
            encoded = exception.encode()
            codes = np.frombuffer(encoded, np.uint8)
            pairs[codes[:-1], codes[1:]] = True
            size = len(encoded)
            parts.update(encoded[i:j] for i in range(size) for j in range(i + 2, size + 1))
        return cls(pairs, frozenset(parts))

    @cached_property
    def longest(self) -> int:
        """The most bytes of a part of an exception."""
        return max(map(len, self.parts))

    def near(self, chunks: Words, joined: Indices) -> list[tuple[int, int]]:
        """Return the pairs of chunks, one of them in `joined`, that one space parts and an exception may reach over."""
        left = np.unique(np.concatenate([joined - 1, joined]))
        left = left[(left >= 0) & (left + 1 < len(chunks.at_byte))]
        data, starts = chunks.texts.data, chunks.texts.starts
        end, start = chunks.at_byte[left] + chunks.n_bytes[left], chunks.at_byte[left + 1]
        held = (start == end + 1) & (data[end] == SPACE) & self.pairs[data[end - 1], data[start]]
        left, end, start = left[held], end[held], start[held]
        # The first chunk of the next row is no neighbour.
        left = left[np.searchsorted(starts, end, side="right") == np.searchsorted(starts, start, side="right")]
        return [(int(i), int(i) + 1) for i in left]

    def may_go_on(self, ends: list[bytes], starts: list[bytes]) -> bool:
        """Say whether an exception may have one of these words and then one of those."""
        return any(end + start in self.parts for end in ends for start in starts)


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
    for token in nlp.tokenizer(bytes(data[begin:end]).decode()):
        size = len(token.text.encode())
        if start <= at < stop:
            sizes.append(size)
        at += size + len(token.whitespace_)
    return sizes
