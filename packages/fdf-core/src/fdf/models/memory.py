"""When a device has no memory left: known, and its memory given back, without importing torch."""

from __future__ import annotations

import sys


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out, a machine's or a device's: then fewer rows may do.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError())
    (True, False)
    """
    return isinstance(error, MemoryError) or any(
        kind.__name__ == "OutOfMemoryError" and kind.__module__.partition(".")[0] == "torch"
        for kind in type(error).__mro__
    )


def give_back_device_memory() -> None:
    """Return to the device what torch keeps for later but nothing uses, if torch is at work at all."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
