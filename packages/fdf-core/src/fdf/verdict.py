"""What a filter says of each row: keep it, or drop it for a named reason, with the value and the bound it broke."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Mask: TypeAlias = pa.Array | pa.ChunkedArray | np.ndarray


@dataclass(frozen=True)
class Rule:
    """One reason to drop rows: where `breaks` is true the row goes. Null counts as false: not broken.

    `values` (an array as long as the batch) and `bounds` (JSON values by name) are the evidence that is stored with
    a dropped row, for example ``{"value": 12, "min": 50}``.
    """

    breaks: Mask
    values: pa.Array | None = None
    bounds: dict[str, Any] | None = None

    def evidence(self, rows: pa.Array) -> pa.Array:
        """Return the evidence of the rows at these indices as JSON strings."""
        bounds = json.dumps(self.bounds or {}, ensure_ascii=False, separators=(", ", ": "))
        if self.values is None:
            return pa.repeat(pa.scalar(bounds, pa.string()), len(rows))
        values = self.values.take(rows)
        kind = values.type
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            text = pc.fill_null(pc.cast(values, pa.string()), "null")
        elif pa.types.is_floating(kind):
            # JSON has no NaN or infinity: they are told as text.
            plain = pc.cast(values, pa.string())
            quoted = pc.binary_join_element_wise('"', plain, '"', "")
            text = pc.fill_null(pc.if_else(pc.is_finite(values), plain, quoted), "null")
        else:
            text = pa.array([json.dumps(v, ensure_ascii=False, default=str) for v in values.to_pylist()], pa.string())
        tail = "}" if bounds == "{}" else ", " + bounds[1:]
        return pc.binary_join_element_wise('{"value": ', text, tail, "")


def below(values: pa.Array, bound: float) -> Rule:
    """Drop rows whose value is less than `bound`."""
    return Rule(pc.less(values, bound), values, {"min": bound})


def above(values: pa.Array, bound: float) -> Rule:
    """Drop rows whose value is greater than `bound`."""
    return Rule(pc.greater(values, bound), values, {"max": bound})


@dataclass(frozen=True)
class Verdict:
    """A filter's answer for one batch: per row 0 to keep it, or 1 + the index of the reason that dropped it."""

    codes: np.ndarray
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]

    @classmethod
    def first(cls, **rules: Rule | Mask | None) -> Verdict:
        """Judge by the first rule that each row breaks, in the order given; a rule that is None is switched off.

        >>> import pyarrow as pa
        >>> n = pa.array([3, 70, None])
        >>> v = Verdict.first(too_few_words=below(n, 50), missing=pc.is_null(n))
        >>> v.codes.tolist()
        [1, 0, 2]
        """
        named = [(k, r if isinstance(r, Rule) else Rule(r)) for k, r in rules.items() if r is not None]
        if not named:
            raise ValueError("Verdict.first needs one rule at least, to know how long the batch is")
        codes: np.ndarray | None = None
        for number, (_, rule) in enumerate(named, start=1):
            broken = _as_numpy(rule.breaks)
            if codes is None:
                codes = np.zeros(len(broken), dtype=np.int16)
            codes[(codes == 0) & broken] = number
        assert codes is not None
        return cls(codes, tuple(k for k, _ in named), tuple(r for _, r in named))

    @classmethod
    def keep_all(cls, rows: int) -> Verdict:
        """Keep every one of `rows` rows."""
        return cls(np.zeros(rows, dtype=np.int16), (), ())

    def evidence(self, rows: np.ndarray) -> pa.Array:
        """Return the JSON evidence of the dropped rows at these indices, in this order."""
        codes = self.codes[rows]
        out = np.empty(len(rows), dtype=object)
        for number in np.unique(codes):
            where = np.flatnonzero(codes == number)
            rule = self.rules[number - 1]
            out[where] = rule.evidence(pa.array(rows[where])).to_numpy(zero_copy_only=False)
        return pa.array(out, pa.string())


def _as_numpy(mask: Mask) -> np.ndarray:
    if isinstance(mask, np.ndarray):
        return mask.astype(bool, copy=False)
    if isinstance(mask, pa.ChunkedArray):
        mask = mask.combine_chunks()
    result: np.ndarray = pc.fill_null(mask, fill_value=False).to_numpy(zero_copy_only=False).astype(bool, copy=False)
    return result
