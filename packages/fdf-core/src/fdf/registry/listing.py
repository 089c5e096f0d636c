"""The list of operators as `fdf ops list` shows it: one line per announced name, nothing imported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fdf.registry.entries import entries
from fdf.registry.index import OperatorSummary, read_index


@dataclass(frozen=True, kw_only=True)
class OperatorListing:
    """One operator of the list. `ambiguous` where another distribution announces the same name."""

    name: str
    distribution: str
    distribution_version: str
    summary: OperatorSummary
    ambiguous: bool = False

    @property
    def op(self) -> str:
        """What a recipe writes after `op:`."""
        return f"{self.distribution}:{self.name}" if self.ambiguous else self.name


def operators() -> list[OperatorListing]:
    """List every announced operator with what its package's index says of it."""
    announced = entries("fdf.operators")
    times = Counter(entry.name for entry in announced)
    return [
        OperatorListing(
            name=entry.name,
            distribution=entry.distribution,
            distribution_version=entry.version,
            summary=read_index(entry),
            ambiguous=times[entry.name] > 1,
        )
        for entry in announced
    ]
