"""Which models go where: one process per model and share of a GPU, or all models in turn where they do not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class Want:
    """A model of a stage and how many GPUs it asks for."""

    operator_id: str
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One process to be: the device it uses, and the models that it holds, one at a time where they go in turn."""

    device: str
    operator_ids: tuple[str, ...]
    in_turn: bool = False


def pack(wants: Sequence[Want], *, gpus: int, most: int) -> tuple[Slot, ...]:
    """Return the processes that serve a stage's models on this many GPUs, at most `most` for one model.

    Largest first, each where it fits; then all again, as long as one of them fits. Without a GPU one process holds all
    of them, on the CPU. Where not even one of each fits at once, each GPU has a process that holds them in turn.

    >>> [(s.device, s.operator_ids) for s in pack([Want(operator_id="a", gpus=0.5)], gpus=1, most=8)]
    [('cuda:0', ('a',)), ('cuda:0', ('a',))]
    >>> both = [Want(operator_id="a", gpus=0.5), Want(operator_id="b", gpus=1)]
    >>> [(s.device, s.operator_ids) for s in pack(both, gpus=2, most=8)]
    [('cuda:0', ('b',)), ('cuda:1', ('a',)), ('cuda:1', ('a',))]
    >>> [(s.device, s.operator_ids, s.in_turn) for s in pack(both, gpus=1, most=8)]
    [('cuda:0', ('a', 'b'), True)]
    """
    names = tuple(w.operator_id for w in wants)
    if not wants:
        return ()
    if not gpus:
        return (Slot(device="cpu", operator_ids=names),)
    free = [1.0] * gpus
    slots: list[Slot] = []
    largest_first = sorted(wants, key=lambda w: -w.gpus)
    for number in range(most):
        placed = [slot for want in largest_first if (slot := _placed(want, free)) is not None]
        if number == 0 and len(placed) < len(wants):
            return _in_turn(wants, gpus)
        if not placed:
            break
        slots += placed
    return tuple(slots)


def _placed(want: Want, free: list[float]) -> Slot | None:
    """Take a model's share from the first GPU that has it, or as many whole GPUs as it asks for."""
    whole = math.ceil(want.gpus - SLACK)
    if whole > 1:
        taken = [n for n, left in enumerate(free) if left > 1 - SLACK][:whole]
        share = 1.0
    else:
        taken = [n for n, left in enumerate(free) if left > want.gpus - SLACK][:1]
        share = want.gpus
    if len(taken) < max(1, whole):
        return None
    for number in taken:
        free[number] -= share
    return Slot(device=_device(taken), operator_ids=(want.operator_id,))


def _in_turn(wants: Sequence[Want], gpus: int) -> tuple[Slot, ...]:
    each = max(1, *(math.ceil(w.gpus - SLACK) for w in wants))
    groups = [list(range(start, start + each)) for start in range(0, gpus - each + 1, each)]
    names = tuple(w.operator_id for w in wants)
    return tuple(Slot(device=_device(group), operator_ids=names, in_turn=True) for group in groups)


def _device(numbers: Sequence[int]) -> str:
    """Name a GPU as torch does; of several, the first: the process sees only its own, from 0."""
    return "cuda:" + ",".join(map(str, numbers))
