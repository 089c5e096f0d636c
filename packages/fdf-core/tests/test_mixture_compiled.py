"""Compiled code decides as Python does: the same leaves, sizes, positions, deviations and events, whatever is asked."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fdf.mixture.curve import Curve, Point
from fdf.mixture.scheduler import Mix, Position, Scheduler
from fdf.mixture.tree import Node, Tree

spec = importlib.util.spec_from_file_location("mixture_cases", Path(__file__).with_name("test_mixture_scheduler.py"))
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

pytest.importorskip("numba")


def told(scheduler, mixed):
    return mixed.leaves.tolist(), mixed.sizes.tolist(), scheduler.position.to_json()


def play(mixture, sizes, *, patience, step, piece=7, draws=12):
    """Return all that a scheduler tells, and how often compiled code had the say."""
    scheduler = Scheduler(mixture, cases.Documents(sizes, piece=piece), patience=patience)
    seen, compiled = [], 0
    for _ in range(draws):
        seen.append(told(scheduler, scheduler.draw(step)))
        compiled += scheduler._ledger is not None
        if scheduler.done:
            break
    return (seen, scheduler.events), compiled


@settings(max_examples=70, deadline=None, phases=[Phase.generate])
@given(cases.mixtures(), st.integers(1, 9), st.integers(1, 90), st.integers(0, 20))
def test_compiled_code_decides_as_python_does(case, piece, step, patience):
    in_python, _ = play(*case, patience=None, step=step, piece=piece)
    compiled, _ = play(*case, patience=patience, step=step, piece=piece)
    assert compiled == in_python


def large_case(seed):
    """Return weights as floats are written, documents of up to 2^40 units, long ramps, ends, caps and groups."""
    rng = random.Random(seed)
    count = rng.choice([2, 3, 17, 40])
    digits = rng.choice([2, 9, 17])
    largest = 2 ** rng.choice([4, 20, 40])
    weights = [Fraction(round(rng.expovariate(1), digits) or 1).limit_denominator(10**digits) for _ in range(count)]
    leaves = [
        Node(
            name=f"s{i}",
            weight=w,
            cap=rng.choice([None, None, 20 * largest]),
            epochs=rng.choice([Fraction(1), Fraction(5, 2), None]),
        )
        for i, w in enumerate(weights)
    ]
    half = count // 2
    nested = rng.random() < 0.5
    cap, below = rng.choice([None, 60 * largest]), tuple(leaves[half:])
    group = Node(name="group", weight=Fraction(2, 3), cap=cap, children=below)
    tree = Tree([*leaves[:half], group] if nested else leaves)
    points, at = [], 0
    for _ in range(rng.choice([0, 0, 1, 3])):
        at += rng.randint(1, 40 * largest)
        new = {f"s{i}": Fraction(rng.randint(0, 30), 10) for i in rng.sample(range(count), 2)}
        points.append(Point(at=at, weights=new, ramp=rng.choice(["step", "linear"])))
    policy = rng.choice(["stop", "renormalize", "renormalize", "fallback"])
    mixture = Mix(
        tree=tree, curve=Curve(tree.weights, points), on_exhausted=policy, fallback="s0", total=2000 * largest
    )
    sizes = [[int(largest * rng.random() ** 4) + 1 for _ in range(rng.randint(1, 60))] for _ in range(count)]
    return mixture, sizes


@pytest.mark.parametrize("seed", range(30))
def test_large_documents_and_fine_weights_make_no_difference(seed):
    mixture, sizes = large_case(seed)
    in_python, _ = play(mixture, sizes, patience=None, step=150)
    compiled, _ = play(mixture, sizes, patience=0, step=150)
    assert compiled == in_python


def test_compiled_code_has_the_say_in_what_it_was_made_for():
    rng = random.Random(7)
    weights = [Fraction(str(rng.expovariate(1))) for _ in range(64)]
    sizes = [[rng.randint(1, 10**6) for _ in range(300)] for _ in weights]
    constant = cases.mix(weights)
    ramp = cases.mix([1, 2, 3], points=[Point(at=10**10, weights={"s0": Fraction(3)}, ramp="linear")])
    assert max(w.denominator for w in weights) > 10**16
    for mixture, documents in ((constant, sizes), (ramp, sizes[:3])):
        (_, _), compiled = play(mixture, documents, patience=0, step=100, draws=5)
        assert compiled == 5


def test_what_does_not_fit_is_left_to_python():
    # The denominators' product is beyond 128 bits.
    weights = [Fraction(1, 2**61 - 1), Fraction(1, 2**89 - 1), Fraction(1, 3**40)]
    sizes = [[random.Random(i).randint(1, 99) for _ in range(50)] for i in range(3)]
    compiled, often = play(cases.mix(weights), sizes, patience=0, step=40)
    assert compiled == play(cases.mix(weights), sizes, patience=None, step=40)[0]
    assert not often


@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(cases.mixtures(), st.integers(1, 60))
def test_a_position_stored_by_one_goes_on_in_the_other(case, cut):
    mixture, sizes = case
    whole = Scheduler(mixture, cases.Documents(sizes), patience=None)
    everything = whole.draw(400)
    for one, other in ((0, None), (None, 0)):
        first = Scheduler(mixture, cases.Documents(sizes), patience=one)
        before = first.draw(cut)
        position = Position.from_json(first.position.to_json())
        second = Scheduler(mixture, cases.Documents(sizes, position=position), position, patience=other)
        after = second.draw(400 - cut)
        assert [*before.leaves, *after.leaves] == [*everything.leaves]
        assert [*first.events, *second.events] == whole.events
        assert second.position == whole.position


def test_hundreds_of_sources_that_end_one_by_one_make_no_difference():
    rng = np.random.default_rng(3)
    weights = [Fraction(int(w)) for w in rng.integers(1, 10**6, 300)]
    sizes = [rng.integers(1, 1000, rng.integers(1, 4)) for _ in weights]
    mixture = cases.mix(weights, policy="renormalize")
    in_python, _ = play(mixture, sizes, patience=None, step=180, draws=3)
    compiled, often = play(mixture, sizes, patience=0, step=180, draws=3)
    assert compiled == in_python
    assert often == 3


def test_without_numba_the_same_is_decided_in_python(tmp_path):
    script = tmp_path / "without.py"
    script.write_text(
        """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
from fractions import Fraction
import numpy as np
from fdf.mixture.curve import Curve
from fdf.mixture.scheduler import Mix, Scheduler
from fdf.mixture.tree import Node, Tree

class Feed:
    def take(self, leaf, epoch):
        return np.arange(1, 200, dtype=np.int64)

tree = Tree([Node(name="a", weight=Fraction(1, 3)), Node(name="b", weight=Fraction(2, 3))])
scheduler = Scheduler(Mix(tree=tree, curve=Curve(tree.weights)), Feed(), patience=0)
print(scheduler.draw(300).leaves.tolist(), scheduler.position.to_json()["deviation"])
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    plain = script.read_text().replace('sys.modules["numba"] = sys.modules["llvmlite"] = None', "")
    script.write_text(plain)
    assert subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout == done.stdout
