"""What spaCy's English tokenizer goes by, as tables for the kernel that follows it.

The tables are made from spaCy's own definitions. The order in which rules are tried is written out in the kernel, so
it is used only with the rules that it was written for; with others, every new chunk is given to spaCy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fdf_ops_text.characters import CODE_POINTS, kept
from fdf_ops_text.kernels.addresses import HOST, LOWER, SCHEME
from fdf_ops_text.kernels.compiling import digest as source_digest
from fdf_ops_text.kernels.compiling import folder
from fdf_ops_text.kernels.english import (
    AFTER_INNER_STOP,
    BEFORE_INNER_STOP,
    BEFORE_STOP,
    HYPHEN,
    INFIX,
    LETTER,
    PREFIX,
    SUFFIX,
    UPPER,
)
from fdf_ops_text.kernels.hashing import hash_of, mixed_of

KNOWN_RULES = frozenset({"f8fb948801314e27"})
"""Digests of the tokenizer rules that the kernel was written for: those of spaCy 3.8."""


@dataclass(frozen=True, eq=False)
class Rules:
    """Bits per code point, and the tables of exceptions and units, in the kernel's order."""

    classes: npt.NDArray[np.uint16]
    arrays: tuple[Any, ...]


def native_rules(nlp: Any) -> Rules | None:
    """Return the tables of a blank English pipeline, or None where its rules are not those that the kernel knows."""
    known = digest(nlp)
    if known not in KNOWN_RULES:
        return None
    classes = kept(folder() / f"english-{known}-{source_digest(Path(__file__))}.npy", _classes)
    return Rules(classes, (*_exceptions(nlp), *_units()))


def digest(nlp: Any) -> str:
    """Return a digest of the patterns that a tokenizer goes by."""
    tokenizer = nlp.tokenizer
    searches = (tokenizer.prefix_search, tokenizer.suffix_search, tokenizer.infix_finditer, tokenizer.url_match)
    patterns = "\n".join(search.__self__.pattern for search in searches)
    settings = f"{tokenizer.token_match} {tokenizer.faster_heuristics}"
    return hashlib.sha256(f"{patterns}\n{settings}".encode()).hexdigest()[:16]


def _classes() -> npt.NDArray[np.uint16]:
    from spacy.lang import char_classes as spacy

    letters, upper, lower, quotes = spacy.ALPHA, spacy.ALPHA_UPPER, spacy.ALPHA_LOWER, spacy.CONCAT_QUOTES
    single = [mark for mark in (*spacy.LIST_PUNCT, *spacy.LIST_QUOTES) if len(re.sub(r"\\", "", mark)) == 1]
    marks = "|".join([*single, "\u2026", "\u2014", "\u2013", f"[{spacy.ICONS}]"])
    currencies = "|".join(mark for mark in spacy.LIST_CURRENCY if len(re.sub(r"\\", "", mark)) == 1)
    patterns = {
        PREFIX: f"§|%|=|{marks}|{currencies}",
        SUFFIX: marks,
        INFIX: f"…|[{spacy.ICONS}]",
        LETTER: f"[{letters}]",
        UPPER: f"[{upper}]",
        LOWER: f"[{lower}]",
        BEFORE_STOP: f"[0-9{lower}%²\\-\\+{spacy.PUNCT}(?:{quotes})]",
        BEFORE_INNER_STOP: f"[{lower}{quotes}]",
        AFTER_INNER_STOP: f"[{upper}{quotes}]",
        HOST: "[A-Za-z0-9\u00a1-\uffff]",
        SCHEME: r"[\w\+\-\.]",
        HYPHEN: "[-\u2013\u2014~]",
    }
    characters = [chr(code) for code in range(CODE_POINTS) if not 0xD800 <= code < 0xE000]
    table = np.zeros(CODE_POINTS, np.uint16)
    for bit, pattern in patterns.items():
        matches = re.compile(pattern).fullmatch
        table[[ord(character) for character in characters if matches(character)]] |= np.uint16(bit)
    return table


def single_chunks(nlp: Any) -> dict[str, Any]:
    """Return the exceptions of a tokenizer that can be a chunk, in order, each with its words."""
    return {rule: words for rule, words in nlp.tokenizer.rules.items() if rule.split() == [rule]}


def exception_table(nlp: Any) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Return an open table from each exception to twice its number, and one more where spaCy looks for it among words
    that it cut apart (Tokenizer.add_special_case).
    """
    among_words = set(exceptions_among_words(nlp))
    rules = list(single_chunks(nlp))
    return _hashed(rules, [2 * number + (rule in among_words) for number, rule in enumerate(rules)])


def exceptions_among_words(nlp: Any) -> list[str]:
    """Return the exceptions that spaCy looks for among words that it cut apart (Tokenizer.add_special_case)."""
    tokenizer = nlp.tokenizer
    finds = (tokenizer.find_prefix, tokenizer.find_infix, tokenizer.find_suffix)
    return [rule for rule in single_chunks(nlp) if any(find(rule) for find in finds)]


def _exceptions(nlp: Any) -> tuple[Any, ...]:
    """Return the table of exceptions, the longest one's bytes, and the byte lengths of their words."""
    rules = single_chunks(nlp)
    pieces: list[int] = []
    counts = []
    for words in rules.values():
        # The key of a word's text is the integer 65 in some versions and "ORTH" in others: the first one given.
        sizes = [len(next(iter(word.values())).encode()) for word in words]
        pieces += sizes
        counts.append(len(sizes))
    firsts = np.cumsum(counts) - counts
    keys, table = exception_table(nlp)
    longest = max(len(rule.encode()) for rule in rules)
    return keys, table, longest, firsts, np.array(counts, np.int32), np.array(pieces, np.int32)


def _units() -> tuple[Any, ...]:
    """Return the table of what is cut off after a digit, and the longest one's bytes."""
    from spacy.lang import char_classes as spacy

    units = sorted({re.sub(r"\\", "", unit) for unit in (*spacy.LIST_UNITS, *spacy.LIST_CURRENCY)})
    keys, values = _hashed(units, list(range(len(units))))
    return keys, values, max(len(unit.encode()) for unit in units)


def _hashed(strings: Sequence[str], values: Sequence[int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Return an open table of strings, four times as large as need be."""
    size = 1 << (4 * len(strings)).bit_length()
    keys = np.zeros(size, np.uint64)
    table = np.zeros(size, np.int32)
    for string, value in zip(strings, values, strict=True):
        key = mixed_of(hash_of(string.encode()))
        slot = key % size
        while keys[slot]:
            slot = (slot + 1) % size
        keys[slot], table[slot] = key, value
    return keys, table
