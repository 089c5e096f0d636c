"""Strings passes together, and decides what becomes of the last documents where ranks cannot have equally many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from fdf.training.lots import Corpus, Lot, Pass
from fdf.training.state import State
from fdf.training.striping import Law, Share

Tail: TypeAlias = Literal["keep", "drop", "pad"]


def stream(corpus: Corpus, law: Law, state: State, share: Share, *, epochs: int | None, tail: Tail) -> Iterator[Lot]:
    """Yield the consumer's documents from a state on, pass after pass."""
    stop = None if epochs is None else state.first_epoch + epochs
    lots = _passes(corpus, law, state.within, share, stop=stop)
    if tail == "drop":
        lots = _whole_rounds(lots, share)
    last: Lot | None = None
    for lot in lots:
        last = lot
        yield lot
    if tail == "pad" and last is not None and last.end > share.start:
        missing = (share.origin - last.end) % share.consumer.ranks
        begin = Pass(epoch=last.within.epoch + 1, began=last.end)
        yield from _first(_passes(corpus, law, begin, share, stop=None), last.end + missing)


def _passes(corpus: Corpus, law: Law, begin: Pass, share: Share, *, stop: int | None) -> Iterator[Lot]:
    here = begin
    while stop is None or here.epoch < stop:
        end = here.began
        for lot in corpus.lots(here, share, law):
            end = lot.end
            yield lot
        if end == here.began:
            return  # There are no documents at all.
        here = Pass(epoch=here.epoch + 1, began=end)


def _whole_rounds(lots: Iterator[Lot], share: Share) -> Iterator[Lot]:
    """Hold a document back until it is known that every rank gets one in its round; drop it where that never is."""
    held: tuple[pa.RecordBatch, np.ndarray] | None = None
    for lot in lots:
        rows, places = lot.rows, lot.places
        if held is not None:
            rows = pa.concat_batches([held[0], rows])
            places = np.concatenate([held[1], places])
        sure = int(np.searchsorted(share.round_end(places), lot.end, side="right"))
        held = (rows.slice(sure), places[sure:]) if sure < len(places) else None
        yield Lot(rows.slice(0, sure), places[:sure], lot.end, lot.within)


def _first(lots: Iterator[Lot], end: int) -> Iterator[Lot]:
    """Yield only documents at places before `end`."""
    for lot in lots:
        count = int(np.searchsorted(lot.places, end))
        yield Lot(lot.rows.slice(0, count), lot.places[:count], min(lot.end, end), lot.within)
        if lot.end >= end:
            return


__all__ = ["Tail", "stream"]
