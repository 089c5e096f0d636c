"""The hosts of a column of URLs, each parsed once: registered domain, host, and what may be blocked above a host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# Scheme, user and host: all that decides the host. Everything behind it makes URLs different, and hosts alike.
_HEAD = r"^(?P<head>(?:[A-Za-z0-9+.\-]+:)?//[^/?#]*|[^/?#]*)"


@dataclass(frozen=True)
class Host:
    """One host. `registered` is the part that someone registered (`bbc.co.uk`), empty where there is none (an IP
    address, a public suffix); `name` is the whole host; `fqdn` too, but empty where `registered` is.
    """

    registered: str
    name: str
    fqdn: str

    def above(self) -> list[str]:
        """Return the host and every domain above it down to the registered one, longest first.

        >>> Host("bbc.co.uk", "a.news.bbc.co.uk", "a.news.bbc.co.uk").above()
        ['a.news.bbc.co.uk', 'news.bbc.co.uk', 'bbc.co.uk']
        """
        labels = self.name.split(".")
        if not self.registered:
            return [self.name]
        levels = len(labels) - self.registered.count(".")
        return [".".join(labels[level:]) for level in range(levels)]


@dataclass(frozen=True)
class Hosts:
    """The hosts of a column: `unique` ones, and for each row the index of its own in them, or -1 for a null."""

    unique: list[Host]
    rows: npt.NDArray[np.int64]

    @classmethod
    def of(cls, urls: pa.LargeStringArray, parse: Callable[[str], Host]) -> Hosts:
        """Parse each different host of the column once."""
        heads = pc.struct_field(pc.extract_regex(urls, pattern=_HEAD), 0).dictionary_encode()
        rows = pc.fill_null(heads.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls([parse(head) for head in heads.dictionary.to_pylist()], rows)

    def spread(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give each row the value of its host; a null row gets -1."""
        return np.append(values, -1)[self.rows]


def parser(tldextract: Any, *, lower: bool) -> Callable[[str], Host]:
    """Return a parser of hosts by the Public Suffix List that tldextract bundles (ICANN section), never the network."""
    extract = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True)

    def parse(head: str) -> Host:
        found = extract(head.lower() if lower else head)
        name = ".".join(part for part in (found.subdomain, found.domain, found.suffix) if part)
        # What tldextract's own properties say, of which each joins the parts again.
        registered = f"{found.domain}.{found.suffix}" if found.domain and found.suffix else ""
        return Host(registered, name, name if registered else "")

    return parse
