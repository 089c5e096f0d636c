"""How many different values there are, estimated in a few kilobytes: HyperLogLog (Flajolet et al. 2007).

Two sketches of one precision p merge into the sketch of both inputs. The standard error is 1.04 / sqrt(2**p).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Registers = npt.NDArray[np.uint8]


def sketch(hashes: npt.NDArray[np.uint64], *, precision: int) -> Registers:
    """Return the registers for these 64-bit hashes: by their leading `precision` bits, the longest run of zeros
    after them, plus one."""
    registers = np.zeros(1 << precision, dtype=np.uint8)
    index = (hashes >> np.uint64(64 - precision)).astype(np.int64)
    # 53 bits at most, so that the double below is exact and its exponent is the bit length.
    width = 53 - precision
    rest = (hashes >> np.uint64(64 - precision - width)) & np.uint64((1 << width) - 1)
    _, length = np.frexp(rest.astype(np.float64))
    np.maximum.at(registers, index, (width - length + 1).astype(np.uint8))
    return registers


def estimate(registers: Registers) -> int:
    """Return the estimated number of different values, by linear counting where registers are still empty."""
    m = len(registers)
    raw = _alpha(m) * m * m / float(np.ldexp(1.0, -registers.astype(np.int64)).sum())
    empty = int((registers == 0).sum())
    if empty and raw <= 2.5 * m:
        return round(m * math.log(m / empty))
    return round(raw)


def _alpha(m: int) -> float:
    # The constants of the paper, figure 3.
    return {16: 0.673, 32: 0.697, 64: 0.709}.get(m, 0.7213 / (1 + 1.079 / m))
