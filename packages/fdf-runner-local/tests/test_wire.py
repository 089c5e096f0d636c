from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdf.errors import Place, Problem, RecipeError, StageFailed
from fdf.stage.blame import Crumb
from fdf.stage.events import Event
from fdf_runner_local.wire import At, Cancel, Crashed, DriverEnd, Failed, Finished, Happened, WorkerEnd, pack

REPORTS = [
    Happened(Event(kind="split_progress", stage="s", split="x", time=1.5, data={"rows": 3})),
    At(Crumb(operator_id="a", start=3, stop=9)),
    Finished(),
    Crashed("ValueError: no", "Traceback ..."),
]


def lost():
    raise AssertionError("the driver is there")


@pytest.fixture
def ends():
    driver, worker = socket.socketpair()
    with driver, worker:
        yield DriverEnd(driver), worker


@given(st.lists(st.integers(1, 60), max_size=30))
def test_reports_survive_however_the_stream_is_cut(cuts):
    driver, worker = socket.socketpair()
    with driver, worker:
        end = DriverEnd(driver)
        stream = b"".join(map(pack, REPORTS))
        heard = []
        for size in cuts:
            worker.sendall(stream[:size])
            stream = stream[size:]
            heard += end.reports()
        worker.sendall(stream)
        heard += end.reports()
        assert heard == REPORTS
        assert end.open


def test_last_words_are_heard_after_the_worker_is_gone(ends):
    end, worker = ends
    worker.sendall(pack(REPORTS[1]) + pack(Finished())[:5])
    worker.close()
    assert list(end.reports()) == [REPORTS[1]]
    assert list(end.reports()) == []
    assert not end.open


def test_large_order_waits_without_blocking_the_driver(ends):
    end, worker = ends
    large = Failed(StageFailed("x" * (8 << 20)))
    end.send(large)
    assert end.unsent
    heard = []
    reader = WorkerEnd(worker, lost=lost)
    listener = threading.Thread(target=lambda: heard.append(next(reader.orders())))
    listener.start()
    while end.unsent:
        end.flush()
    listener.join()
    assert str(heard[0].error) == str(large.error)


def test_orders_to_a_worker_that_is_gone_are_dropped(ends):
    end, worker = ends
    worker.close()
    end.send(Cancel())
    assert not end.unsent


def test_worker_that_cannot_reach_its_driver_says_so(ends):
    end, worker = ends
    end.close()
    told = []
    WorkerEnd(worker, lost=lambda: told.append("lost")).send(Finished())
    assert told == ["lost"]


def test_errors_arrive_with_their_type_code_and_place(ends):
    end, worker = ends
    problem = Problem(code="FDF213", message="no", place=Place(file="r.yaml", line=3, column=4), help="look")
    worker.sendall(pack(Failed(RecipeError(problem))))
    (report,) = end.reports()
    assert type(report.error) is RecipeError
    assert report.error.problems == (problem,)
    assert report.error.exit_code == 2
