"""spaCy's English words at the speed of a table.

spaCy's tokenizer decides within each run of non-whitespace (a chunk), whatever stands around it. So each chunk is cut
once per worker, its cuts are kept in a table by hash, and a kernel cuts all further texts. New chunks are cut by a
kernel that follows spaCy's rules; the few that it leaves undecided are given to spaCy. Chunks of plain letters need
none of this. The table is emptied where it grows beyond its bound.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fdf_ops_text.analysis.borders import Borders, cut_among_neighbours
from fdf_ops_text.analysis.english import (
    Rules,
    exception_table,
    exceptions_among_words,
    native_rules,
    single_chunks,
)
from fdf_ops_text.analysis.words import Words
from fdf_ops_text.characters import table
from fdf_ops_text.kernels.english import JOINED, cut_new
from fdf_ops_text.kernels.hashing import hash_of
from fdf_ops_text.kernels.words import SINGLE, cut_chunks, describe_pieces, look_up_chunks, marked_chunks, refill

BLOCK = 1 << 16
"""Chunks that are looked up in one go; the table has room for as many new entries."""
MOST_ENTRIES = 1 << 20
MOST_PIECES = 1 << 23
SMALLEST = 1 << 18
Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]


class ChunkTable:
    """Cuts chunks as a spaCy tokenizer would, and learns the cuts of new ones.

    `rules` let a kernel learn them; None asks the tokenizer about every new chunk.
    """

    def __init__(self, nlp: Any, rules: Rules | None) -> None:
        self._nlp = nlp
        self._rules = rules
        self._exceptions = exception_table(nlp)
        self._borders = Borders.of(exceptions_among_words(nlp))
        self.entries: int
        self._n_pieces: int
        self._keys: Any
        self._values: Any
        self._first: Any
        self._count: Any
        # Per word of an entry: bytes, characters, flags, hash.
        self._pieces: Any
        self._chars: Any
        self._flags: Any
        self._hashes: Any
        # Per entry: whether words may have been joined in it. The last two stand for SINGLE and LAST_OFF.
        self._is_joined: Any
        self._empty()

    def cut(self, chunks: Words) -> Words:
        """Return the words that the tokenizer makes of whitespace-separated chunks."""
        if self.entries > MOST_ENTRIES or self._n_pieces > MOST_PIECES:
            self._empty()
        data = chunks.texts.data
        entries = np.empty(len(chunks.hashes), np.int32)
        for start in range(0, len(entries), BLOCK):
            block = slice(start, start + BLOCK)
            of_block = (chunks.at_byte[block], chunks.n_bytes[block], chunks.flags[block], chunks.hashes[block])
            entries[block] = self._find(data, *of_block)
        joined = marked_chunks(entries, self._is_joined)
        # All are found before any is cut anew: only of the table's own entries is known whether words were joined.
        open_ = {
            index
            for pair in self._borders.near(chunks, joined)
            if self._borders.may_go_on(self._ends(chunks, entries, pair[0]), self._starts(chunks, entries, pair[1]))
            for index in pair
            if self._is_joined[entries[index]]
        }
        if open_:
            # One zone for all: to leave it costs more than what is done in it.
            with self._nlp.memory_zone():
                for index in sorted(open_):
                    entries[index] = self._entry_among_neighbours(chunks, index, int(entries[index]))
        held = (chunks.at_byte, chunks.n_bytes, chunks.n_chars, chunks.flags, chunks.hashes)
        cuts = (self._first, self._count)
        pieces = (self._pieces, self._chars, self._flags, self._hashes)
        arrays = cut_chunks(data, chunks.first, chunks.last, *held, entries, cuts, pieces, table())
        names = ("first", "last", "at_byte", "n_bytes", "n_chars", "flags", "hashes")
        return replace(chunks, **dict(zip(names, arrays, strict=True)))

    def _find(self, data: Bytes, at_byte: Integers, n_bytes: Integers, flags: Bytes, hashes: Hashes) -> Integers:
        """Return the table's entry of each chunk, new ones included."""
        while len(self._keys) < 2 * (self.entries + BLOCK):
            self._keys, self._values = refill(self._keys, self._values, 2 * len(self._keys))
        tables = (*self._exceptions, self._keys, self._values, self.entries)
        found: Integers
        found, new = look_up_chunks(data, at_byte, n_bytes, flags, hashes, *tables)
        if len(new):
            self._learn(data, at_byte[new], n_bytes[new])
        return found

    def _learn(self, data: Bytes, at_byte: Integers, n_bytes: Integers) -> None:
        """Find out how these chunks are cut; they become the next entries."""
        known, new, begin = self.entries, len(at_byte), self._n_pieces
        self._first = _with_room(self._first, known + new)
        self._count = _with_room(self._count, known + new)
        self._pieces = _with_room(self._pieces, self._n_pieces + int(n_bytes.sum()))
        if len(self._is_joined) < known + new + 2:
            self._is_joined = np.concatenate([self._is_joined, np.zeros(known + new, np.bool_)])
        counts, joined = np.full(new, JOINED, np.int32), np.zeros(new, np.bool_)
        if self._rules is not None:
            arrays = (self._rules.classes, self._rules.arrays)
            counts, joined, end = cut_new(data, at_byte, n_bytes, *arrays, self._pieces, self._n_pieces)
            decided = np.maximum(counts, 0)
            self._first[known : known + new] = self._n_pieces + np.cumsum(decided) - decided
            self._n_pieces = int(end)
        # What the kernel left to spaCy before it looked among the words may be joined as well.
        self._is_joined[known : known + new] = joined | (counts < 0)
        decided_here = counts >= 0
        open_ = np.flatnonzero(~decided_here)
        if len(open_):
            chunks = [bytes(data[at : at + size]) for at, size in zip(at_byte[open_], n_bytes[open_], strict=True)]
            sizes, counts[open_] = _asked(self._nlp, chunks)
            # What was undecided has no pieces yet, and there is room for as many as it has bytes.
            self._pieces[self._n_pieces : self._n_pieces + len(sizes)] = sizes
            self._first[known + open_] = self._n_pieces + np.cumsum(counts[open_]) - counts[open_]
            self._n_pieces += len(sizes)
        self._count[known : known + new] = counts
        self.entries += new
        # The kernel's words stand before spaCy's.
        order = np.concatenate([np.flatnonzero(decided_here), open_])
        self._describe(data, at_byte[order], counts[order], begin)

    def _describe(self, data: Bytes, at_byte: Integers, counts: Integers, begin: int) -> None:
        """Note what the words from number `begin` on are, which are those of these chunks, one after the other."""
        room, end = len(self._pieces), self._n_pieces
        self._chars, self._flags = _with_room(self._chars, room), _with_room(self._flags, room)
        self._hashes = _with_room(self._hashes, room)
        told = describe_pieces(data, at_byte, counts, self._pieces[begin:end], table())
        self._chars[begin:end], self._flags[begin:end], self._hashes[begin:end] = told

    def _starts(self, chunks: Words, entries: Integers, index: int) -> list[bytes]:
        """Return what the first word of a chunk may be before words are joined."""
        chunk, entry = _bytes(chunks, index), int(entries[index])
        if self._is_joined[entry]:
            return [chunk[:size] for size in range(1, min(len(chunk), self._borders.longest) + 1)]
        return [chunk[: self._pieces[self._first[entry]]] if entry >= 0 else chunk[: len(chunk) + 1 + entry]]

    def _ends(self, chunks: Words, entries: Integers, index: int) -> list[bytes]:
        """Return what the last word of a chunk may be before words are joined."""
        chunk, entry = _bytes(chunks, index), int(entries[index])
        if self._is_joined[entry]:
            return [chunk[-size:] for size in range(1, min(len(chunk), self._borders.longest) + 1)]
        if entry >= 0:
            return [chunk[-int(self._pieces[self._first[entry] + self._count[entry] - 1]) :]]
        return [chunk if entry == SINGLE else chunk[-1:]]

    def _entry_among_neighbours(self, chunks: Words, index: int, entry: int) -> int:
        """Return the entry of a chunk that its neighbours may decide about: the table's, or one for this place."""
        sizes = cut_among_neighbours(self._nlp, chunks, index)
        first = self._first[entry]
        if sizes == self._pieces[first : first + self._count[entry]].tolist():
            return entry
        self._first = _with_room(self._first, self.entries + 1)
        self._count = _with_room(self._count, self.entries + 1)
        self._pieces = _with_room(self._pieces, self._n_pieces + len(sizes))
        self._pieces[self._n_pieces : self._n_pieces + len(sizes)] = sizes
        self._first[self.entries], self._count[self.entries] = self._n_pieces, len(sizes)
        begin = self._n_pieces
        self._n_pieces += len(sizes)
        self.entries += 1
        here = chunks.at_byte[index : index + 1]
        self._describe(chunks.texts.data, here, np.array([len(sizes)], np.int32), begin)
        return self.entries - 1

    def _empty(self) -> None:
        """Forget all but the tokenizer's exceptions, some of which look like plain words."""
        self.entries = self._n_pieces = 0
        self._keys = np.zeros(SMALLEST, np.uint64)
        self._values = np.empty(SMALLEST, np.int32)
        self._first = np.empty(SMALLEST, np.int64)
        self._count = np.empty(SMALLEST, np.int32)
        self._pieces = np.empty(SMALLEST, np.int32)
        self._chars = np.empty(SMALLEST, np.int32)
        self._flags = np.empty(SMALLEST, np.uint8)
        self._hashes = np.empty(SMALLEST, np.uint64)
        self._is_joined = np.zeros(SMALLEST, np.bool_)
        exceptions = [rule.encode() for rule in single_chunks(self._nlp)]
        sizes = np.array([len(rule) for rule in exceptions], np.int32)
        starts = np.cumsum(sizes, dtype=np.int32) - sizes
        hashes = np.array([hash_of(rule) for rule in exceptions], np.uint64)
        self._find(np.frombuffer(b"".join(exceptions), np.uint8), starts, sizes, np.zeros(len(sizes), np.uint8), hashes)
        # An exception that is a chunk is one by itself.
        self._is_joined[:] = False


def _bytes(chunks: Words, index: int) -> bytes:
    start = chunks.at_byte[index]
    return bytes(chunks.texts.data[start : start + chunks.n_bytes[index]])


def _asked(nlp: Any, chunks: list[bytes]) -> tuple[list[int], list[int]]:
    """Ask spaCy how chunks are cut: the byte lengths of all words, and how many words each chunk has."""
    sizes: list[int] = []
    counts: list[int] = []
    with nlp.memory_zone():
        # One by one: among the words of several chunks, spaCy would look for exceptions across their borders.
        for chunk in chunks:
            words = [len(token.text.encode()) for token in nlp.tokenizer(chunk.decode())]
            sizes += words
            counts.append(len(words))
    return sizes, counts


def _with_room(array: Any, length: int) -> Any:
    """Return the array, or a longer copy, so that it has at least this length."""
    return array if length <= len(array) else np.concatenate([array, np.empty(length, array.dtype)])


@cache
def english() -> ChunkTable:
    """Return this process's table for the blank English pipeline."""
    import spacy

    nlp = spacy.blank("en")
    return ChunkTable(nlp, native_rules(nlp))
