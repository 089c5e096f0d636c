"""Discovery: which operators, runners, sources, sinks, pipelines and hook plugins are installed.

Packages announce themselves by entry points that carry strings, so listing imports none of them; `load` imports one.
A package that fails to import harms nothing but its own names: `broken` lists it, and a run that needs it is told why.
What this module does not do: check parameters (`fdf.recipe`) or call hooks (`fdf.hooks`).
"""

from __future__ import annotations

from fdf.registry.entries import GROUPS, Entry, entries, find, is_distribution, known_package, refresh
from fdf.registry.index import INDEX_NAME, OperatorSummary, announced_by, build_index, read_index, write_index
from fdf.registry.listing import OperatorListing, operators
from fdf.registry.loading import Broken, broken, load, load_entry

__all__ = [
    "GROUPS",
    "INDEX_NAME",
    "Broken",
    "Entry",
    "OperatorListing",
    "OperatorSummary",
    "announced_by",
    "broken",
    "build_index",
    "entries",
    "find",
    "is_distribution",
    "known_package",
    "load",
    "load_entry",
    "operators",
    "read_index",
    "refresh",
    "write_index",
]
