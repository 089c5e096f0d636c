"""The ledger against simulated workers: whoever kills them is found, and no one else is blamed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdf.errors import StageFailed
from fdf.stage.attempts import Caller, Failure
from fdf.stage.blame import MAX_PLAIN_DEATHS, Attempt, Crumb, Ledger
from fdf.stage.rows import Rows

ROWS = 200


class Death(BaseException):
    """Ends the simulated worker: no operator's exception, so that it is not bisected as one."""


def simulate(attempt, *, lethal, size):
    """Let operators `a` and `b` judge all rows as a worker does; raise Death at a lethal (operator, row).

    Returns the pairs that failed; Death holds the last crumb.
    """
    crumbs = [None]
    caller = Caller(attempt, crumbs.append)
    failed = set()
    for start in range(0, ROWS, size):
        ordinals = np.arange(start, min(start + size, ROWS))
        rows = Rows(data=pa.record_batch({"n": ordinals}), ordinals=ordinals)
        for operator in "ab":

            def verb(piece, operator=operator):
                if any((operator, row) in lethal for row in piece.ordinals.tolist()):
                    raise Death(crumbs[-1])

            for outcome in caller.call(operator, rows, verb):
                if isinstance(outcome, Failure):
                    failed |= {(operator, row) for row in outcome.rows.ordinals.tolist()}
    return failed


def until_it_lives(ledger, *, lethal, size, cause):
    """Return what was quarantined in the end, and how many workers died on the way."""
    deaths = 0
    while True:
        try:
            return simulate(ledger.attempt("s"), lethal=lethal, size=size), deaths
        except Death as death:
            deaths += 1
            ledger.died("s", name="file.parquet", cause=cause, detail="SIGSEGV", at=death.args[0])


@given(
    lethal=st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, ROWS - 1)), max_size=8),
    size=st.integers(10, ROWS),
    cause=st.sampled_from(["fault", "memory"]),
)
def test_exactly_the_rows_that_kill_are_condemned(lethal, size, cause):
    quarantined, deaths = until_it_lives(Ledger(), lethal=lethal, size=size, cause=cause)
    assert quarantined == lethal
    # The first death, then per row: one per halving (8 for 200 rows, and one for rounding), and two while alone.
    assert deaths <= 1 + len(lethal) * (9 + 2)


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
        assert attempt == Attempt(number=number + 2, alone=True)
    with pytest.raises(StageFailed, match=rf"died {MAX_PLAIN_DEATHS + 1} times on split file.parquet .*SIGKILL") as e:
        ledger.died("s", name="file.parquet", cause=cause, detail="SIGKILL", at=alone)
    assert e.value.exit_code == 3


def test_split_that_was_in_dying_workers_beside_others_runs_alone_in_the_end():
    ledger = Ledger()
    assert ledger.stood_by("s") == Attempt(number=2)
    assert not ledger.attempt("s").takes_no_company
    for number in range(3, 3 + MAX_PLAIN_DEATHS + 1):
        assert ledger.stood_by("s") == Attempt(number=number, alone=True)
    assert ledger.attempt("s").takes_no_company
    # None of these deaths counts as its own.
    assert ledger.died("s", name="f", cause="killed", detail="SIGKILL", at=None).number == 3 + MAX_PLAIN_DEATHS + 1
    ledger.done("s")
    assert ledger.attempt("s") == Attempt()


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


def test_a_death_outside_every_operator_blames_no_row():
    ledger = Ledger()
    outside = Crumb(operator_id="", start=0, stop=0)
    for _ in range(MAX_PLAIN_DEATHS):
        attempt = ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=outside)
        assert attempt.suspects == ()
        assert attempt.condemned == ()
    with pytest.raises(StageFailed, match="SIGSEGV"):
        ledger.died("s", name="f", cause="fault", detail="SIGSEGV", at=outside)
