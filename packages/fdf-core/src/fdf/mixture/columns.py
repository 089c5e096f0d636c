"""Where the numbers of a compiled run of decisions stand: names for the columns and places of its arrays."""

from __future__ import annotations

# A leaf's row of the book: one leaf's numbers lie together, in as few lines of the processor's cache as may be.
NEXT, STOP = 0, 1  # its next document in the pool of sizes, and where what is there ends
LEAD_HIGH, LEAD_LOW = 2, 3  # scale * (delivered - target) when `TOUCHED` units had gone out, in 128 bits
TOUCHED = 4
SLOPE_HIGH, SLOPE_LOW = 5, 6  # of its target, in 128 bits
DELIVERED, ROWS, IN_EPOCH, LARGEST = 7, 8, 9, 10
FAR_HIGH, FAR_LOW = 11, 12  # the largest lead or lag so far
CAPS_FROM, CAPS_TO = 13, 14  # which caps count it
BENDS, BEND_HIGH, BEND_LOW = 15, 16, 17  # whether it has a bend, and which
WIDTH = 20

# The state of the whole.
UNITS, WAITING, READY, START, HORIZON, SCALE_HIGH, SCALE_LOW, TOTAL = range(8)
STATES = 8

# Why a run came to its end.
FULL, SERVED, FAR, STEP = range(4)
