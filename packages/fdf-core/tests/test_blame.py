"""The ledger against simulated workers: whoever kills them is found, and no one else is blamed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdf.errors import StageFailed
from fdf.stage.blame import MAX_PLAIN_DEATHS, Attempt, Crumb, Ledger

ROWS = 1000


class Death(Exception):
    def __init__(self, at):
        self.at = at


def simulate(attempt, *, lethal, batches):
    """Run operators over batches as `fdf.stage.attempts` does: cut at suspects' middles and at condemned rows.

    Returns the (operator, row) pairs that were set aside; raises Death where a lethal pair meets a worker.
    """
    condemned = {(c.operator_id, c.ordinal) for c in attempt.condemned}
    for start, stop in batches:
        for operator in ("a", "b"):
            cuts = {start, stop}
            for who, row in condemned:
                if who == operator:
                    cuts |= {row, row + 1}
            for suspect in attempt.suspects:
                if suspect.operator_id == operator:
                    cuts |= {suspect.start, (suspect.start + suspect.stop) // 2, suspect.stop}
            edges = sorted(c for c in cuts if start <= c <= stop)
            for low, high in pairwise(edges):
                if (operator, low) in condemned:
                    continue
                if any(who == operator and low <= row < high for who, row in lethal):
                    raise Death(Crumb(operator_id=operator, start=low, stop=high) if attempt.careful else None)
    return condemned


def until_it_lives(ledger, *, lethal, batches, cause="fault"):
    """Return what was set aside in the end, and how many workers died on the way."""
    deaths = 0
    while True:
        try:
            return simulate(ledger.attempt("s"), lethal=lethal, batches=batches), deaths
        except Death as death:
            deaths += 1
            ledger.died("s", name="file.parquet", cause=cause, detail="SIGSEGV", at=death.at)


@given(
    lethal=st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, ROWS - 1)), max_size=8),
    size=st.integers(1, ROWS),
    cause=st.sampled_from(["fault", "memory"]),
)
def test_exactly_the_rows_that_kill_are_condemned(lethal, size, cause):
    batches = [(start, min(start + size, ROWS)) for start in range(0, ROWS, size)]
    condemned, deaths = until_it_lives(Ledger(), lethal=lethal, batches=batches, cause=cause)
    assert condemned == lethal
    # Per row: one death in each halving (10 for 1,000 rows, and one for rounding), two while alone; and the first.
    assert deaths <= 1 + len(lethal) * (11 + 2)


def test_row_alone_is_condemned_only_at_its_second_death():
    ledger = Ledger()
    alone = Crumb(operator_id="a", start=7, stop=8)
    assert ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=None) == Attempt(number=2, careful=True)
    assert not ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=alone).condemned
    (row,) = ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=alone).condemned
    assert (row.operator_id, row.ordinal) == ("a", 7)
    assert "SIGSEGV" in row.error
    assert not ledger.attempt("s").suspects


def test_deaths_of_one_row_at_two_operators_do_not_add_up():
    ledger = Ledger()
    ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=Crumb(operator_id="a", start=7, stop=8))
    attempt = ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=Crumb(operator_id="b", start=7, stop=8))
    assert not attempt.condemned


@pytest.mark.parametrize("cause", ["killed", "exit"])
def test_deaths_that_are_no_rows_fault_condemn_nothing_and_end_in_failure(cause):
    ledger = Ledger()
    alone = Crumb(operator_id="a", start=7, stop=8)
    for number in range(MAX_PLAIN_DEATHS):
        attempt = ledger.died("s", name="file.parquet", cause=cause, detail="SIGKILL", at=alone)
        assert attempt == Attempt(number=number + 2)
    with pytest.raises(StageFailed, match=rf"died {MAX_PLAIN_DEATHS + 1} times on split file.parquet .*SIGKILL") as e:
        ledger.died("s", name="file.parquet", cause=cause, detail="SIGKILL", at=alone)
    assert e.value.exit_code == 3


def test_kill_from_outside_keeps_what_was_found_out():
    ledger = Ledger()
    many = Crumb(operator_id="a", start=0, stop=8)
    ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=None)
    found = ledger.died("s", name="f", cause="memory", detail="memory limit", at=many)
    after = ledger.died("s", name="f", cause="killed", detail="SIGKILL", at=many)
    assert (after.careful, after.suspects) == (True, found.suspects)
    assert after.number == found.number + 1


def test_fault_before_any_row_is_judged_gives_up():
    ledger = Ledger()
    for _ in range(MAX_PLAIN_DEATHS):
        assert ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=None).careful
    with pytest.raises(StageFailed):
        ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=None)


def test_splits_are_judged_apart_and_forgotten_when_done():
    ledger = Ledger()
    for _ in range(MAX_PLAIN_DEATHS):
        ledger.died("one", name="f", cause="killed", detail="SIGKILL", at=None)
    assert ledger.died("two", name="g", cause="killed", detail="SIGKILL", at=None).number == 2
    ledger.done("one")
    assert ledger.attempt("one") == Attempt()
