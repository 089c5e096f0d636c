"""What workers and models' processes say to each other: rows in shared memory, bounds, and models in turn."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from fdf.errors import Cancelled
from fdf.models.tensors import tensor, tensor_batch
from fdf.stage.events import CancelToken
from fdf_runner_local.asking import LOOK_ROUND, Desk, Desks, Pending, RemoteModels, Room
from fdf_runner_local.packing import Want, pack
from fdf_runner_local.parcels import Answer, Ask, Hello, Line, Raised, Shared
from fdf_runner_local.requests import Request, Requests


@pytest.fixture
def ends():
    ours, theirs = (Line(s) for s in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_rows_cross_and_outlive_their_sender(ends):
    ours, theirs = ends
    values = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    batch = tensor_batch({"x": values}).append_column("text", pa.array(["a", None, "", "é", "b"])).slice(1, 3)
    shared = Shared(batch)
    ours.send(Ask("1", "op", 3), shared)
    shared.close()
    ours.close()
    message, rows = theirs.receive()
    assert message == Ask("1", "op", 3)
    assert np.array_equal(tensor(rows, "x"), values[1:4])
    assert rows.column("text").to_pylist() == [None, "", "é"]
    assert theirs.receive() is None


def test_many_senders_share_a_line(ends):
    ours, theirs = ends
    rows = [tensor_batch({"x": np.full((n + 1, 1000), n)}) for n in range(40)]

    def send(number):
        shared = Shared(rows[number])
        ours.send(Ask(str(number), "op", number + 1), shared)
        shared.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    found = dict(theirs.receive() for _ in threads)
    assert {int(ask.number): batch for ask, batch in found.items()} == dict(enumerate(rows))


def test_no_descriptor_is_left(ends):
    ours, theirs = ends
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names are enough)
    for number in range(5):
        shared = Shared(tensor_batch({"x": np.zeros((10, 10))}))
        ours.send(Answer(str(number), 0.1), shared)
        shared.close()
        theirs.receive()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_rows_that_are_held_hold_no_descriptor(ends):
    ours, theirs = ends
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    held = []
    for number in range(5):
        shared = Shared(tensor_batch({"x": np.full((10, 10), number)}))
        ours.send(Answer(str(number), 0.1), shared)
        shared.close()
        held.append(theirs.receive()[1])
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert [int(tensor(rows, "x")[9, 9]) for rows in held] == [0, 1, 2, 3, 4]


def test_attempt_without_a_baton_is_not_given_up_with_the_split_before_it(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "model"))
    listener.listen()

    def answer():
        line = Line(listener.accept()[0])
        line.send(Hello(()))
        ask, rows = line.receive()
        time.sleep(3 * LOOK_ROUND)
        shared = Shared(rows)
        line.send(Answer(ask.number, 0.5), shared)
        line.receive()

    threading.Thread(target=answer, daemon=True).start()
    models = RemoteModels(CancelToken())
    models.settle(Desks(paths={"op": (tmp_path / "model",)}))
    baton = models.ahead().baton
    assert list(baton.in_order(lambda n: n, [1], most=1, room=1, size=lambda _: 1)) == [1]
    rows = tensor_batch({"x": np.ones((2, 2))})
    assert models.infer("op")(rows) == (rows, 0.5)


@pytest.fixture
def desk(tmp_path):
    """A line to a model that answers every request at once, over as many connections as it takes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "model"))
    listener.listen()

    def serve():
        while True:
            line = Line(listener.accept()[0])
            line.send(Hello(()))
            while (found := line.receive()) is not None:
                shared = Shared(found[1])
                line.send(Answer(found[0].number, 0.5), shared)
                shared.close()

    threading.Thread(target=serve, daemon=True).start()
    made = Desk(tmp_path / "model")
    while not made.reached:
        time.sleep(0.01)
    return made


def question(number):
    rows = tensor_batch({"x": np.ones((2, 2))})
    return Pending(Ask(number, "op", 2), Shared(rows))


def test_answers_are_heard_while_a_request_cannot_be_sent(desk, monkeypatch):
    send, stuck, heard = Line.send, threading.Event(), threading.Event()

    def stuffed(line, message, shared=None):
        if message == Ask("second", "op", 2):
            stuck.set()
            assert heard.wait(20)
        if message == Answer("first", 0.5):
            assert stuck.wait(20)
        send(line, message, shared)

    monkeypatch.setattr(Line, "send", stuffed)
    first, second = question("first"), question("second")
    desk.ask(first)
    sender = threading.Thread(target=desk.ask, args=(second,))
    sender.start()
    assert first.answer.result(20)[1] == 0.5
    heard.set()
    sender.join()
    assert second.answer.result(20)[1] == 0.5


def test_request_that_the_system_would_not_send_is_sent_over_the_next_line(desk, monkeypatch):
    send, refused = Line.send, []

    def refusing(line, message, shared=None):
        if isinstance(message, Ask) and not refused:
            refused.append(message.number)
            raise OSError(errno.ETOOMANYREFS, "too many references")
        send(line, message, shared)

    monkeypatch.setattr(Line, "send", refusing)
    asked = question("only")
    desk.ask(asked)
    assert asked.answer.result(20)[1] == 0.5
    assert refused == ["only"]


def test_error_of_another_process_reads_as_if_raised_here():
    error = Raised("KeyError", "'n'").as_raised()
    assert f"{type(error).__name__}: {error}" == "KeyError: 'n'"


def test_room_is_never_overdrawn_but_by_one_alone():
    room = Room(100)
    held, peak, lock = [0], [0], threading.Lock()

    def use(size):
        room.take(size, give_up=lambda: None)
        with lock:
            held[0] += size
            peak[0] = max(peak[0], held[0])
        time.sleep(0.002)
        with lock:
            held[0] -= size
        room.give(size)

    threads = [threading.Thread(target=use, args=(30 + number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 60 <= peak[0] <= 100
    room.take(1000, give_up=lambda: None)

    def give_up():
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        room.take(1, give_up=give_up)


def test_room_tells_that_somebody_waits_until_nobody_does():
    room = Room(100)
    room.take(80, give_up=lambda: None)
    assert not room.crowded
    waiter = threading.Thread(target=room.take, args=(50,), kwargs={"give_up": lambda: None})
    waiter.start()
    while not room.crowded:
        time.sleep(0.001)
    threading.Timer(0.1, room.resize, [200]).start()
    began = time.monotonic()
    room.until_nobody_waits(give_up=lambda: None)
    assert time.monotonic() - began >= 0.05
    assert not room.crowded
    waiter.join()


def request(operator_id, rows=1):
    return Request(Ask("0", operator_id, rows), pa.record_batch({"n": [0] * rows}), None)


def test_model_at_hand_is_asked_first_and_then_the_one_most_rows_wait_for():
    requests = Requests(in_turn=True)
    for operator_id, rows in [("a", 1), ("b", 2), ("c", 5), ("c", 1), ("b", 1), ("a", 1)]:
        requests.put(request(operator_id, rows))
    order = []
    for _ in range(6):
        order.append(requests.take().ask.operator_id)
        requests.answered()
    assert order == ["c", "c", "b", "b", "a", "a"]


def test_model_at_hand_is_waited_for_as_long_as_a_change_takes():
    requests = Requests(in_turn=True)
    requests.changed_in(0.4)
    requests.put(request("a"))
    assert requests.take().ask.operator_id == "a"
    requests.put(request("b"))
    requests.answered()
    threading.Timer(0.1, lambda: requests.put(request("a"))).start()
    assert requests.take().ask.operator_id == "a"
    requests.answered()
    began = time.monotonic()
    assert requests.take().ask.operator_id == "b"
    assert time.monotonic() - began >= 0.35


def test_change_waits_until_the_model_at_hand_has_answered():
    requests = Requests(in_turn=True)
    requests.put(request("a"))
    requests.take()
    requests.put(request("b"))
    threading.Timer(0.3, requests.answered).start()
    began = time.monotonic()
    assert requests.take().ask.operator_id == "b"
    assert time.monotonic() - began >= 0.3


def test_closed_requests_end_who_waits():
    requests = Requests(in_turn=False)
    threading.Timer(0.05, requests.close).start()
    assert requests.take() is None


@pytest.mark.parametrize(
    ("wants", "gpus", "held"),
    [
        ([1], 0, ["cpu a"]),
        ([0.5, 0.5], 1, ["cuda:0 a", "cuda:0 b"]),
        ([0.5, 1], 2, ["cuda:0 b", "cuda:1 a", "cuda:1 a"]),
        ([0.5, 1], 1, ["cuda:0 ab in turn"]),
        ([1, 1, 1], 2, ["cuda:0 abc in turn", "cuda:1 abc in turn"]),
        ([2], 4, ["cuda:0,1 a", "cuda:2,3 a"]),
        ([2, 0.5], 2, ["cuda:0,1 ab in turn"]),
        ([0.3], 1, ["cuda:0 a"] * 3),
        ([0.1] * 3, 1, ["cuda:0 a", "cuda:0 b", "cuda:0 c"] * 3 + ["cuda:0 a"]),
    ],
)
def test_models_are_packed(wants, gpus, held):
    asked = [Want(operator_id=name, gpus=share) for name, share in zip("abc", wants, strict=False)]
    slots = pack(asked, gpus=gpus, most=10)
    assert [f"{s.device} {''.join(s.operator_ids)}{' in turn' * s.in_turn}" for s in slots] == held
