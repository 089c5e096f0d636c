"""The Runner contract: a runner decides where and when tasks run, and nothing else.

Everything hard (reading, failure of rows, commit, receipts, retries of transient faults) is in `fdf.stage` as plain
functions. A runner hands each task to a `fdf.stage.worker.Worker` somewhere, passes its events on, and reports the
deaths of workers to a `fdf.stage.blame.Ledger`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from fdf.plan.task import Task
from fdf.stage.events import CancelToken, Emit

if TYPE_CHECKING:
    from fdf.plan.model import Plan


class Runner(Protocol):
    """Runs tasks. Constructed with keyword options that `fdf run` knows: `workers` and `device`."""

    name: str

    def check(self, plan: Plan) -> None:
        """Refuse what cannot run here before any split does. Raises MissingDependency (exit code 4)."""

    def run(self, tasks: Iterable[Task], emit: Emit, cancel: CancelToken) -> None:
        """Run every task once to its receipt, in any order, drawing from `tasks` lazily.

        Returns when all are committed. Raises StageFailed for what cannot be, `Cancelled` soon after `cancel` is set;
        either way no task is half committed.
        """
