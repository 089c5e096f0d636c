"""Counts the long lines of texts, which mC4 takes for paragraphs (Xue et al. 2021, section 3.1)."""

from __future__ import annotations

import numpy as np

from fdf_ops_text.kernels.compiling import kernel
from fdf_ops_text.kernels.lines import LINE_FEED


@kernel
def long_lines(data, starts, ends, fewest):
    """Count per row the lines between line feeds that have at least `fewest` characters."""
    rows = len(starts)
    found = np.zeros(rows, np.int64)
    for row in range(rows):
        chars = 0
        for i in range(starts[row], ends[row]):
            byte = data[np.uint64(i)]
            if byte == LINE_FEED:
                found[row] += chars >= fewest
                chars = 0
            elif byte & 0xC0 != 0x80:
                chars += 1
        found[row] += chars >= fewest
    return found
