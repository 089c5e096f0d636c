"""Drop documents by where they come from: blocked hosts and URLs, words in the URL, sources that are curated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.operator import Context, Filter
from fdf.verdict import Rule, Verdict
from fdf_ops_text.extras import require
from fdf_ops_text.lists import Entries, EntryIndex, check_files, digests, found_in, read_entries
from fdf_ops_text.url.curated import REFINEDWEB
from fdf_ops_text.url.hosts import Host, Hosts, parser
from fdf_ops_text.url.words import WordList, squeezed
from fdf_ops_text.utf8 import valid_text
from fdf_ops_text.words import require_text

_FOUND = pa.struct([("entry", pa.string()), ("list", pa.string())])
_LISTS = ("domains", "urls", "hard_words", "soft_words", "subwords", "curated")


@dataclass(frozen=True, kw_only=True)
class URLFilter(Filter):
    """Drop documents whose URL is on a block list, holds blocked words, or leads to a curated source.

    The rules of RefinedWeb (Penedo et al. 2023, arXiv 2306.01116, appendix G.1), in the order and under the names of
    datatrove 0.10.1; the first that a URL breaks is its reason:

    - `domain`: the registered domain (`bbc.co.uk`, by the Public Suffix List) is in `domains`.
    - `subdomain`: the host is in `domains`.
    - `url`: the whole URL is in `urls`.
    - `hard_blacklisted`: a word of the URL is in `hard_words`. Words are its runs of ASCII letters and digits.
    - `soft_blacklisted`: at least `soft_threshold` different words of it are in `soft_words`.
    - `blacklisted_subword`: an entry of `subwords` is in the URL, of which only letters and digits are left.
    - `curated`: the host, or a domain above it, is in `curated`.

    Lists stand in the recipe (`domains: [...]`) or in text files (`domain_files: ["lists/*/domains"]`), one entry per
    line, gzipped too; UT1's folders as they are. None is bundled but RefinedWeb's 16 curated hosts. Entries of the
    three word lists are compared by their ASCII letters and digits, in lower case; one without any is passed by. The
    evidence of a dropped row tells the entry and its list.

    With `preset: refinedweb` letter case never matters, `subdomain` also looks at the domains between the host and the
    registered one, an IP address counts as a domain, and `curated` defaults to RefinedWeb's hosts. With
    `preset: datatrove` decisions are datatrove's: hosts, URLs and whole words are compared as they are written, only
    the whole host is looked up, an IP address has no domain, and `curated` defaults to nothing.

    A null URL is kept.

    >>> batch = pa.record_batch({"url": ["https://a.example.com/1", "https://en.wikipedia.org/wiki/A", None]})
    >>> verdict = URLFilter(domains=("example.com",)).verdict(batch)
    >>> [verdict.reasons[code - 1] if code else "keep" for code in verdict.codes]
    ['domain', 'curated', 'keep']
    """

    field: str = "url"
    """The column of URLs."""
    preset: Literal["refinedweb", "datatrove"] = "refinedweb"
    """Whether letter case is ignored and domains above a host count (refinedweb), or decisions are datatrove's."""
    domains: tuple[str, ...] = ()
    """Blocked domains and hosts."""
    domain_files: tuple[str, ...] = ()
    """Files of blocked domains and hosts: paths, globs or fsspec URLs."""
    urls: tuple[str, ...] = ()
    """Blocked URLs, whole."""
    url_files: tuple[str, ...] = ()
    """Files of blocked URLs."""
    hard_words: tuple[str, ...] = ()
    """Words of which one is enough."""
    hard_word_files: tuple[str, ...] = ()
    """Files of words of which one is enough."""
    soft_words: tuple[str, ...] = ()
    """Words of which `soft_threshold` different ones are enough."""
    soft_word_files: tuple[str, ...] = ()
    """Files of such words."""
    soft_threshold: int = 2
    """How many different soft words drop a document."""
    subwords: tuple[str, ...] = ()
    """Parts of words, looked for anywhere in the URL's letters and digits."""
    subword_files: tuple[str, ...] = ()
    """Files of parts of words."""
    curated: tuple[str, ...] | None = None
    """Hosts of curated sources; null: RefinedWeb's 16 with `preset: refinedweb`, none with `datatrove`."""
    curated_files: tuple[str, ...] = ()
    """Files of hosts of curated sources."""

    version = "1.0.0"
    modality = "text"
    depends = ("tldextract",)
    extras = ("url",)
    reasons = (
        "domain",
        "subdomain",
        "url",
        "hard_blacklisted",
        "soft_blacklisted",
        "blacklisted_subword",
        "curated",
    )

    def __post_init__(self) -> None:
        """Refuse a threshold that every URL meets, and a filter that drops nothing."""
        if self.soft_threshold < 1:
            raise ValueError(
                f"soft_threshold is the number of soft words that drop a document, not {self.soft_threshold}"
            )
        if not any((*(getattr(self, name) for name in _LISTS[:-1]), *self._files().values(), self._curated())):
            raise ValueError("URLFilter has no list to compare with: give one, such as `domains` or `domain_files`")

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return no columns. Raises PlanError where `field` is no text, or a list is not there."""
        require_text(schema, self.field, operator="URLFilter")
        check_files(self._files(), operator="URLFilter")
        return {}

    def assets(self) -> dict[str, str]:
        """Return the digest of every list."""
        return digests(self._files(), operator="URLFilter")

    def setup(self, context: Context) -> None:
        """Read the lists. Raises MissingDependency without tldextract."""
        self._load()

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Judge each URL by the first rule that it breaks."""
        lists = self._load()
        urls = valid_text(batch.column(self.field))
        compared = urls if self._as_written else lists.lower(urls)
        hosts = Hosts.of(urls, lists.parse)
        domain, subdomain = lists.blocked(hosts.unique, every_level=not self._as_written)
        parts = lists.sub.found(squeezed(urls)) if lists.sub.sources else ()
        return Verdict.first(
            domain=_by_entry(hosts.spread(domain), lists.domains),
            subdomain=_by_entry(hosts.spread(subdomain), lists.domains),
            url=_by_entry(lists.url_index.find(compared), lists.urls),
            hard_blacklisted=_by_words(len(urls), lists.hard.found(compared)),
            soft_blacklisted=_by_words(len(urls), lists.soft.found(compared, at_least=self.soft_threshold)),
            blacklisted_subword=_by_words(len(urls), parts),
            curated=_by_entry(hosts.spread(lists.curated_of(hosts.unique)), lists.curated),
        )

    @property
    def _as_written(self) -> bool:
        return self.preset == "datatrove"

    def _curated(self) -> tuple[str, ...]:
        if self.curated is not None:
            return self.curated
        return () if self._as_written else REFINEDWEB

    def _files(self) -> dict[str, tuple[str, ...]]:
        return {f"{_singular(name)}_files": getattr(self, f"{_singular(name)}_files") for name in _LISTS}

    def _load(self) -> _Lists:
        if not hasattr(self.runtime, "lists"):
            self.runtime.lists = _Lists(self, self._curated(), lower=not self._as_written)
        lists: _Lists = self.runtime.lists
        return lists


class _Lists:
    """All lists of one filter, ready to be matched."""

    def __init__(self, of: URLFilter, curated: tuple[str, ...], *, lower: bool) -> None:
        self.parse = parser(require("tldextract", operator="URLFilter", extra="url"), lower=lower)
        inline = {name: getattr(of, name) for name in _LISTS} | {"curated": curated}
        read = {
            name: read_entries(values, getattr(of, f"{_singular(name)}_files"), parameter=name, operator="URLFilter")
            for name, values in inline.items()
        }
        if lower:
            read = {name: Entries(self.lower(e.values), e.lists, e.names) for name, e in read.items()}
        self.domains, self.urls, self.curated = read["domains"], read["urls"], read["curated"]
        self.domain_index, self.url_index = EntryIndex(self.domains), EntryIndex(self.urls)
        self.hard = WordList.of(read["hard_words"], whole=True)
        self.soft = WordList.of(read["soft_words"], whole=True)
        self.sub = WordList.of(read["subwords"], whole=False)
        # Of equal entries the first counts.
        self._curated_at = {host.lower(): at for at, host in reversed([*enumerate(self.curated.values.to_pylist())])}

    @staticmethod
    def lower(values: pa.LargeStringArray) -> pa.LargeStringArray:
        return pc.utf8_lower(values)

    def blocked(self, hosts: list[Host], *, every_level: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each host which entry blocks its registered domain, and which one the host or one between."""
        if every_level:
            registered = [host.registered or host.name for host in hosts]
            levels = [host.above()[:-1] for host in hosts]
        else:
            registered = [host.registered for host in hosts]
            levels = [[host.fqdn] for host in hosts]
        flat = [name for names in levels for name in names]
        found = self.domain_index.find(pa.array(flat, pa.large_string()))
        owners = np.repeat(np.arange(len(hosts)), [len(names) for names in levels])
        subdomain = np.full(len(hosts), -1, dtype=np.int64)
        hits = np.flatnonzero(found >= 0)[::-1]  # the longest name comes first, and so is written last
        subdomain[owners[hits]] = found[hits]
        return self.domain_index.find(pa.array(registered, pa.large_string())), subdomain

    def curated_of(self, hosts: list[Host]) -> npt.NDArray[np.int64]:
        """Return for each host which curated source it belongs to, or -1."""
        at = self._curated_at
        found = (next((at[name.lower()] for name in host.above() if name.lower() in at), -1) for host in hosts)
        return np.fromiter(found, dtype=np.int64, count=len(hosts))


def _singular(name: str) -> str:
    return name.removesuffix("s") if name != "curated" else name


def _by_entry(found: npt.NDArray[np.int64], entries: Entries) -> Rule:
    rows = np.flatnonzero(found >= 0).tolist()
    places = found[rows].tolist()
    told = entries.values.take(pa.array(places, pa.int64())).to_pylist()
    by_row = {
        row: {"entry": entry, "list": entries.name(at)} for row, entry, at in zip(rows, told, places, strict=True)
    }
    return found_in(len(found), by_row, _FOUND)


def _by_words(rows: int, found: Iterable[tuple[int, str, str]]) -> Rule:
    return found_in(rows, {row: {"entry": words, "list": lists} for row, words, lists in found}, _FOUND)
