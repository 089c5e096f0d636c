"""What a stage takes of a cluster: actors for its models, and the workers that fit beside them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pyarrow as pa
import pytest

from fdf.models.contract import ModelScore
from fdf.operator import Resources, Score
from fdf_runner_ray.capacity import Node
from fdf_runner_ray.layout import fit_together, lay_out
from fdf_runner_ray.scaling import Load, Scaling


@dataclass(frozen=True, kw_only=True)
class Model(ModelScore):
    """A model."""

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Return what came."""
        return prepared


@dataclass(frozen=True, kw_only=True)
class Plain(Score):
    """No model."""

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Return nothing."""
        return {}


def steps(**asked):
    made = {"plain": Plain, "model": Model}
    return [
        SimpleNamespace(id=name, use=SimpleNamespace(operator=made[name.partition("_")[0]](), resources=resources))
        for name, resources in asked.items()
    ]


def node(cpus=8, gpus=0, memory=64 << 30):
    return Node(id=f"{cpus}-{gpus}", host="h", cpus=cpus, gpus=gpus, memory=memory)


def shape(layout):
    return [(pool.kind.operator_ids, pool.need.gpus, pool.need.cpus, pool.kind.in_turn) for pool in layout.pools]


BOTH = {"model_a": Resources(gpus=0.5), "model_b": Resources(gpus=1)}


def test_each_model_has_a_kind_of_its_own_where_one_of_each_fits():
    layout = lay_out(steps(plain=Resources(cpus=2), **BOTH), [node(gpus=2)], gpus=True)
    assert shape(layout) == [(("model_a",), 0.5, 1, False), (("model_b",), 1, 1, False)]
    assert layout.worker == Resources(cpus=2)


@pytest.mark.parametrize("there", [[node(gpus=1)], [node(cpus=1, gpus=2), node(cpus=1)]])
def test_models_go_in_turn_where_they_do_not_fit_at_once(there):
    # One GPU, or two with a single CPU beside them.
    assert shape(lay_out(steps(**BOTH), there, gpus=True)) == [(("model_a", "model_b"), 1, 1, True)]


def test_parts_of_two_gpus_are_not_one():
    assert fit_together([Resources(gpus=0.6)] * 2, [node(gpus=2)])
    assert not fit_together([Resources(gpus=0.6)] * 2, [node(gpus=1)])
    assert not fit_together([Resources(gpus=0.6)] * 3, [node(gpus=2)])
    assert not fit_together([Resources(gpus=2)], [node(gpus=1), node(gpus=1)])


def test_without_gpus_one_kind_holds_all_models_on_the_workers_cpus():
    asked = {"model_a": Resources(gpus=0.5, memory=1 << 30), "model_b": Resources(gpus=1, memory=2 << 30)}
    layout = lay_out(steps(**asked), [node()], gpus=False)
    assert shape(layout) == [(("model_a", "model_b"), 0, 0, False)]
    assert layout.pools[0].need.memory == 3 << 30
    assert layout.workers_on([node()]) == 8


def test_model_that_asks_for_no_gpu_and_other_operators_stay_in_the_workers():
    layout = lay_out(steps(model_a=Resources(gpus=0, cpus=3), plain=Resources(gpus=0.25)), [node(gpus=1)], gpus=True)
    assert layout.pools == ()
    assert layout.worker == Resources(cpus=3, gpus=0.25)


@pytest.mark.parametrize(
    ("there", "workers"),
    [
        # Two of the one model and one of the other take all of two GPUs, and three of the CPUs.
        ([node(cpus=8, gpus=2)], 5),
        ([node(cpus=8, gpus=2), node(cpus=4)], 9),
        # A worker goes before a second actor: with three CPUs there is one of each.
        ([node(cpus=3, gpus=4)], 1),
        # Too little for all of it is still not nothing.
        ([node(cpus=1, gpus=2)], 1),
    ],
)
def test_workers_leave_room_for_as_many_models_as_the_gpus_hold(there, workers):
    layout = lay_out(steps(**BOTH), [node(gpus=2)], gpus=True)
    assert layout.workers_on(there) == workers


def test_pool_grows_no_larger_than_its_bound_and_shrinks_no_smaller_than_one():
    crowded, idle = Load(5, 1.0), Load(0, 0.0)
    pool = Scaling()
    assert pool.wanted([crowded], most=1, now=0.0) == 1
    assert pool.wanted([crowded] * 3, most=4, now=0.0) == 4
    assert [pool.wanted([idle], most=4, now=now) for now in (0.0, 100.0)] == [1, 1]


def test_pool_waits_before_it_shrinks_and_forgets_a_quiet_moment():
    quiet, busy = [Load(0, 0.3)] * 3, [Load(1, 1.0)] * 3
    pool = Scaling()
    wanted = [
        pool.wanted(loads, most=8, now=now)
        for now, loads in [(0, quiet), (10, busy), (20, quiet), (39, quiet), (40, quiet), (41, quiet[:2])]
    ]
    assert wanted == [3, 3, 3, 3, 2, 2]


def test_one_crowded_actor_among_others_is_no_reason_to_grow():
    assert Scaling().wanted([Load(9, 1.0), Load(1, 1.0)], most=8, now=0.0) == 2
