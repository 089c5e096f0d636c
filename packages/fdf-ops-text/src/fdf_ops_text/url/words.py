"""Words in URLs: which of a list's words a URL has, by a kernel that finds the rows and Python for those alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf_ops_text.lists import Entries

_NO_WORD = re.compile(r"[^a-zA-Z0-9]+")
# A pattern of some thousand words is as fast as one of ten; beyond that RE2 runs out of the memory it is given.
_WORDS_PER_PATTERN = 2000


def squeezed(urls: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return URLs in lower case with nothing but ASCII letters and digits.

    >>> squeezed(pa.array(["http://Big-Cat.com/"], pa.large_string())).to_pylist()
    ['httpbigcatcom']
    """
    return pc.ascii_lower(pc.replace_substring_regex(urls, pattern="[^a-zA-Z0-9]+", replacement=""))


@dataclass(frozen=True)
class WordList:
    """Words as datatrove keeps them: ASCII letters and digits of an entry, in lower case; an entry without any is left.

    `whole` words stand between other characters; others are looked for anywhere in a squeezed URL.
    """

    sources: dict[str, str]
    whole: bool
    patterns: tuple[str, ...]

    @classmethod
    def of(cls, entries: Entries, *, whole: bool) -> WordList:
        """Make words of entries; of equal ones the first names the list."""
        sources: dict[str, str] = {}
        for at, entry in enumerate(entries.values.to_pylist()):
            word = _NO_WORD.sub("", entry).lower()
            if word:
                sources.setdefault(word, entries.name(at))
        words = sorted(sources)
        groups = [words[at : at + _WORDS_PER_PATTERN] for at in range(0, len(words), _WORDS_PER_PATTERN)]
        shape = "(?:^|[^a-zA-Z0-9])(?:{})(?:[^a-zA-Z0-9]|$)" if whole else "{}"
        return cls(sources, whole, tuple(shape.format("|".join(group)) for group in groups))

    def rows(self, urls: pa.LargeStringArray) -> npt.NDArray[np.int64]:
        """Return the rows that have one word at least."""
        found = np.zeros(len(urls), dtype=bool)
        for pattern in self.patterns:
            hits = pc.match_substring_regex(urls, pattern=pattern)
            found |= pc.fill_null(hits, fill_value=False).to_numpy(zero_copy_only=False)
        return np.flatnonzero(found)

    def found(self, urls: pa.LargeStringArray, *, at_least: int = 1) -> Iterator[tuple[int, str, str]]:
        """Yield the rows that have `at_least` different words: row, words, and the lists that these come from."""
        rows = self.rows(urls)
        have: Callable[[str], list[str]] = self._whole_words if self.whole else self._parts
        for row, url in zip(rows.tolist(), urls.take(pa.array(rows)).to_pylist(), strict=True):
            words = have(url)
            if len(words) >= at_least:
                lists = sorted({self.sources[word] for word in words})
                yield row, ", ".join(words), ", ".join(lists)

    def _whole_words(self, url: str) -> list[str]:
        return sorted(word for word in set(_NO_WORD.split(url)) if word in self.sources)

    def _parts(self, url: str) -> list[str]:
        return [word for word in self.sources if word in url]
