"""The relay beside a host, without a cluster: what it was told last, and what goes wrong on its node."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest
from ray.exceptions import OutOfDiskError

from fdf.errors import StageFailed
from fdf_runner_local.asking import Desk, Pending
from fdf_runner_local.parcels import Answer, Ask, Shared
from fdf_runner_ray import relay as relays
from fdf_runner_ray.relay import Address, Relay


@pytest.fixture
def relay():
    """One for a model `a` that nobody holds."""
    made = Relay(("a",), in_turn=False, store=0, node="here")
    yield made
    made.close()


@pytest.fixture
def asks(relay):
    """Give a function that asks as a worker does, and returns the answer or raises what came instead."""

    def ask():
        (path,) = relay.desks.paths["a"]
        pending = Pending(Ask("1", "a", 2), Shared(pa.record_batch({"x": [1, 2]})))
        desk = Desk(path)
        desk.ask(pending)
        try:
            return pending.answer.result(timeout=10)
        finally:
            desk.forget(pending)

    return ask


def address(name):
    return Address(SimpleNamespace(_actor_id=SimpleNamespace(binary=lambda: name)), "here")


def test_newest_table_holds_whichever_came_last(relay):
    """An actor's methods run in several threads: calls that were made one after the other may change places."""
    relay.know({"a": [address(b"new")]}, 2)
    relay.know({}, 1)
    assert relay._choose("a").key == b"new"


def test_rows_without_a_place_in_the_object_store_fail_the_stage(relay, asks, monkeypatch):
    def full(rows):
        raise OutOfDiskError("the local disk is full")

    monkeypatch.setattr(relays.ray, "put", full)
    with pytest.raises(StageFailed, match=r"no place on node .* for 2 rows .* `a` or back: .*disk is full"):
        asks()


def test_answer_without_a_descriptor_left_fails_the_stage(relay, asks, monkeypatch):
    def none_left(memory):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(relay, "_asked_of_one", lambda ask, memory: (Answer("1", 0.1), memory))
    monkeypatch.setattr(relays.Shared, "copy_of", none_left)
    with pytest.raises(StageFailed, match="Too many open files"):
        asks()
