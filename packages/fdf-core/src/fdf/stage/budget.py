"""How many rows of a stage may fail: judged from receipts at its end, or as soon as it cannot recover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fdf.errors import Problem, StageFailed
from fdf.plan.model import StagePlan
from fdf.stage.receipt import Receipt
from fdf.stage.tally import Tally


def allowed(stage: StagePlan, rows: int) -> float:
    """Return how many of so many rows may be quarantined."""
    return max(stage.min_errors, stage.max_error_rate * rows)


def check_budget(
    stage: StagePlan, receipts: Sequence[Receipt], counts: dict[str, int], tallies: dict[str, Tally]
) -> None:
    """Raise StageFailed, with the top causes, where more rows were quarantined than the stage allows."""
    budget = allowed(stage, counts["rows_in"])
    if counts["rows_quarantined"] <= budget:
        return
    causes: Counter[str] = Counter()
    for receipt in receipts:
        causes.update({f"reading: {cause}": n for cause, n in receipt.read_errors.items()})
    for operator_id, tally in tallies.items():
        causes.update({f"{operator_id}: {cause}": n for cause, n in tally.causes.items()})
    raise _exceeded(stage, counts["rows_quarantined"], counts["rows_in"], budget, causes)


class Watch:
    """Adds up what splits report while a stage runs, to stop one that is lost anyway.

    Only a stage whose rows are counted beforehand (its input are shards) can be lost before its end.
    """

    def __init__(self, stage: StagePlan, total_rows: int | None) -> None:
        self._stage = stage
        self._total = total_rows
        self._bad = 0

    def committed(self, counts: dict[str, Any]) -> None:
        """Add a split. Raises StageFailed where the rest cannot bring the stage back within its budget."""
        self._bad += counts["rows_quarantined"]
        if self._total is not None and self._bad > allowed(self._stage, self._total):
            raise _exceeded(self._stage, self._bad, self._total, allowed(self._stage, self._total), Counter())


def _exceeded(stage: StagePlan, bad: int, rows: int, budget: float, causes: Counter[str]) -> StageFailed:
    top = "; ".join(f"{n} x {cause}" for cause, n in causes.most_common(3))
    return StageFailed(
        Problem(
            code="FDF430",
            message=f"stage `{stage.name}`: {bad} of {rows} rows failed, {budget:g} may" + (f": {top}" if top else ""),
            help=f"see {stage.root.rstrip('/')}/{stage.job.layout.quarantine}; to accept them raise `max_error_rate` or"
            " `min_errors` of the stage: nothing runs again for that",
        )
    )
