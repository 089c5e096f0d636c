"""Makes decisions in compiled code, the same ones as the scheduler in Python.

Leads, scale * (delivered - target), take up to 126 bits, and slopes and bends less: they are pairs of unsigned words,
in two's complement. Positions take 62. A quotient or a root is estimated in floating point and then corrected until it
is exact, so no platform's rounding has a say. What does not fit, or lies beyond the current piece, is left to the
scheduler.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from fdf.compiling import inline, kernel, subroutine
from fdf.mixture.columns import (
    BEND_HIGH,
    BEND_LOW,
    BENDS,
    CAPS_FROM,
    CAPS_TO,
    DELIVERED,
    FAR,
    FAR_HIGH,
    FAR_LOW,
    FULL,
    HORIZON,
    IN_EPOCH,
    LARGEST,
    LEAD_HIGH,
    LEAD_LOW,
    NEXT,
    READY,
    ROWS,
    SCALE_HIGH,
    SCALE_LOW,
    SERVED,
    SLOPE_HIGH,
    SLOPE_LOW,
    START,
    STEP,
    STOP,
    TOTAL,
    TOUCHED,
    UNITS,
    WAITING,
)

_HALF = np.uint64(32)
_LOW = np.uint64(2**32 - 1)
_SIGN = np.uint64(63)
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_WORD = 2.0**64
_BEYOND = 4.7e18  # more than any position, and still an int64


@inline
def _product(a, b):
    """Return the product of two words."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    low, left, right, high = a_low * b_low, a_low * b_high, a_high * b_low, a_high * b_high
    middle = (low >> _HALF) + (left & _LOW) + (right & _LOW)
    return high + (left >> _HALF) + (right >> _HALF) + (middle >> _HALF), (low & _LOW) | (middle << _HALF)


@inline
def _times(high, low, number):
    """Return a pair times a number that is not negative; what exceeds 128 bits is cut off."""
    word = np.uint64(number)
    p_high, p_low = _product(low, word)
    return p_high + high * word, p_low


@inline
def _plus(high, low, more_high, more_low):
    total = low + more_low
    carry = _ONE if total < low else _NONE
    return high + more_high + carry, total


@inline
def _minus(high, low, less_high, less_low):
    borrow = _ONE if low < less_low else _NONE
    return high - less_high - borrow, low - less_low


@inline
def _above(high, low, other_high, other_low):
    """Say whether one pair is larger than another, both taken without sign."""
    return high > other_high or (high == other_high and low > other_low)


@inline
def _real(high, low):
    return np.float64(high) * _WORD + np.float64(low)


@inline
def _signed(high, low):
    if high >> _SIGN:
        high, low = _minus(_NONE, _NONE, high, low)
        return -_real(high, low)
    return _real(high, low)


@subroutine
def _quotient(high, low, slope_high, slope_low, limit):
    """Return the largest y in 0..limit with y * slope <= the pair."""
    if high == _NONE and slope_high == _NONE:
        found = low // slope_low
        return limit if found > np.uint64(limit) else np.int64(found)
    slope = _real(slope_high, slope_low)
    guess = _real(high, low) / slope
    if guess > _BEYOND:
        return limit
    y = np.int64(guess)
    while True:
        p_high, p_low = _times(slope_high, slope_low, y)
        if _above(p_high, p_low, high, low):
            d_high, d_low = _minus(p_high, p_low, high, low)
            y -= max(np.int64(_real(d_high, d_low) / slope), 1)
        else:
            d_high, d_low = _minus(high, low, p_high, p_low)
            if _above(slope_high, slope_low, d_high, d_low):
                return min(y, limit)
            y += max(np.int64(_real(d_high, d_low) / slope), 1)


@inline
def _risen(slope_high, slope_low, bend_high, bend_low, y):
    """Return y * (slope + bend * y)."""
    m_high, m_low = _times(bend_high, bend_low, y)
    m_high, m_low = _plus(m_high, m_low, slope_high, slope_low)
    return _times(m_high, m_low, y)


@subroutine
def _root(high, low, slope_high, slope_low, bend_high, bend_low, limit):
    """Return the largest y in 0..limit with y * (slope + bend * y) <= the pair; the product rises up to `limit`."""
    p_high, p_low = _risen(slope_high, slope_low, bend_high, bend_low, limit)
    if not _above(p_high, p_low, high, low):
        return limit
    below, above = np.int64(0), np.int64(limit)
    wanted, slope, bend = _real(high, low), _signed(slope_high, slope_low), _signed(bend_high, bend_low)
    divisor = slope + sqrt(max(slope * slope + 4.0 * bend * wanted, 0.0))
    guess = 2.0 * wanted / divisor if divisor > 0.0 else 0.0
    y = np.int64(guess) if guess < np.float64(limit) else above - 1
    tries = 0
    while above - below > 1:
        tries += 1
        if y <= below:
            y = below + 1
        elif y >= above:
            y = above - 1
        if tries % 6 == 0:
            y = below + (above - below) // 2
        p_high, p_low = _risen(slope_high, slope_low, bend_high, bend_low, y)
        rise = slope + 2.0 * bend * np.float64(y)
        over = _above(p_high, p_low, high, low)
        if over:
            above = y
            d_high, d_low = _minus(p_high, p_low, high, low)
        else:
            below = y
            d_high, d_low = _minus(high, low, p_high, p_low)
        off = _real(d_high, d_low)
        if off < rise * np.float64(above - below):
            y += -max(np.int64(off / rise), 1) if over else max(np.int64(off / rise), 1)
        else:
            y = below + (above - below) // 2
    return below


@inline
def _slope_at(book, leaf, x):
    """Return scale times a leaf's share at a place of the piece."""
    high, low = np.uint64(book[leaf, SLOPE_HIGH]), np.uint64(book[leaf, SLOPE_LOW])
    if book[leaf, BENDS]:
        b_high, b_low = _times(np.uint64(book[leaf, BEND_HIGH]), np.uint64(book[leaf, BEND_LOW]), 2 * x)
        high, low = _plus(high, low, b_high, b_low)
    return high, low


@inline
def _gain(book, leaf, x, units):
    """Return scale times what a leaf's target gains in so many units from a place of the piece on."""
    high, low = np.uint64(book[leaf, SLOPE_HIGH]), np.uint64(book[leaf, SLOPE_LOW])
    if book[leaf, BENDS]:
        b_high, b_low = _times(np.uint64(book[leaf, BEND_HIGH]), np.uint64(book[leaf, BEND_LOW]), 2 * x + units)
        high, low = _plus(high, low, b_high, b_low)
    return _times(high, low, units)


@inline
def _ahead(book, leaf, high, low, x, limit):
    """Return the largest y in 0..limit in which the target gains no more than the pair, from x on."""
    s_high, s_low = _slope_at(book, leaf, x)
    if book[leaf, BENDS]:
        b_high, b_low = np.uint64(book[leaf, BEND_HIGH]), np.uint64(book[leaf, BEND_LOW])
        return _root(high, low, s_high, s_low, b_high, b_low, limit)
    return _quotient(high, low, s_high, s_low, limit)


@inline
def _back(book, leaf, high, low, x):
    """Return the largest y in 0..x in which the target gained no more than the pair, up to x."""
    s_high, s_low = _slope_at(book, leaf, x)
    if book[leaf, BENDS]:
        b_high, b_low = np.uint64(book[leaf, BEND_HIGH]), np.uint64(book[leaf, BEND_LOW])
        b_high, b_low = _minus(_NONE, _NONE, b_high, b_low)
        return _root(high, low, s_high, s_low, b_high, b_low, x)
    return _quotient(high, low, s_high, s_low, x)


@inline
def _flat(book, leaf):
    return book[leaf, SLOPE_HIGH] == 0 and book[leaf, SLOPE_LOW] == 0 and not book[leaf, BENDS]


@inline
def _push(heap, size, key, leaf):
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent, 0] < key or (heap[parent, 0] == key and heap[parent, 1] < leaf):
            break
        heap[at, 0] = heap[parent, 0]
        heap[at, 1] = heap[parent, 1]
        at = parent
    heap[at, 0] = key
    heap[at, 1] = leaf


@inline
def _pop(heap, size):
    """Take the first of `size` entries away."""
    last = size - 1
    key, leaf = heap[last, 0], heap[last, 1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        other = child + 1
        if other < last and (
            heap[other, 0] < heap[child, 0] or (heap[other, 0] == heap[child, 0] and heap[other, 1] < heap[child, 1])
        ):
            child = other
        if key < heap[child, 0] or (key == heap[child, 0] and leaf < heap[child, 1]):
            break
        heap[at, 0] = heap[child, 0]
        heap[at, 1] = heap[child, 1]
        at = child
    heap[at, 0] = key
    heap[at, 1] = leaf


@inline
def _lead(book, leaf, units, start):
    """Return a leaf's lead at a position on the piece."""
    high, low = np.uint64(book[leaf, LEAD_HIGH]), np.uint64(book[leaf, LEAD_LOW])
    since = book[leaf, TOUCHED]
    g_high, g_low = _gain(book, leaf, since - start, units - since)
    return _minus(high, low, g_high, g_low)


@inline
def _note(book, leaf, high, low):
    if high >> _SIGN:
        high, low = _minus(_NONE, _NONE, high, low)
    if _above(high, low, np.uint64(book[leaf, FAR_HIGH]), np.uint64(book[leaf, FAR_LOW])):
        book[leaf, FAR_HIGH] = np.int64(high)
        book[leaf, FAR_LOW] = np.int64(low)


@inline
def _deadline(book, pool, state, leaf):
    """Return the smallest position at which the leaf's target covers its next document; -1: beyond the piece."""
    if _flat(book, leaf):
        return np.int64(-1)
    high, low = np.uint64(book[leaf, LEAD_HIGH]), np.uint64(book[leaf, LEAD_LOW])
    size = pool[leaf, book[leaf, NEXT]]
    p_high, p_low = _times(np.uint64(state[SCALE_HIGH]), np.uint64(state[SCALE_LOW]), size)
    high, low = _plus(high, low, p_high, p_low)
    since = book[leaf, TOUCHED]
    x = since - state[START]
    if high >> _SIGN or (high == _NONE and low == _NONE):
        # It was due before: how far back may one go?
        high, low = _minus(_NONE, _NONE, high, low)
        back = _back(book, leaf, high, low, x)
        return np.int64(-1) if back == x else since - back
    high, low = _minus(high, low, _NONE, _ONE)
    limit = state[HORIZON] - since
    ahead = _ahead(book, leaf, high, low, x, limit)
    return np.int64(-1) if ahead == limit else since + ahead + 1


@inline
def _enter(book, pool, state, waiting, ready, leaf):
    """Queue a leaf that was just accounted for; say whether its place is on this piece."""
    units = state[UNITS]
    size = pool[leaf, book[leaf, NEXT]]
    book[leaf, LARGEST] = max(book[leaf, LARGEST], size)
    if _flat(book, leaf) or units >= state[HORIZON]:
        return False
    high, low = np.uint64(book[leaf, LEAD_HIGH]), np.uint64(book[leaf, LEAD_LOW])
    if high >> _SIGN or (high == _NONE and low == _NONE):
        due = _deadline(book, pool, state, leaf)
        if due < 0:
            return False
        _push(ready, state[READY], due, leaf)
        state[READY] += 1
        return True
    high, low = _minus(high, low, _NONE, _ONE)
    limit = state[HORIZON] - units
    release = _ahead(book, leaf, high, low, units - state[START], limit) + 1
    if release >= limit:
        return False
    _push(waiting, state[WAITING], units + release, leaf)
    state[WAITING] += 1
    return True


@kernel
def enter(book, pool, state, waiting, ready, leaf):
    """Queue a leaf whose next document is known; say whether that could be done here."""
    return _enter(book, pool, state, waiting, ready, leaf)


@kernel
def place(heap, size, key, leaf):
    """Put a leaf into a heap."""
    _push(heap, size, key, leaf)


@kernel
def enter_all(book, pool, state, waiting, ready, live, first, endless):
    """Queue the live leaves from `first` on; return the first one that the scheduler must see to, or -1."""
    for leaf in range(first, len(book)):
        if not live[leaf]:
            continue
        if _flat(book, leaf):
            if endless:
                continue  # It stands at its target, where the targets begin again, and that stays.
            return leaf
        if book[leaf, NEXT] >= book[leaf, STOP] or not _enter(book, pool, state, waiting, ready, leaf):
            return leaf
    return -1


@kernel
def note_all(book, state, live):
    """Note how far leaves are from their targets."""
    for leaf in range(len(book)):
        if not live[leaf]:
            continue
        high, low = _lead(book, leaf, state[UNITS], state[START])
        _note(book, leaf, high, low)


@kernel
def run(leaves, sizes, count, book, pool, state, waiting, ready, caps, counted, limits):
    """Make decisions until the outputs are full or the scheduler must see to a leaf; return why, the leaf, how many."""
    start, horizon, total = state[START], state[HORIZON], state[TOTAL]
    scale_high, scale_low = np.uint64(state[SCALE_HIGH]), np.uint64(state[SCALE_LOW])
    units = state[UNITS]
    while count < len(leaves):
        if units >= horizon:
            return STEP, 0, count
        while state[WAITING] and waiting[0, 0] <= units:
            leaf = waiting[0, 1]
            due = _deadline(book, pool, state, leaf)
            _pop(waiting, state[WAITING])
            state[WAITING] -= 1
            if due < 0:
                return FAR, leaf, count
            _push(ready, state[READY], due, leaf)
            state[READY] += 1
        if not state[READY]:
            return STEP, 0, count
        leaf = ready[0, 1]
        place = book[leaf, NEXT]
        size = pool[leaf, place]
        if size > horizon - units:
            return STEP, 0, count
        _pop(ready, state[READY])
        state[READY] -= 1

        high, low = _lead(book, leaf, units, start)
        _note(book, leaf, high, low)
        # What a document adds to the lead: its size at the whole scale, less what the target gains meanwhile.
        g_high, g_low = _gain(book, leaf, units - start, size)
        p_high, p_low = _times(scale_high, scale_low, size)
        high, low = _plus(high, low, p_high, p_low)
        high, low = _minus(high, low, g_high, g_low)
        _note(book, leaf, high, low)
        units += size
        state[UNITS] = units
        book[leaf, LEAD_HIGH] = np.int64(high)
        book[leaf, LEAD_LOW] = np.int64(low)
        book[leaf, TOUCHED] = units
        book[leaf, NEXT] = place + 1
        book[leaf, DELIVERED] += size
        book[leaf, ROWS] += 1
        book[leaf, IN_EPOCH] += 1
        leaves[count] = leaf
        sizes[count] = size
        count += 1

        seen_to = place + 1 >= book[leaf, STOP] or units >= total
        for at in range(book[leaf, CAPS_FROM], book[leaf, CAPS_TO]):
            counted[caps[at]] += size
            seen_to = seen_to or counted[caps[at]] >= limits[caps[at]]
        if seen_to:
            return SERVED, leaf, count
        if not _enter(book, pool, state, waiting, ready, leaf):
            return FAR, leaf, count
    return FULL, 0, count
