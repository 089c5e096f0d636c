"""Finds out who reads: the rank among all processes, and the worker among those of a PyTorch `DataLoader`."""

from __future__ import annotations

import os
import sys

from fdf.errors import PlanError
from fdf.training.striping import Consumer


def rank_of(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world size: as given, else `torch.distributed`'s where it is initialised, else those of RANK and
    WORLD_SIZE in the environment, else 0 of 1."""
    if (rank is None) != (world_size is None):
        raise PlanError("`rank` and `world_size` go together", help="give both, or neither")
    if rank is not None and world_size is not None:
        return rank, world_size
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    try:
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise PlanError(
            f"RANK and WORLD_SIZE in the environment are no numbers: {error}", help="correct or unset them"
        ) from error


def consumer_here(rank: int, ranks: int, *, turn: int) -> Consumer:
    """Return the consumer that this process is: a worker of a `DataLoader` where it runs in one."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    if info is None:
        return Consumer(rank=rank, ranks=ranks, turn=turn)
    return Consumer(rank=rank, ranks=ranks, worker=info.id, workers=info.num_workers, turn=turn)
