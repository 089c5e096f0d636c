"""Where a mixture stands, what it decided and what befell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Sizes: TypeAlias = npt.NDArray[np.int64]
Cause: TypeAlias = Literal["cap", "epochs", "total", "weights", "exhausted"]
_MOST_BITS = 4096


@dataclass(frozen=True)
class Mixed:
    """Consecutive decisions: the leaf and the size of each document."""

    leaves: npt.NDArray[np.uint16]
    sizes: Sizes

    def __len__(self) -> int:
        return len(self.leaves)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A leaf, a group or the whole came to an end, or began again, at a position."""

    at: int
    name: str
    cause: Cause
    then: str

    def to_json(self) -> dict[str, Any]:
        """Return the event as the manifest tells it."""
        return {"at": self.at, "name": self.name, "cause": self.cause, "then": self.then}


@dataclass
class Position:
    """Where a mixture stands: some numbers per leaf, from which it goes on exactly."""

    units: int
    delivered: list[int]
    rows: list[int]
    live: list[bool]
    epoch: list[int]
    in_epoch: list[int]
    """Documents delivered in the current epoch."""
    lengths: list[int | None]
    """Documents in one epoch, where that is known: after the first."""
    epoch_start: list[int]
    """Units delivered when the current epoch began."""
    restarted_at: int
    restarted_with: list[int]
    largest: list[int]
    """The largest document that was delivered or is next."""
    deviation: list[Fraction]
    done: bool = False

    @classmethod
    def start(cls, leaves: int) -> Position:
        """Return the position before the first document."""
        return cls(
            units=0,
            delivered=[0] * leaves,
            rows=[0] * leaves,
            live=[True] * leaves,
            epoch=[0] * leaves,
            in_epoch=[0] * leaves,
            lengths=[None] * leaves,
            epoch_start=[0] * leaves,
            restarted_at=0,
            restarted_with=[0] * leaves,
            largest=[0] * leaves,
            deviation=[Fraction(0)] * leaves,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the position as plain values."""
        return {**vars(self), "deviation": [written(d) for d in self.deviation]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Position:
        """Return a position that was stored."""
        copied: dict[str, Any] = {k: list(v) if isinstance(v, list) else v for k, v in value.items()}
        copied["deviation"] = [Fraction(d) for d in value["deviation"]]
        return cls(**copied)


def written(value: Fraction) -> str:
    """Return a number as text: exactly, or rounded up to twelve places where its digits would fill pages.

    Ramps of fine weights have denominators of thousands of digits, more than Python cares to write.
    """
    if value.denominator.bit_length() > _MOST_BITS:
        value = Fraction(ceil(value * 10**12), 10**12)
    return str(value)
