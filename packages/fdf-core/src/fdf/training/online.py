"""Draws a mixture while training reads it: nothing is written, every consumer draws the whole schedule and reads only
its own documents.

A schedule is numbers; its documents are read a block of windows at a time, so that rows which lie together in a file
are read together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.errors import BadFile, PlanError, Problem
from fdf.mixture.documents import Chunk, Documents
from fdf.mixture.scheduler import Mix, Position, Scheduler
from fdf.plan.job import LeafJob
from fdf.plan.mixing import PlannedMixture
from fdf.plan.task import Part
from fdf.schema import ID, SOURCE
from fdf.stage.inputs import counted, unless_bad
from fdf.stage.mixed import Account, source_part
from fdf.training.lots import Cursor, Lot, Pass
from fdf.training.striping import Booleans, Integers, Law, Share

WINDOW = 8192
_BLOCK_ROWS, _BLOCK_BYTES = 65_536, 64 << 20


@dataclass(frozen=True)
class _Block:
    """Consecutive documents of the schedule, whole windows of them, or the last ones."""

    cursor: Cursor
    first: int
    """The number of its first document within the pass."""
    leaves: npt.NDArray[np.uint16]
    chunks: tuple[tuple[int, Chunk], ...]

    def __len__(self) -> int:
        return len(self.leaves)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns that are read, as the reader of a mixture's rows asks for them."""

    input_schema: pa.Schema


@dataclass(frozen=True, kw_only=True)
class Online:
    """A planned mixture of an input, with the columns that are read of it."""

    name: str
    plan: PlannedMixture
    names: tuple[str, ...]
    """What is handed out: columns of the mixture, `__fdf__/id`, `__fdf__/source`."""
    skip_bad_rows: bool = False

    @property
    def plan_hash(self) -> str:
        return self.plan.plan_hash

    @property
    def where(self) -> str:
        return f"the mixture of `{self.name}`"

    @property
    def documents(self) -> int | None:
        return None

    @property
    def seed(self) -> int:
        return self.plan.settings.seed

    @property
    def window(self) -> int:
        return WINDOW

    @property
    def schema(self) -> pa.Schema:
        """The columns of what is handed out."""
        planned = self._planned
        return pa.schema([planned.field(n) if n in planned.names else pa.field(n, pa.string()) for n in self.names])

    def lots(self, within: Pass, share: Share, law: Law) -> Iterator[Lot]:
        wanted = tuple(n for n in self.names if n in self._planned.names)
        leaves = self.plan.leaf_jobs(wanted)
        columns = Columns(input_schema=pa.schema([self._planned.field(n) for n in wanted]))
        readers = share.consumer.ranks * share.consumer.workers
        for block in self._blocks(within, law, readers=readers):
            start = within.began + block.first
            places = within.began + law.places(block.first, len(block), epoch=within.epoch)
            rows, found = self._read(block, share.mine(places), places, leaves, columns)
            order = np.argsort(found)
            here = Pass(epoch=within.epoch, began=within.began, cursor=block.cursor)
            yield Lot(_batch(rows, order, self.schema), found[order], start + len(block), here)

    def locate(self, within: Pass, place: int, law: Law) -> Pass:
        found = within
        while True:
            count = 0
            for block in self._blocks(found, law, readers=1):
                count = block.first + len(block)
                found = Pass(epoch=found.epoch, began=found.began, cursor=block.cursor)
                if place < found.began + count:
                    return found
            if not count:
                return within
            found = Pass(epoch=found.epoch + 1, began=found.began + count)

    @property
    def _planned(self) -> pa.Schema:
        assert self.plan.schema is not None
        return self.plan.schema

    def _law(self) -> Mix:
        settings = self.plan.settings
        if settings.temperature is None:
            return settings.law()
        return settings.law({leaf.name: leaf.total() for leaf in self.plan.leaves if leaf.name in settings.unweighted})

    def _blocks(self, within: Pass, law: Law, *, readers: int) -> Iterator[_Block]:
        """Draw the schedule from the cursor on, as many windows at once as one of `readers` can hold its part of."""
        position = Position.from_json(within.cursor["schedule"]) if within.cursor else None
        first = int(within.cursor["first"]) if within.cursor else 0
        step = -(-WINDOW // law.window) * law.window
        with Documents(self.plan.leaves, seed=self.seed, position=position) as documents:
            scheduler = Scheduler(self._law(), documents, position)
            while not scheduler.done:
                cursor = {"first": first, "schedule": _copied(scheduler.position)}
                order, held = np.empty(0, dtype=np.uint16), 0.0
                while len(order) < _BLOCK_ROWS and held / readers < _BLOCK_BYTES:
                    drawn = scheduler.draw(step).leaves
                    order = np.concatenate([order, drawn])
                    held = sum(float(documents.weights(leaf, count).sum()) for leaf, count in _counts(order))
                    if len(drawn) < step:
                        break
                if not len(order):
                    return
                chunks = tuple(
                    (leaf, chunk) for leaf, count in _counts(order) for chunk in documents.drawn(leaf, count)
                )
                yield _Block(cursor, first, order, chunks)
                first += len(order)

    def _read(
        self, block: _Block, mine: Booleans, places: Integers, leaves: tuple[LeafJob, ...], columns: Columns
    ) -> tuple[list[pa.RecordBatch], Integers]:
        """Return this consumer's rows of a block, and the places of those that can be read."""
        # Chunks come by leaf: a stable sort of the leaves says at which place of the schedule each document stands.
        stands = np.argsort(block.leaves, kind="stable")
        batches: list[pa.RecordBatch] = []
        found: list[Integers] = [np.empty(0, dtype=np.int64)]
        at = 0
        for number, chunk in block.chunks:
            here = stands[at : at + len(chunk)]
            at += len(chunk)
            own = mine[here]
            if own.any():
                batch, present = self._read_part(chunk, own, number, leaves[number], columns)
                batches.append(batch)
                found.append(places[here[own][present]])
        return batches, np.concatenate(found)

    def _read_part(
        self, chunk: Chunk, own: Booleans, number: int, leaf: LeafJob, columns: Columns
    ) -> tuple[pa.RecordBatch, Booleans]:
        source = leaf.source
        assert source is not None
        positions = chunk.positions[own]
        part = Part(
            leaf=number,
            epoch=chunk.epoch,
            piece=chunk.piece,
            positions=positions.astype("<i8").tobytes(),
            sizes=chunk.sizes[own].astype("<i8").tobytes(),
        )
        piece = source.within(chunk.piece, int(positions.min()), int(positions.max()))
        physical = pa.schema([(old, columns.input_schema.field(new).type) for new, old in leaf.renames])
        batches = unless_bad(source.read(piece, schema=physical), source, counted(chunk.piece, []))
        read = source_part(part, leaf, columns, batches, Account())
        if read.rejects and not self.skip_bad_rows:
            bad = read.rejects[0]
            raise BadFile(
                Problem(
                    code="FDF363",
                    message=f"row {bad.position} of {chunk.piece.file.uri} (`{leaf.name}`) cannot be read: {bad.error}",
                    help="run the recipe, which sets such rows aside, and train on what it made; or pass "
                    '`bad_rows="skip"`',
                )
            )
        marks = {ID: read.rows.id_array(), SOURCE: pa.array(read.rows.sources)}
        data = read.rows.data
        arrays = [marks[n] if n in marks else data.column(n) for n in self.names]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema), read.present


def _counts(leaves: npt.NDArray[np.uint16]) -> list[tuple[int, int]]:
    return [(int(leaf), int(count)) for leaf, count in zip(*np.unique(leaves, return_counts=True), strict=True)]


def _batch(batches: list[pa.RecordBatch], order: Integers, schema: pa.Schema) -> pa.RecordBatch:
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=schema)
    table = pa.Table.from_batches(batches).take(pa.array(order)).combine_chunks()
    found = table.to_batches()
    return found[0] if found else pa.RecordBatch.from_pylist([], schema=schema)


def _copied(position: Position) -> dict[str, Any]:
    """Return a position as plain values of its own: the scheduler goes on changing its lists."""
    return {k: list(v) if isinstance(v, list) else v for k, v in position.to_json().items()}


def refuse_streams(plan: PlannedMixture) -> None:
    """Raise PlanError for what ranks cannot read in parts of their own: streams, and blocks that stay whole."""
    if plan.settings.granularity == "block":
        raise PlanError(
            Problem(
                code="FDF364",
                message="with `granularity: block` row groups stay whole, so ranks cannot read documents of their own",
                help="leave it out, or run the recipe and train on what it made: fdf.MixtureDataset(fdf.run(recipe))",
            )
        )
    for leaf in plan.leaves:
        if not leaf.source.indexed:
            raise PlanError(
                Problem(
                    code="FDF364",
                    message=f"`{leaf.name}` can only be streamed in order, so ranks cannot each read their own part",
                    help="run the recipe and train on what it made: fdf.MixtureDataset(fdf.run(recipe))",
                )
            )
