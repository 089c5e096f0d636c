"""When a device has no memory left: known without importing torch, told as Python's own MemoryError."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out, a machine's or a device's: then fewer rows may do.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError())
    (True, False)
    """
    return isinstance(error, MemoryError) or any(
        kind.__name__ == "OutOfMemoryError" and kind.__module__.partition(".")[0] == "torch"
        for kind in type(error).__mro__
    )


@contextmanager
def freeing_device_memory() -> Iterator[None]:
    """Turn a device's lack of memory into a MemoryError, after its memory was given back."""
    told = None
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # The traceback holds the frames, and they the tensors: nothing would be freed as long as it lives.
        error.__traceback__ = None
        told = f"{type(error).__name__}: {error}"
    if told is not None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        raise MemoryError(told)
