"""What each operator did to the rows of one split: counts that add up, histograms, folded evaluator state."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fdf.errors import StageFailed
from fdf.histogram import Histogram
from fdf.operator import Evaluator

MAX_STATE_BYTES = 64 << 10


@dataclass(kw_only=True)
class Tally:
    """One operator's account. It balances: rows_in + generated = rows_out + dropped + expanded + quarantined."""

    rows_in: int = 0
    rows_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    generated: int = 0
    expanded: int = 0
    quarantined: int = 0
    errors: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    state: bytes | None = None
    seconds: float = 0.0

    @property
    def balances(self) -> bool:
        """Say whether every row is accounted for."""
        gone = self.dropped.total() + self.expanded + self.quarantined
        return self.rows_in + self.generated == self.rows_out + gone

    def observe(self, column: str, histogram: Histogram) -> None:
        """Add a batch's scores."""
        known = self.histograms.get(column)
        self.histograms[column] = histogram if known is None else known.merge(histogram)

    def fold(self, operator: Evaluator, state: bytes) -> None:
        """Fold a batch's evaluator state into this split's."""
        merged = state if self.state is None else operator.merge(self.state, state)
        if len(merged) > MAX_STATE_BYTES:
            raise StageFailed(
                f"the state of evaluator {type(operator).__name__} has {len(merged)} bytes; at most 64 KiB are allowed",
                help="keep a sketch instead of values in `state` and `merge`",
            )
        self.state = merged

    def add(self, other: Tally, operator: Any) -> None:
        """Add a later split's account of the same operator."""
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        self.dropped += other.dropped
        self.generated += other.generated
        self.expanded += other.expanded
        self.quarantined += other.quarantined
        self.errors += other.errors
        self.causes += other.causes
        self.seconds += other.seconds
        for column, histogram in other.histograms.items():
            self.observe(column, histogram)
        if other.state is not None:
            self.fold(operator, other.state)

    def to_json(self) -> dict[str, Any]:
        """Return the account as JSON values, for a receipt."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "dropped": dict(sorted(self.dropped.items())),
            "generated": self.generated,
            "expanded": self.expanded,
            "quarantined": self.quarantined,
            "errors": self.errors,
            "causes": dict(self.causes.most_common(10)),
            "histograms": {k: h.to_json() for k, h in sorted(self.histograms.items())},
            "state": None if self.state is None else base64.b64encode(self.state).decode(),
            "seconds": round(self.seconds, 6),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tally:
        """Return the account that a receipt holds."""
        return cls(
            rows_in=value["rows_in"],
            rows_out=value["rows_out"],
            dropped=Counter(value["dropped"]),
            generated=value["generated"],
            expanded=value["expanded"],
            quarantined=value["quarantined"],
            errors=value["errors"],
            causes=Counter(value["causes"]),
            histograms={k: Histogram.from_json(h) for k, h in value["histograms"].items()},
            state=None if value["state"] is None else base64.b64decode(value["state"]),
            seconds=value["seconds"],
        )
