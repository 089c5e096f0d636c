"""Runs every kernel on texts between two pages of memory that nobody may touch: a read outside ends the process.

    python reads_inside.py texts      # prints how many columns were judged
    python reads_inside.py beyond     # what a kernel that reads one byte too far comes to; `before`: one byte early

A script of its own, since a violation is no exception: the test beside it looks at how the process ended.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
import pyarrow as pa
from references.invalid_utf8 import INVALID
from references.odd_texts import CHUNKS, LINE_BREAKS, MARKS, OTHERS, SPACES

from fdf.operator import Filter, Refiner
from fdf.sharing import sharing
from fdf_ops_text.analysis.texts import Texts
from fdf_ops_text.c4_paragraph import C4ParagraphFilter
from fdf_ops_text.c4_quality import C4QualityFilter
from fdf_ops_text.fineweb_quality import FineWebQualityFilter
from fdf_ops_text.gopher_quality import GopherQualityFilter
from fdf_ops_text.gopher_repetition import GopherRepetitionFilter
from fdf_ops_text.kernels.paragraphs import long_lines
from fdf_ops_text.redpajama_signals import RedPajamaSignals
from fdf_ops_text.refinedweb_lines import RefinedWebLineFilter
from fdf_ops_text.remove_lines import RemoveLines

PAGE = mmap.PAGESIZE
PROT_NONE = 0
FILLER = "\nIt is a line of words to be read, and of the words that fill it (see [1]), not all are new.\n\n- x\u2026\n"
# What kernels look beyond: the start of a sequence that they know, broken off by the end of the text.
BROKEN_OFF = [
    "[citation neede",
    "[1",
    "lorem ipsu",
    "javascrip",
    "use coo\u212a",
    "..",
    ". . ",
    "U",
    "US",
    "\r",
    "'s",
    "a\u2026",
]
BROKEN_OFF += [
    "http://",
    "a@",
    "1,",
    "x.",
    "a" * 7,
    "a" * 8,
    "a" * 9,
    "a b c d e",
    "a b c d e f g h i j k l",
    "12 likes",
    "sign-i",
]
PIECES = [*BROKEN_OFF, *LINE_BREAKS, *MARKS[::2], *CHUNKS[::4], *OTHERS[::2], *SPACES[::4], "a"]
TOKENIZERS = ("whitespace", "datatrove", "unicode", "dclm", "fasttext", "rpv2")


def operators():
    """Return operators that together call every kernel, none of them satisfied before its last rule."""
    counts = {"min_words": False, "min_word_length": False, "max_word_length": False, "min_stop_words": 0}
    shares = {"max_symbols": 1e9, "max_bullet_lines": 2, "max_ellipsis_lines": 2, "min_letter_words": 0}
    never = dict.fromkeys(GopherRepetitionFilter.reasons[1:], 1e9)
    never = {name: bound for name, bound in never.items() if hasattr(GopherRepetitionFilter(), name)}
    made = [GopherQualityFilter(tokenizer=words, **counts, **shares) for words in TOKENIZERS]
    made += [GopherQualityFilter(preset=preset) for preset in ("datatrove", "dolma", "dclm", "paper")]
    made += [GopherRepetitionFilter(tokenizer=words, **never) for words in TOKENIZERS]
    made += [GopherRepetitionFilter(preset=preset, **never) for preset in ("dolma", "dclm")]
    made += [FineWebQualityFilter(line_punct_ratio=0, short_line_ratio=2, char_dup_ratio=2), C4ParagraphFilter()]
    made += [C4QualityFilter(preset=preset, terminal_punct=False) for preset in ("datatrove", "t5", "dclm")]
    made += [C4QualityFilter(min_words_per_line=0, min_sentences=0, tokenizer="whitespace"), RefinedWebLineFilter()]
    made += [RemoveLines(preset=preset, min_words_per_line=0) for preset in ("datatrove", "t5", "dclm")]
    return [*made, RemoveLines(rules="refinedweb"), RedPajamaSignals()]


class GuardedPages:
    """Memory for texts, with a page before it and one behind it that cannot be read or written."""

    def __init__(self, size: int) -> None:
        room = -(-size // PAGE) * PAGE
        self._held = mmap.mmap(-1, room + 2 * PAGE)
        before = ctypes.addressof(ctypes.c_char.from_buffer(self._held))
        self.start, self.end = before + PAGE, before + PAGE + room
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (before, self.end):
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def column(self, rows, kind, *, at_end):
        """Return rows of bytes as a column whose first byte follows one page, or whose last byte the other follows."""
        data = b"".join(rows)
        at = self.end - len(data) if at_end else self.start
        ctypes.memmove(at, data, len(data))
        width = np.int64 if kind == pa.large_string() else np.int32
        borders = np.cumsum([0, *map(len, rows)]).astype(width)
        buffers = [None, pa.py_buffer(borders), pa.foreign_buffer(at, len(data), self)]
        return pa.Array.from_buffers(kind, len(rows), buffers), at


def answers(column):
    """Return what all operators say of a column, or the error."""
    batch = pa.record_batch({"text": column})
    told = []
    with sharing():
        for operator in OPERATORS:
            try:
                if isinstance(operator, Filter):
                    told.append(operator.verdict(batch).codes.tolist())
                else:
                    columns = operator.refine(batch) if isinstance(operator, Refiner) else operator.score(batch)
                    told.append([values.to_pylist() for values in columns.values()])
            except ValueError:
                told.append("refused")
    return told


def texts():
    """Judge texts at both ends of the memory, and compare with what is said of the same texts elsewhere."""
    pages = GuardedPages(PAGE)
    judged = 0
    for number, piece in enumerate(PIECES):
        encoded = piece.encode()
        filler = (FILLER * 60).encode()[: PAGE - 2 * len(encoded)].decode(errors="ignore").encode()
        filler += b"x" * (PAGE - 2 * len(encoded) - len(filler))
        layouts = [[encoded, b"x", encoded]]
        if number % 16 == 0:
            # From one page to the other, as one text and as three.
            layouts += [[encoded + filler + encoded], [encoded, filler, encoded]]
        for rows in layouts:
            wanted = answers(pa.array([row.decode() for row in rows], pa.large_string()))
            assert "refused" not in wanted
            for kind, at_end in ((pa.large_string(), True), (pa.string(), False)):
                column, at = pages.column(rows, kind, at_end=at_end)
                assert Texts.of(column).data.ctypes.data == at, "kernels read the bytes where they stand"
                assert answers(column) == wanted, (rows, kind, at_end)
                judged += 1
    for rows in INVALID.values():
        for at_end in (True, False):
            column, _ = pages.column(rows, pa.string(), at_end=at_end)
            assert answers(column) == ["refused"] * len(OPERATORS), rows
            judged += 1
    print(judged)


def misread(by: int) -> None:
    """Let a kernel read one byte outside."""
    pages = GuardedPages(PAGE)
    column, at = pages.column([b"a text"], pa.large_string(), at_end=by > 0)
    held = np.ctypeslib.as_array((ctypes.c_ubyte * 6).from_address(at))
    first, last = np.array([min(by, 0)]), np.array([6 + max(by, 0)])
    long_lines(held, np.array([0]), np.array([6]), 1)
    print("inside", len(column), flush=True)
    long_lines(held, first, last, 1)
    print("outside")


if __name__ == "__main__":
    if sys.argv[1] == "texts":
        OPERATORS = operators()
        texts()
    else:
        misread(1 if sys.argv[1] == "beyond" else -1)
