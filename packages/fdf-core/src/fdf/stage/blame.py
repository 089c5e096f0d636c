"""Who killed the worker: from the deaths of workers to the one row to blame, by halving.

A runner reports each death of a worker; this ledger answers with how to try the split again, or that it should give
up. A row is condemned only after it killed its worker twice while it was alone in a call, by a fault signal or over
the memory limit. A kill from outside says nothing about rows and only costs an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from fdf.errors import Problem, StageFailed

DeathCause = Literal["fault", "memory", "killed", "exit"]
"""fault: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT; memory: over the worker's limit; killed: SIGKILL or SIGTERM from
outside; exit: the process ended by itself."""

MAX_PLAIN_DEATHS = 5
MAX_IN_COMPANY = 2
"""So often a split may have been under way beside others in workers that died; then it runs alone."""
MAX_FAULT_DEATHS = 400


@dataclass(frozen=True, kw_only=True)
class Crumb:
    """Where a careful worker was: about to call an operator on rows `start` to `stop` (ordinals within the split).

    No rows (`start` equals `stop`) means that it had left the operators again.
    """

    operator_id: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Condemned:
    """A row that is quarantined at an operator without being tried again."""

    operator_id: str
    ordinal: int
    error: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How to run a task this time. A careful worker says where it is before each call of an operator."""

    number: int = 1
    careful: bool = False
    suspects: tuple[Crumb, ...] = ()
    condemned: tuple[Condemned, ...] = ()
    alone: bool = False

    @property
    def takes_no_company(self) -> bool:
        """Say whether the worker may have no other split in hand meanwhile."""
        return self.careful or self.alone


@dataclass
class _Case:
    attempt: Attempt = Attempt()
    plain_deaths: int = 0
    fault_deaths: int = 0
    in_company: int = 0
    alone: dict[Crumb, int] = field(default_factory=dict)


class Ledger:
    """Remembers the deaths per split and decides on the next attempt."""

    def __init__(self) -> None:
        self._cases: dict[str, _Case] = {}

    def attempt(self, split: str) -> Attempt:
        """Return how to run this split now."""
        return self._cases[split].attempt if split in self._cases else Attempt()

    def begin_at(self, split: str, attempt: Attempt) -> None:
        """Go on from an attempt that another ledger has come to: of a runner on several machines, one on each."""
        self._cases.setdefault(split, _Case()).attempt = attempt

    def done(self, split: str) -> None:
        """Forget a split that was committed."""
        self._cases.pop(split, None)

    def stood_by(self, split: str) -> Attempt:
        """Record the death of a worker that had this split in hand beside others, one of which is more likely to blame;
        return the next attempt. After some of these it is made alone, so that every split has its say in the end."""
        case = self._cases.setdefault(split, _Case())
        case.in_company += 1
        alone = case.attempt.alone or case.in_company >= MAX_IN_COMPANY
        case.attempt = replace(case.attempt, number=case.attempt.number + 1, alone=alone)
        return case.attempt

    def died(self, split: str, *, name: str, cause: DeathCause, detail: str, at: Crumb | None) -> Attempt:
        """Record a worker's death on this split and return the next attempt.

        `detail` is the cause in words, such as ``SIGSEGV`` or ``memory limit of 2.0 GiB``; `at` is the last crumb of a
        careful worker. Raises StageFailed when the split has died too often.
        """
        if at is not None and at.start == at.stop:
            at = None
        case = self._cases.setdefault(split, _Case())
        number = case.attempt.number + 1
        if cause in ("killed", "exit") or at is None:
            case.plain_deaths += 1
        else:
            case.fault_deaths += 1
        if case.plain_deaths > MAX_PLAIN_DEATHS or case.fault_deaths > MAX_FAULT_DEATHS:
            raise StageFailed(
                Problem(
                    code="FDF420",
                    message=f"workers died {number - 1} times on split {name} (last: {detail})",
                    help="run again with `--runner serial` to see where; what was committed is safe",
                )
            )
        if cause in ("killed", "exit"):
            case.attempt = replace(case.attempt, number=number, alone=True)
        elif at is None:
            case.attempt = replace(case.attempt, number=number, careful=True)
        else:
            case.attempt = self._narrowed(case, at, number=number, detail=detail)
        return case.attempt

    def _narrowed(self, case: _Case, at: Crumb, *, number: int, detail: str) -> Attempt:
        others = tuple(s for s in case.attempt.suspects if not _overlap(s, at))
        condemned = case.attempt.condemned
        if at.stop - at.start > 1:
            return Attempt(number=number, careful=True, suspects=(*others, at), condemned=condemned)
        case.alone[at] = case.alone.get(at, 0) + 1
        if case.alone[at] < 2:
            return Attempt(number=number, careful=True, suspects=(*others, at), condemned=condemned)
        guilty = Condemned(operator_id=at.operator_id, ordinal=at.start, error=f"killed its worker twice: {detail}")
        return Attempt(number=number, careful=True, suspects=others, condemned=(*condemned, guilty))


def _overlap(a: Crumb, b: Crumb) -> bool:
    return a.operator_id == b.operator_id and a.start < b.stop and b.start < a.stop
