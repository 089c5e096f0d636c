"""Lists of entries that operators match against: inline in a recipe, or in text files, one entry per line.

A file may be gzipped (`.gz`); a path may be a glob, a folder's files by name, or an fsspec URL. Lines are stripped of
whitespace; empty lines and lines that start with `#` do not count.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import FdfError, PlanError
from fdf.rowhash import row_hashes
from fdf.sources.base import InputFile
from fdf.sources.listing import list_files, open_file
from fdf.verdict import Rule

# Hashing makes a list of offsets, many times larger than the hashes: a million at a time.
_HASHED_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of some lists, and of each the list it comes from, as an index into `names`."""

    values: pa.LargeStringArray
    lists: npt.NDArray[np.int32]
    names: tuple[str, ...]

    def name(self, at: int) -> str:
        """Return the name of the list that holds the entry at this index."""
        return self.names[int(self.lists[at])]


def read_entries(inline: Sequence[str], paths: Sequence[str], *, parameter: str, operator: str) -> Entries:
    """Gather what a parameter lists inline and what the files of `<parameter>_files` list; the first of equals stays.

    An inline entry's list is named by the parameter, a file's by its path below the declared root (`adult/domains`).
    Raises PlanError for a file that is not there or cannot be read.
    """
    parts = [_clean(pa.array(list(inline), pa.large_string()))]
    names = [parameter]
    with _told(f"{parameter}_files", operator):
        for file in _files(tuple(paths)):
            parts.append(_clean(_lines(_content(file))))
            names.append(file.path)
    values = pa.chunked_array(parts, pa.large_string()).combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # Arrow splits only beyond what one array can hold
        raise PlanError(
            f"the lists of `{parameter}` of {operator} are too large for one array", help="list fewer files"
        )
    lists = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    return Entries(values, lists, tuple(names))


def check_files(paths: Mapping[str, Sequence[str]], *, operator: str) -> None:
    """Raise PlanError where a parameter names a list that is not there. `paths` is by parameter."""
    for parameter, given in paths.items():
        with _told(parameter, operator):
            _files(tuple(given))


def digests(paths: Mapping[str, Sequence[str]], *, operator: str) -> dict[str, str]:
    """Return the sha256 of every file that parameters name, by `<parameter>/<path below the declared root>`."""
    found = {}
    for parameter, given in paths.items():
        with _told(parameter, operator):
            for file in _files(tuple(given)):
                found[f"{parameter}/{file.path}"] = _sha256(file)
    return found


class EntryIndex:
    """Finds whole values among many entries, by sorted 64-bit hashes: 16 bytes an entry beside the entries themselves.

    Millions of blocked domains cost a fraction of a Python set of strings. Every find by hash is compared as text.
    """

    def __init__(self, entries: Entries) -> None:
        """Sort the hashes, by the first key under which no two different entries share one."""
        self._entries = entries.values
        self._key = 0
        while not self._sort():
            self._key += 1

    def find(self, values: pa.LargeStringArray) -> npt.NDArray[np.int64]:
        """Return for each value the index of the first entry that equals it, or -1."""
        if len(self._hashes) == 0 or len(values) == 0:
            return np.full(len(values), -1, dtype=np.int64)
        hashes = row_hashes(values, key=self._key)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        found = np.where(self._hashes[at] == hashes, self._places[at], -1)
        hits = np.flatnonzero(found >= 0)
        found[hits[~self._are(found[hits], values.take(pa.array(hits)))]] = -1
        return found

    def _sort(self) -> bool:
        """Sort the hashes under the present key, and say whether equal hashes are of equal entries."""
        starts = range(0, max(len(self._entries), 1), _HASHED_AT_ONCE)
        parts = [row_hashes(self._entries.slice(start, _HASHED_AT_ONCE), key=self._key) for start in starts]
        hashes = np.concatenate(parts)
        self._hashes, self._places = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), dtype=bool)
        again[self._places] = False
        repeated = np.flatnonzero(again)
        first = self._places[np.searchsorted(self._hashes, hashes[repeated])]
        return bool(self._are(first, self._entries.take(pa.array(repeated))).all())

    def _are(self, places: npt.NDArray[np.int64], values: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
        """Say of each value whether it is the entry at that place."""
        equal = pc.equal(self._entries.take(pa.array(places)), values)
        result: npt.NDArray[np.bool_] = pc.fill_null(equal, fill_value=False).to_numpy(zero_copy_only=False)
        return result


def found_in(rows: int, found: Mapping[int, Mapping[str, str]], kind: pa.StructType) -> Rule:
    """Return a rule that the rows in `found` break, with what was found in them as the evidence."""
    breaks = np.zeros(rows, dtype=bool)
    breaks[list(found)] = True
    at = np.full(rows, -1, dtype=np.int64)
    at[list(found)] = np.arange(len(found))
    values = pa.array(list(found.values()), kind)
    return Rule(breaks, values.take(pa.array(at, mask=at < 0)))


def _files(paths: tuple[str, ...]) -> list[InputFile]:
    return list_files(paths, extensions=("txt", "txt.gz")) if paths else []


def _content(file: InputFile) -> bytes:
    with open_file(file.uri) as stream:
        data = stream.read()
    if not file.uri.endswith(".gz"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise PlanError(f"{file.uri} is no gzip file: {error}", help="name it without .gz, or gzip it again") from error


def _lines(data: bytes) -> pa.LargeStringArray:
    # Crawled lists hold lines in other encodings; such a line can equal no valid text, and the others still count.
    text = data.decode("utf-8-sig", "replace")
    return pc.split_pattern(pa.array([text], pa.large_string()), "\n").flatten()


def _clean(values: pa.LargeStringArray) -> pa.LargeStringArray:
    stripped = pc.utf8_trim_whitespace(values)
    counts = pc.and_(pc.not_equal(stripped, ""), pc.invert(pc.starts_with(stripped, "#")))
    return stripped.filter(counts)


@lru_cache(maxsize=4096)
def _sha256(file: InputFile) -> str:
    digest = hashlib.sha256()
    with open_file(file.uri) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _told(parameter: str, operator: str) -> Iterator[None]:
    """Say in errors about files which parameter of which operator names them."""
    try:
        yield
    except PlanError as error:
        raise PlanError(
            *(replace(p, message=f"`{parameter}` of {operator}: {p.message}") for p in error.problems)
        ) from error
    except FdfError:
        raise
    except OSError as error:
        raise PlanError(
            f"`{parameter}` of {operator}: {error.filename or 'a file'} cannot be read: {error.strerror or error}",
            help="check the path and its permissions",
        ) from error
