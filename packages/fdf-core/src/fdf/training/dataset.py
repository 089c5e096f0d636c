"""The PyTorch dataset over what FDF made, or over a mixture that is drawn as it is read. Works without PyTorch too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf.plan.mixing import plan_mixture
from fdf.recipe.model import MixtureUse, Recipe
from fdf.recipe.pipeline import Pipeline
from fdf.schema import ID, SOURCE
from fdf.training.consumers import consumer_here, rank_of
from fdf.training.finished import Finished, open_finished, wanted_columns
from fdf.training.lots import Lot, Pass
from fdf.training.online import Online, refuse_streams
from fdf.training.state import State
from fdf.training.striping import Law, Share
from fdf.training.tails import Tail, stream

if TYPE_CHECKING:
    # PyTorch's class adds no method that the type checker should know, and may be absent.
    class _Iterable:
        """Stands for `torch.utils.data.IterableDataset`."""
else:
    try:
        from torch.utils.data import IterableDataset as _Iterable
    except ModuleNotFoundError:
        _Iterable = object

Format: TypeAlias = Literal["python", "arrow", "numpy"]
_AT_ONCE = 512
"""Rows that become Python objects together."""


@runtime_checkable
class FinishedRun(Protocol):
    """A run's result, as far as its dataset is read."""

    @property
    def path(self) -> str: ...
    @property
    def manifest(self) -> dict[str, Any]: ...


Readable: TypeAlias = FinishedRun | Recipe | Pipeline | Mapping[str, Any] | str | os.PathLike[str]


class MixtureDataset(_Iterable):
    """Hands out each document once per pass, to one of all ranks and workers; the state is a place among them.

    `of` is a finished run, the directory or URL of a stage or output, or a recipe whose input is a mixture (a path that
    ends in .yaml, a dict, a `Pipeline`): then nothing is written, and documents are read as the schedule names them.

    `columns`: what to read, by default the user's columns with `__fdf__/id` and `__fdf__/source`.
    `epochs`: passes over the documents, None for no end; each pass has an order of its own.
    `tail`: where the documents are not a multiple of the ranks, `keep` hands each out once, so that some ranks get one
    more; `drop` leaves the last few out; `pad` fills up with the first of the next pass.
    `batch_size`: hand out batches instead of documents, for `DataLoader(batch_size=None)`. `format` is `python` (a dict
    per document; of lists, per batch), `numpy` (a dict of arrays per batch) or `arrow` (a RecordBatch).
    `turn`: documents that a DataLoader's worker takes before it is the next one's turn; give it the `batch_size` of the
    loader, and a rank's order does not depend on its number of workers. With a `batch_size` of its own that is it.
    `rank`, `world_size`: by default torch.distributed's, else RANK and WORLD_SIZE, else 0 and 1.
    `seed`, `window`: of the keyed permutation; by default the dataset's seed, and 8,192 documents or 128 MiB.
    `bad_rows`: what to do with a row of a mixture that cannot be read. `skip` leaves it out.

    >>> import fdf, pyarrow as pa, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> rows = fdf.Pipeline("numbers").read(pa.table({"n": [0, 1, 2, 3, 4]})).write("parquet", path=folder)
    >>> result = fdf.run(rows, runner="serial")
    >>> ranks = [fdf.MixtureDataset(result, columns=["n"], rank=r, world_size=2) for r in (0, 1)]
    >>> sorted(document["n"] for rank in ranks for document in rank)
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        of: Readable,
        *,
        columns: Sequence[str] | None = None,
        epochs: int | None = 1,
        tail: Tail = "keep",
        batch_size: int | None = None,
        format: Format = "python",  # noqa: A002 (the word that `datasets` users know)
        turn: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        seed: int | None = None,
        window: int | None = None,
        bad_rows: Literal["error", "skip"] = "error",
    ) -> None:
        _check_options(
            tail=tail, format=format, bad_rows=bad_rows, batch_size=batch_size, turn=turn, window=window, epochs=epochs
        )
        self._corpus = _opened(of, columns, skip_bad_rows=bad_rows == "skip")
        self._law = Law(
            seed=self._corpus.seed if seed is None else seed,
            window=self._corpus.window if window is None else window,
        )
        self._epochs, self._tail = epochs, tail
        self._batch_size, self._format = batch_size, format
        self._turn = batch_size or turn or 1
        self._rank = rank_of(rank, world_size) if rank is not None or world_size is not None else None
        self._start = State()
        self._at: tuple[Share, int | None, Pass] | None = None
        self._drawn: tuple[int, int] | None = None
        self._located: Pass | None = None

    @property
    def plan_hash(self) -> str:
        """What names the documents and their order: the same on all ranks, or they read different things."""
        return self._corpus.plan_hash

    @property
    def documents(self) -> int | None:
        """The documents of one pass, over all ranks; None for a mixture that is drawn as it is read."""
        return self._corpus.documents

    @property
    def schema(self) -> pa.Schema:
        """The columns of what is handed out."""
        return self._corpus.schema

    def __iter__(self) -> Iterator[Any]:
        share, state = self._share(), self._start
        self._at = (share, None, state.within)
        lots = self._noted(stream(self._corpus, self._law, state, share, epochs=self._epochs, tail=self._tail))
        yield from self._documents(lots, share) if self._batch_size is None else self._batches(lots, share)
        if self._drawn is not None:
            # Ranks that got fewer documents at the end stand where the others do.
            end, epoch = self._drawn
            self._at = (Share(consumer=share.consumer, origin=end, start=end), None, Pass(epoch=epoch, began=end))

    def state_dict(self) -> dict[str, Any]:
        """Return where this copy of the dataset stands, as plain JSON values: some numbers per source.

        Without loader workers it is the same on every rank that has taken as many documents, and holds at another
        world size. The copy in the main process does not see what loader workers take: use `state_at` there, or
        torchdata's `StatefulDataLoader`, which asks the workers.
        """
        if self._at is None:
            return self._start.to_json(self.plan_hash, self._law)
        share, place, within = self._at
        state = State(position=share.position(place), within=within, first_epoch=self._start.first_epoch)
        if share.consumer.workers > 1:
            state = State(
                position=state.position,
                within=within,
                first_epoch=state.first_epoch,
                taken_by=share.consumer,
                origin=share.origin,
            )
        return state.to_json(self.plan_hash, self._law)

    def state_at(self, documents_per_rank: int) -> dict[str, Any]:
        """Return where all ranks stand once each has taken so many documents since the loaded state, or the start.

        It holds for every number of ranks and loader workers, and reads no document: a mixture's schedule is drawn up
        to there. With `turn` (or `batch_size`) equal to the loader's batch, any number of whole batches is exact.
        """
        if documents_per_rank < 0:
            raise PlanError(f"`documents_per_rank` is {documents_per_rank}", help="give how many each rank has taken")
        start = self._start
        if start.taken_by is not None:
            start.check_taken_by(self._share().consumer)
        position = start.position + documents_per_rank * self._ranks()[1]
        # What was drawn for an earlier checkpoint is not drawn again.
        known = self._located if self._located is not None and self._located.reached <= position else start.within
        within = self._located = self._corpus.locate(known, position, self._law)
        return State(position=position, within=within, first_epoch=start.first_epoch).to_json(self.plan_hash, self._law)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin where a state stands, whatever the number of ranks and workers then. Raises PlanError for a state of
        another plan, or of one worker that is given to another."""
        self._start = State.from_json(state, self.plan_hash, self._law, where=self._corpus.where)
        self._at = self._located = None

    def set_epoch(self, epoch: int) -> None:
        """Begin with pass `epoch`, which has an order of its own; a loaded state in that pass keeps its position."""
        if epoch < 0:
            raise PlanError(f"epoch {epoch} cannot be: they count from 0", help="give 0 or more")
        if self._start.within.epoch != epoch:
            self._start = State(within=Pass(epoch=epoch))
        self._start = State(**{**vars(self._start), "first_epoch": epoch})
        self._at = self._located = None

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker knows nothing of torch.distributed, so it is told its rank.
        return {**vars(self), "_rank": self._ranks(), "_at": None, "_drawn": None}

    def _ranks(self) -> tuple[int, int]:
        return self._rank or rank_of(None, None)

    def _share(self) -> Share:
        rank, ranks = self._ranks()
        consumer = consumer_here(rank, ranks, turn=self._turn)
        start = self._start
        start.check_taken_by(consumer)
        origin = start.position if start.origin is None else start.origin
        return Share(consumer=consumer, origin=origin, start=start.position)

    def _noted(self, lots: Iterator[Lot]) -> Iterator[Lot]:
        self._drawn = None
        for lot in lots:
            self._drawn = lot.end, lot.within.epoch + 1
            yield lot

    def _documents(self, lots: Iterator[Lot], share: Share) -> Iterator[dict[str, Any]]:
        for lot in lots:
            for start in range(0, lot.rows.num_rows, _AT_ONCE):
                documents = lot.rows.slice(start, _AT_ONCE).to_pylist()
                for place, document in zip(lot.places[start : start + _AT_ONCE].tolist(), documents, strict=True):
                    self._at = (share, place, lot.within)
                    yield document

    def _batches(self, lots: Iterator[Lot], share: Share) -> Iterator[Any]:
        size = self._batch_size
        assert size is not None
        held: list[pa.RecordBatch] = []
        count = 0
        place, within = None, None
        for lot in lots:
            start, rows = 0, lot.rows.num_rows
            while count + rows - start >= size:
                stop = start + size - count
                held.append(lot.rows.slice(start, stop - start))
                self._at = (share, int(lot.places[stop - 1]), lot.within)
                yield _formatted(held, self._format)
                held, count, start = [], 0, stop
            if start < rows:
                held.append(lot.rows.slice(start))
                count += rows - start
                place, within = int(lot.places[-1]), lot.within
        if held and within is not None:
            self._at = (share, place, within)
            yield _formatted(held, self._format)


def _formatted(parts: list[pa.RecordBatch], form: Format) -> Any:
    batch = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
    if form == "arrow":
        return batch
    if form == "numpy":
        return {n: np.asarray(batch.column(n).to_numpy(zero_copy_only=False)) for n in batch.schema.names}
    return batch.to_pydict()


def _opened(of: Readable, columns: Sequence[str] | None, *, skip_bad_rows: bool) -> Finished | Online:
    if isinstance(of, FinishedRun):
        return open_finished(of.path, columns=columns, manifest=of.manifest)
    if isinstance(of, (str, os.PathLike)) and not str(of).endswith((".yaml", ".yml")):
        return open_finished(str(of), columns=columns)
    recipe = _recipe(of)
    if not isinstance(recipe.input, MixtureUse):
        raise PlanError(
            Problem(
                code="FDF365",
                message=f"the input of `{recipe.name}` is no mixture, so there is nothing to draw",
                help="run it and train on what it made: fdf.MixtureDataset(fdf.run(recipe))",
            )
        )
    working = [s.name for s in recipe.stages if s.operators or s.mixture is not None]
    if working:
        raise PlanError(
            Problem(
                code="FDF365",
                message=f"stage `{working[0]}` of `{recipe.name}` changes rows, which is not done while training reads",
                help="run the recipe and train on what it made: fdf.MixtureDataset(fdf.run(recipe))",
            )
        )
    plan = plan_mixture(recipe.input, seed=recipe.seed, pinned=None)
    refuse_streams(plan)
    assert plan.schema is not None
    there = pa.schema([*plan.schema, pa.field(ID, pa.string()), pa.field(SOURCE, pa.string())])
    names = wanted_columns(there, columns, where=f"the mixture of `{recipe.name}`")
    return Online(name=recipe.name, plan=plan, names=tuple(names), skip_bad_rows=skip_bad_rows)


def _recipe(of: Any) -> Recipe:
    from fdf.recipe import load

    if isinstance(of, Recipe):
        return of
    if isinstance(of, Pipeline):
        return of.recipe(idle=True)
    return load(dict(of) if isinstance(of, Mapping) else Path(of), idle=True)


def _check_options(
    *,
    tail: str,
    format: str,  # noqa: A002 (as above)
    bad_rows: str,
    batch_size: int | None,
    turn: int | None,
    window: int | None,
    epochs: int | None,
) -> None:
    for name, value, known in (
        ("tail", tail, get_args(Tail)),
        ("format", format, get_args(Format)),
        ("bad_rows", bad_rows, ("error", "skip")),
    ):
        if value not in known:
            raise PlanError(f"`{name}` is {value!r}", help=f"one of: {', '.join(known)}")
    for name, number in (("batch_size", batch_size), ("turn", turn), ("window", window), ("epochs", epochs)):
        if number is not None and number < 1:
            raise PlanError(f"`{name}` is {number}", help="give 1 or more, or leave it out")
    if format != "python" and batch_size is None:
        raise PlanError(f"`format={format!r}` hands out batches", help="give a `batch_size`")
    if batch_size is not None and turn not in (None, batch_size):
        raise PlanError(f"`turn` is {turn}, and a worker hands out batches of {batch_size}", help="leave `turn` out")
