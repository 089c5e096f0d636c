"""Drop texts that hold a word of a list, by language: C4's bad-words rule."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import PlanError, Problem
from fdf.operator import Context, Filter
from fdf.rowhash import row_hashes
from fdf.verdict import Verdict
from fdf_ops_text.lists import check_files, digests, found_in, read_entries
from fdf_ops_text.utf8 import valid_text
from fdf_ops_text.words import require_text

# Some thousand words a pattern; RE2 refuses what does not fit in 8 MiB and crawls close to that.
_WORDS_PER_PATTERN = 2000
_NOWHERE = np.iinfo(np.int64).max
_FOUND = pa.struct([("word", pa.string()), ("language", pa.string())])


@dataclass(frozen=True, kw_only=True)
class BadWordsFilter(Filter):
    r"""Drop texts that hold a listed word of their language, all of them or all but a share (C4, Raffel et al. 2020).

    The rule of C4 and datatrove 0.10.1: the text in lower case matches ``(?:\W|^)(word)(?:\W|$)``, with Python's idea
    of ``\W`` (combining marks are no word characters); in `substring_languages`, which are written without spaces, a
    word counts anywhere. Words are compared as they are listed, so a listed capital never matches. `allow` is taken off
    every list, whatever its language, as datatrove does.

    Lists by language stand in the recipe (`words: { en: [...] }`) or in text files, one word per line
    (`word_files: { en: [path/en] }`, the files of LDNOOBW as they are). None is bundled. The language of a row is in
    `language_field`; where that is not given, or the row's is null, it is `default_language`. A language without a list
    keeps its rows, or raises with `no_list: error`, so that they are quarantined.

    `keep_fraction` of the texts with a word stay. Which ones is decided by a hash of the text and `seed` (datatrove
    draws them at random, so that its result depends on order).

    A null text is kept. A kernel (RE2 over Arrow's buffers) finds the few rows that may match, and the rule itself runs
    on those alone: see docs/adr/0013.

    >>> batch = pa.record_batch({"text": ["A darn shame.", "Socks need darning", None]})
    >>> BadWordsFilter(words={"en": ("darn",)}).verdict(batch).codes.tolist()
    [1, 0, 0]
    """

    field: str = "text"
    """The column of text."""
    words: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Language: its words."""
    word_files: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Language: files of its words; paths, globs or fsspec URLs."""
    language_field: str | None = None
    """The column of language codes, such as LanguageScorer writes; null: every row is in `default_language`."""
    default_language: str = "en"
    """The language of rows that tell none."""
    no_list: Literal["keep", "error"] = "keep"
    """What happens to rows in a language without a list."""
    substring_languages: tuple[str, ...] = ("ja", "th", "zh")
    """Languages in which a word counts anywhere, also within another."""
    allow: tuple[str, ...] = ("sm", "グロ", "女の子", "性")
    """Words taken off every list (by default those of C4's lists for ja and zh)."""
    keep_fraction: float = 0.0
    """The share of texts with a listed word that are kept nevertheless, from 0 to 1."""
    seed: int = 0
    """Another seed keeps others."""

    version = "1.0.0"
    modality = "text"
    reasons = ("document_removed_with_badwords",)

    def __post_init__(self) -> None:
        """Refuse a share that is none, a seed that the hash cannot take, and a filter without lists."""
        if not 0 <= self.keep_fraction <= 1:
            raise ValueError(f"keep_fraction is the share of texts to keep, from 0 to 1, not {self.keep_fraction}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed is a whole number from 0 to 2**63 - 1, not {self.seed}")
        if not self.words and not self.word_files:
            raise ValueError("BadWordsFilter has no list: give `words` or `word_files`, by language")

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the text's column, and the language's where one is named."""
        return (self.field,) if self.language_field is None else (self.field, self.language_field)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return no columns. Raises PlanError where a column is no text, or a list is not there."""
        for name in self.reads(schema):
            require_text(schema, name, operator="BadWordsFilter")
        check_files(self._files(), operator="BadWordsFilter")
        return {}

    def assets(self) -> dict[str, str]:
        """Return the digest of every list."""
        return digests(self._files(), operator="BadWordsFilter")

    def setup(self, context: Context) -> None:
        """Read the lists."""
        self._load()

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Drop the texts that hold a word of their language's list."""
        lists = self._load()
        text = valid_text(batch.column(self.field))
        found: dict[int, dict[str, str]] = {}
        for language, rows in self._by_language(batch).items():
            if language in lists:
                part = text if len(rows) == len(text) else text.take(pa.array(rows))
                found |= {
                    int(rows[at]): {"word": word, "language": language} for at, word in lists[language].found(part)
                }
            elif self.no_list == "error" and text.take(pa.array(rows)).null_count < len(rows):
                raise ValueError(
                    f"BadWordsFilter has no list of words in `{language}`: give one, or set `no_list: keep`"
                )
        for row in self._kept(text, sorted(found)):
            del found[row]
        return Verdict.first(document_removed_with_badwords=found_in(len(text), found, _FOUND))

    def _by_language(self, batch: pa.RecordBatch) -> dict[str, npt.NDArray[np.int64]]:
        """Return the rows of each language."""
        if self.language_field is None:
            return {self.default_language: np.arange(batch.num_rows)}
        column = valid_text(batch.column(self.language_field))
        languages = pc.fill_null(column, self.default_language).dictionary_encode()
        codes = languages.indices.to_numpy(zero_copy_only=False)
        names = languages.dictionary.to_pylist()
        return {name: np.flatnonzero(codes == code) for code, name in enumerate(names)}

    def _kept(self, text: pa.LargeStringArray, rows: list[int]) -> list[int]:
        if not rows or self.keep_fraction == 0:
            return []
        if self.keep_fraction == 1:
            return rows
        hashes = row_hashes(text.take(pa.array(rows)), key=self.seed)
        stays = hashes < np.uint64(int(self.keep_fraction * 2**64))
        return [row for row, kept in zip(rows, stays.tolist(), strict=True) if kept]

    def _files(self) -> dict[str, tuple[str, ...]]:
        return {f"word_files.{language}": paths for language, paths in self.word_files.items()}

    def _load(self) -> dict[str, _Words]:
        if not hasattr(self.runtime, "lists"):
            self.runtime.lists = {
                language: self._words(language) for language in sorted({*self.words, *self.word_files})
            }
        lists: dict[str, _Words] = self.runtime.lists
        return lists

    def _words(self, language: str) -> _Words:
        entries = read_entries(
            self.words.get(language, ()),
            self.word_files.get(language, ()),
            parameter=f"words.{language}",
            operator="BadWordsFilter",
        )
        words = sorted(set(entries.values.to_pylist()) - set(self.allow))
        if not words:
            raise PlanError(
                Problem(
                    code="FDF225",
                    message=f"the list of BadWordsFilter for `{language}` holds no word",
                    help=f"give one, or leave `{language}` out",
                )
            )
        return _Words(words, anywhere=language in self.substring_languages)


class _Words:
    """One language's words: the exact rule, and RE2 patterns that match at least where the rule does."""

    def __init__(self, words: list[str], *, anywhere: bool) -> None:
        exact = "({})" if anywhere else r"(?:\W|^)({})(?:\W|$)"
        self._exact = re.compile(exact.format("|".join(map(re.escape, words))))
        border = _no_word_character()
        before, after = ("(?:", ")") if anywhere else (f"(?:{border}|^)(?:", f")(?:{border}|$)")
        groups = [words[at : at + _WORDS_PER_PATTERN] for at in range(0, len(words), _WORDS_PER_PATTERN)]
        self._patterns = [before + "|".join(map(re.escape, group)) + after for group in groups]

    def found(self, text: pa.LargeStringArray) -> list[tuple[int, str]]:
        """Return the rows that hold a word, and the first word of each."""
        screened = text
        if pc.any(pc.match_substring(text, "İ")).as_py():
            # The one character whose lower case is longer than itself is unknown to RE2's comparison without case.
            screened = pc.replace_substring(text, "İ", "i\u0307")
        # Where the first match of any pattern starts, in bytes; beyond every text where there is none.
        starts = np.full(len(text), _NOWHERE)
        for pattern in self._patterns:
            match = pc.match_substring_regex(screened, pattern=pattern, ignore_case=True)
            hits = np.flatnonzero(pc.fill_null(match, fill_value=False).to_numpy(zero_copy_only=False))
            at = pc.find_substring_regex(screened.take(pa.array(hits)), pattern=pattern, ignore_case=True)
            starts[hits] = np.minimum(starts[hits], at.to_numpy(zero_copy_only=False))
        rows = np.flatnonzero(starts < _NOWHERE)
        found = []
        for row, value in zip(rows.tolist(), screened.take(pa.array(rows)).to_pylist(), strict=True):
            before = value.encode()[: starts[row]].decode()
            # The screen has no match before this one, so the rule has none either.
            match = self._exact.search(value.lower(), len(before))
            if match is not None:
                found.append((row, match[1]))
        return found


@cache
def _no_word_character() -> str:
    r"""Return Python's ``\W`` as an RE2 class: RE2's own counts every letter beyond ASCII as a border."""
    word = np.fromiter((chr(code).isalnum() for code in range(0x110000)), dtype=bool, count=0x110000)
    word[ord("_")] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], word, [False]]).astype(np.int8)))
    ranges = "".join(f"\\x{{{a:X}}}-\\x{{{b - 1:X}}}" for a, b in zip(edges[::2], edges[1::2], strict=True))
    return f"[^{ranges}]"
