"""Copies a batch's tensors to a GPU while the model is still at work on the batch before.

The process that holds a model starts the copies of the next batch (`start_copies`) on a stream of their own, out of
pinned memory; `infer` asks for a tensor by `tensor_on`, which waits for the copy on the device, not here. Where no
copy was started, and on a CPU, `tensor_on` makes it then and there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fdf.models.tensors import tensor

# By the identity of the batch, for as long as `start_copies` and `forget_copies` say.
_started: dict[int, dict[str, tuple[Any, Any]]] = {}
_streams: dict[str, Any] = {}


def start_copies(batch: pa.RecordBatch, device: str) -> None:
    """Begin to copy every tensor of a batch to a GPU, and return at once. On other devices nothing is done.

    What is no tensor (text, images of any size) is left to `infer`. Raises what torch raises without memory.
    """
    if not device.startswith("cuda"):
        return
    import torch

    stream = _streams.get(device) or _streams.setdefault(device, torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
    copies = {}
    for name in batch.schema.names:
        if not _is_tensor(batch.column(name)):
            continue
        pinned = _filled(tensor(batch, name), pinned=True)
        with torch.cuda.stream(stream):
            moved = pinned.to(device, non_blocking=True)
            copies[name] = (moved, stream.record_event())
    _started[id(batch)] = copies


def forget_copies(batch: pa.RecordBatch) -> None:
    """Let go of what `start_copies` made for this batch."""
    _started.pop(id(batch), None)


def tensor_on(batch: pa.RecordBatch, name: str, device: Any) -> Any:
    """Return a column as a tensor of torch on a device: the copy under way, else a new one."""
    import torch

    moved, copied = _started.get(id(batch), {}).get(name, (None, None))
    if moved is None:
        return _filled(tensor(batch, name), pinned=False).to(device)
    stream = torch.cuda.current_stream(moved.device)
    stream.wait_event(copied)
    # The memory was taken on the other stream: it must not be given away there before this one is done with it.
    moved.record_stream(stream)
    return moved


def _filled(values: Any, *, pinned: bool) -> Any:
    """Return a tensor in a machine's memory with these values."""
    import torch

    kind = torch.from_numpy(np.empty(0, dtype=values.dtype)).dtype
    made = torch.empty(values.shape, dtype=kind, pin_memory=pinned)
    np.copyto(made.numpy(), values)
    return made


def _is_tensor(column: pa.Array) -> bool:
    numbers = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return not column.null_count and (numbers or isinstance(column.type, pa.FixedShapeTensorType))
