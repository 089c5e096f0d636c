"""The receipt: the small JSON record that commits one shard. It exists whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fdf.plan.task import SplitKey
from fdf.stage.shard_file import FileEntry
from fdf.stage.tally import Tally

FORMAT = "fdf-receipt/1"
COUNTS = ("rows_in", "rows_out", "rows_dropped", "rows_generated", "rows_expanded", "rows_quarantined")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What one split became."""

    key: SplitKey
    name: str
    source: str
    fingerprint: str
    nonce: str
    counts: dict[str, int]
    tallies: dict[str, Tally]
    outputs: tuple[FileEntry, ...]
    dropped: tuple[FileEntry, ...]
    quarantine: tuple[FileEntry, ...]
    inputs: tuple[dict[str, Any], ...]
    read_errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 1
    mixed: dict[str, Any] = field(default_factory=dict)
    """In a run that mixes: by leaf [rows, planned, delivered, off], what was left out, and what was kept by source."""

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file that this receipt names."""
        return (*self.outputs, *self.dropped, *self.quarantine)

    @property
    def balances(self) -> bool:
        """Say whether every row of the split is accounted for, in every operator and over all."""
        c = self.counts
        gone = c["rows_out"] + c["rows_dropped"] + c["rows_expanded"] + c["rows_quarantined"]
        return c["rows_in"] + c["rows_generated"] == gone and all(t.balances for t in self.tallies.values())

    def to_bytes(self) -> bytes:
        """Return the receipt as it is stored."""
        value = {
            "format": FORMAT,
            "split": {"location": self.key.location, "version": self.key.version, "name": self.name},
            "source": self.source,
            "fingerprint": self.fingerprint,
            "nonce": self.nonce,
            "counts": self.counts,
            "operators": {k: t.to_json() for k, t in self.tallies.items()},
            "outputs": [f.to_json() for f in self.outputs],
            "dropped": [f.to_json() for f in self.dropped],
            "quarantine": [f.to_json() for f in self.quarantine],
            "inputs": list(self.inputs),
            "read_errors": self.read_errors,
            "seconds": round(self.seconds, 6),
            "attempts": self.attempts,
            **({"mixed": self.mixed} if self.mixed else {}),
        }
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Receipt:
        """Return a stored receipt."""
        value = json.loads(data)
        split = value["split"]

        def files(name: str) -> tuple[FileEntry, ...]:
            return tuple(FileEntry.from_json(f) for f in value[name])

        return cls(
            key=SplitKey(location=split["location"], version=split["version"]),
            name=split["name"],
            source=value["source"],
            fingerprint=value["fingerprint"],
            nonce=value["nonce"],
            counts=value["counts"],
            tallies={k: Tally.from_json(t) for k, t in value["operators"].items()},
            outputs=files("outputs"),
            dropped=files("dropped"),
            quarantine=files("quarantine"),
            inputs=tuple(value["inputs"]),
            read_errors=value["read_errors"],
            seconds=value["seconds"],
            attempts=value["attempts"],
            mixed=value.get("mixed", {}),
        )
