"""Runs a chain of operators over batches of rows: what is kept flows on, what is dropped or fails is set aside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Generator as Yields
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import OperatorMisbehaved
from fdf.histogram import observe
from fdf.operator import Columns, Evaluator, Expansion, Filter, Generator, Partial, Refiner, Score
from fdf.plan.job import Step
from fdf.sharing import sharing
from fdf.stage.ahead import Ahead
from fdf.stage.attempts import Caller, Failure
from fdf.stage.placing import as_batch, changed_rows, passed_on, placed, view, with_missing
from fdf.stage.rows import Booleans, Integers, Rows, concat_batches, concat_rows
from fdf.stage.tally import Tally
from fdf.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Rows that a filter dropped, each with its reason and evidence (JSON).

    Of most of them no more is written than what `rows` holds, which have no columns: those stay in the batch that they
    were judged in (`judged`, at the rows `places`), and are copied for the rows that are asked for.
    """

    rows: Rows
    judged: pa.RecordBatch
    places: Integers
    operator_id: str
    reasons: pa.Array
    evidence: pa.Array

    def whole(self, chosen: Integers | None = None) -> Rows:
        """Return the rows at these indices, or all, with their columns."""
        rows, places = (self.rows, self.places) if chosen is None else (self.rows.take(chosen), self.places[chosen])
        return replace(rows, data=self.judged.take(pa.array(places)))


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """Rows that failed in `failed_in` (an operator id, or `read`), each with its error and, unread, its bytes."""

    rows: Rows
    failed_in: str
    errors: pa.Array
    raw: pa.Array | None = None


@dataclass(kw_only=True)
class Parcel:
    """One batch on its way through a stage, with everything that left it. `sequence` counts within the split."""

    sequence: int
    rows: Rows
    rows_read: int
    bytes_read: int
    dropped: list[Dropped] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=dict)


def run_segment(
    steps: Sequence[Step],
    parcels: Iterable[Parcel],
    *,
    caller: Caller,
    ahead: Ahead | None = None,
) -> Yields[Parcel, None, None]:
    """Run operators, which are set up, over parcels; the same parcels come out, in the same order.

    With `ahead` the next parcels are on their way while one waits for a model in another process.
    """

    def run(parcel: Parcel) -> Parcel:
        return run_parcel(steps, parcel, caller)

    if ahead is None:
        yield from map(run, parcels)
    else:
        yield from ahead.baton.in_order(run, parcels, most=ahead.most, room=ahead.room, size=lambda p: p.bytes_read)


def run_parcel(steps: Sequence[Step], parcel: Parcel, caller: Caller) -> Parcel:
    """Run operators, which are set up, over one parcel; return the same parcel, with what became of its rows."""
    with sharing():
        for step in steps:
            _run_step(step, parcel, caller)
    caller.leave()
    return parcel


def _run_step(step: Step, parcel: Parcel, caller: Caller) -> None:
    tally = parcel.tallies.setdefault(step.id, Tally())
    started = time.perf_counter()
    tally.rows_in += parcel.rows.count
    if parcel.rows.count:
        parcel.rows = _STEPS[step.use.kind](step, parcel, tally, caller)
    else:
        parcel.rows = with_missing(parcel.rows, step)
    tally.rows_out += parcel.rows.count
    tally.seconds += time.perf_counter() - started


def _score(step: Step, parcel: Parcel, tally: Tally, caller: Caller) -> Rows:
    operator: Score = step.use.operator  # type: ignore[assignment]
    rows = _columns_step(step, parcel, tally, caller, operator.score)
    named = dict(step.scores)
    scores = dict(rows.scores)
    for name, column in named.items():
        values = rows.data.column(column)
        tally.observe(column, observe(values))
        scores[name] = values if values.type == pa.float32() else pc.cast(values, pa.float32(), safe=False)
    return replace(rows, scores=scores) if named else rows


def _evaluate(step: Step, parcel: Parcel, tally: Tally, caller: Caller) -> Rows:
    operator: Evaluator = step.use.operator  # type: ignore[assignment]

    def verb(batch: pa.RecordBatch) -> Columns:
        columns = operator.evaluate(batch)
        tally.fold(operator, operator.state(batch))
        return columns

    return _columns_step(step, parcel, tally, caller, verb)


def _refine(step: Step, parcel: Parcel, tally: Tally, caller: Caller) -> Rows:
    operator: Refiner = step.use.operator  # type: ignore[assignment]

    def mark(before: Rows, after: Rows) -> Rows:
        changed = changed_rows(step, before.data, after.data)
        return replace(after, refined={**after.refined, step.id: changed}) if changed.any() else after

    return _columns_step(step, parcel, tally, caller, operator.refine, settle=mark)


def _filter(step: Step, parcel: Parcel, tally: Tally, caller: Caller) -> Rows:
    operator: Filter = step.use.operator  # type: ignore[assignment]
    kept: list[Rows] = []
    for outcome in caller.call(
        step.id, parcel.rows, lambda r: _judge(step, operator, r), batch_size=step.use.batch_size
    ):
        if isinstance(outcome, Failure):
            survivor = _fail(step, outcome.rows, pa.array([outcome.error], pa.string()), parcel, tally)
            if survivor is not None:
                kept.append(survivor)
            continue
        rows = outcome.rows
        indices, verdict = outcome.result
        judged = np.flatnonzero(verdict.codes)
        if not len(judged):
            kept.append(rows)
            continue
        codes = verdict.codes[judged]
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
            tally.dropped[verdict.reasons[int(code) - 1]] += int(count)
        gone = judged if indices is None else indices[judged]
        parcel.dropped.append(
            Dropped(
                rows=replace(rows, data=rows.data.select([])).take(gone),
                judged=rows.data,
                places=gone,
                operator_id=step.id,
                reasons=pa.array(verdict.reasons, pa.string()).take(pa.array(codes.astype(np.int64) - 1)),
                evidence=verdict.evidence(judged),
            )
        )
        stays = np.ones(rows.count, dtype=bool)
        stays[gone] = False
        kept.append(rows.select(stays))
    return concat_rows(kept) if kept else parcel.rows.slice(0, 0)


def _generate(step: Step, parcel: Parcel, tally: Tally, caller: Caller) -> Rows:
    operator: Generator = step.use.operator  # type: ignore[assignment]
    if operator.expands:
        return _expand(step, parcel, tally, caller, operator)

    def verb(batch: pa.RecordBatch) -> Columns:
        made = operator.generate(batch)
        if isinstance(made, Expansion):
            raise OperatorMisbehaved(f"`{step.id}` returned an Expansion but its class does not say `expands = True`")
        return made

    rows = _columns_step(step, parcel, tally, caller, verb)
    made = np.zeros(rows.count, dtype=bool)
    for name, kind in step.writes:
        if kind is not None:
            made |= pc.is_valid(rows.data.column(name)).to_numpy(zero_copy_only=False)
    return replace(rows, generated={**rows.generated, step.id: made})


def _expand(step: Step, parcel: Parcel, tally: Tally, caller: Caller, operator: Generator) -> Rows:
    parts: list[Rows] = []
    for outcome in caller.call(
        step.id, parcel.rows, lambda r: _expanded(step, operator, r), batch_size=step.use.batch_size
    ):
        if isinstance(outcome, Failure):
            survivor = _fail(step, outcome.rows, pa.array([outcome.error], pa.string()), parcel, tally)
            if survivor is not None:
                parts.append(passed_on(survivor, step))
            continue
        rows, generated, expanded = outcome.result
        tally.generated += generated
        tally.expanded += expanded
        parts.append(rows)
    return concat_rows(parts) if parts else with_missing(parcel.rows.slice(0, 0), step)


_STEPS: dict[str, Callable[[Step, Parcel, Tally, Caller], Rows]] = {
    "score": _score,
    "evaluator": _evaluate,
    "refiner": _refine,
    "filter": _filter,
    "generator": _generate,
}


def _columns_step(
    step: Step,
    parcel: Parcel,
    tally: Tally,
    caller: Caller,
    verb: Callable[[pa.RecordBatch], Columns],
    *,
    settle: Callable[[Rows, Rows], Rows] | None = None,
) -> Rows:
    """Run a verb that returns columns; return the rows with these columns in place.

    `settle` gets the rows before and after a successful call, and may note something on the latter.
    """
    parts: list[Rows] = []
    stays: list[Booleans] = []
    outcomes = caller.call(step.id, parcel.rows, lambda r: _transformed(step, r, verb), batch_size=step.use.batch_size)
    # Calls that are on their way end here, whatever happens.
    with closing(outcomes):
        for outcome in outcomes:
            failed = np.ones(1, dtype=bool)
            if isinstance(outcome, Failure):
                errors = pa.array([outcome.error], pa.string())
            else:
                data, errors = outcome.result
                failed = np.zeros(outcome.rows.count, dtype=bool) if errors is None else _valid(errors)
                if not failed.all():
                    good = ~failed
                    done = replace(outcome.rows.select(good), data=data if good.all() else data.filter(pa.array(good)))
                    parts.append(settle(outcome.rows.select(good), done) if settle else done)
            if failed.any():
                survivors = _fail(step, outcome.rows.select(failed), errors.drop_null(), parcel, tally)
                if survivors is not None:
                    parts.append(passed_on(survivors, step))
                    if not failed.all():
                        # Back to the order in which they came.
                        both = concat_rows([parts.pop(-2), parts.pop()])
                        parts.append(both.take(np.argsort(np.argsort(failed, kind="stable"), kind="stable")))
                    failed = np.zeros(len(failed), dtype=bool)
            stays.append(~failed)
    if not parts:
        return with_missing(parcel.rows.slice(0, 0), step)
    return _rejoined(step, parcel.rows.select(np.concatenate(stays)), parts)


def _rejoined(step: Step, before: Rows, parts: list[Rows]) -> Rows:
    """Return the parts as one. What the operator did not write is still the columns of `before`, which need no copy
    and of which more may be known (`fdf.sharing`)."""
    if len(parts) == 1:
        return parts[0]
    written = [name for name, kind in step.writes if kind is not None]
    joined = concat_rows([replace(part, data=part.data.select(written)) for part in parts])
    if not step.schema_out.names:
        return replace(joined, data=before.data.select([]))
    columns = {**dict(zip(before.data.schema.names, before.data.columns, strict=True)),
               **dict(zip(written, joined.data.columns, strict=True))}  # fmt: skip
    data = pa.RecordBatch.from_arrays([columns[n] for n in step.schema_out.names], schema=step.schema_out)
    return replace(joined, data=data)


def _transformed(
    step: Step, rows: Rows, verb: Callable[[pa.RecordBatch], Columns]
) -> tuple[pa.RecordBatch, pa.Array | None]:
    """Run a verb on the rows that `when` selects; the others keep what they have, or null. Return the rows, and an
    error for each row that the verb says has failed."""
    mask = _selected(step, rows)
    if mask is None or mask.all():
        columns = verb(view(step, rows))
        return placed(step, rows.data, columns), _errors(step, columns, rows.count)
    if not mask.any():
        return with_missing(rows, step).data, None
    chosen = rows.select(mask)
    columns = verb(view(step, chosen))
    done = placed(step, chosen.data, columns)
    errors = _errors(step, columns, chosen.count)
    left = with_missing(rows.select(~mask), step).data
    back = np.empty(rows.count, dtype=np.int64)
    back[np.flatnonzero(mask)] = np.arange(chosen.count)
    back[np.flatnonzero(~mask)] = chosen.count + np.arange(rows.count - chosen.count)
    indices = pa.array(back)
    if errors is not None:
        errors = pa.concat_arrays([errors, pa.nulls(rows.count - chosen.count, pa.string())]).take(indices)
    return concat_batches([done, left]).take(indices), errors


def _errors(step: Step, columns: Columns, rows: int) -> pa.Array | None:
    """Return which rows the operator says have failed, and why; None where none did."""
    if not isinstance(columns, Partial):
        return None
    errors = pc.cast(columns.errors, pa.string())
    if len(errors) != rows:
        raise OperatorMisbehaved(f"`{step.id}` returned {len(errors)} errors for {rows} rows")
    return errors if errors.null_count < rows else None


def _valid(values: pa.Array) -> Booleans:
    mask: Booleans = values.is_valid().to_numpy(zero_copy_only=False)
    return mask


def _judge(step: Step, operator: Filter, rows: Rows) -> tuple[Integers | None, Verdict]:
    """Return the verdict on the rows that `when` selects, and which rows these are (None: all)."""
    mask = _selected(step, rows)
    if mask is None or mask.all():
        chosen, indices = rows, None
    elif not mask.any():
        return None, Verdict.keep_all(rows.count)
    else:
        chosen, indices = rows.select(mask), np.flatnonzero(mask)
    verdict = operator.verdict(view(step, chosen))
    if len(verdict.codes) != chosen.count:
        raise OperatorMisbehaved(f"`{step.id}` judged {len(verdict.codes)} rows of {chosen.count}")
    return indices, verdict


def _selected(step: Step, rows: Rows) -> Booleans | None:
    """Return which rows `when` selects. It is row-wise, so any part of a batch may be asked by itself."""
    if step.when is None:
        return None
    mask: Booleans = step.when.mask(rows.data).to_numpy(zero_copy_only=False)
    return mask


def _fail(step: Step, rows: Rows, errors: pa.Array, parcel: Parcel, tally: Tally) -> Rows | None:
    """Account for failed rows: stop, let them pass, or set them aside."""
    if step.use.on_error == "fail":
        row = rows.id_array()[0].as_py()
        raise OperatorMisbehaved(
            f"`{step.id}` failed on row {row}: {errors[0].as_py()}", help="`on_error: quarantine` sets such rows aside"
        )
    tally.errors += rows.count
    tally.causes.update(error[:200] for error in errors.to_pylist())
    if step.use.on_error == "null":
        return rows
    tally.quarantined += rows.count
    parcel.quarantined.append(Quarantined(rows=rows, failed_in=step.id, errors=errors))
    return None


def _expanded(step: Step, operator: Generator, rows: Rows) -> tuple[Rows, int, int]:
    """Return the rows after an expansion, in the order of their parents, with counts of new and replaced rows."""
    mask = _selected(step, rows)
    mask = np.ones(rows.count, dtype=bool) if mask is None else mask
    if not mask.any():
        return with_missing(rows, step), 0, 0
    chosen = rows.select(mask)
    made = operator.generate(view(step, chosen))
    if not isinstance(made, Expansion):
        raise OperatorMisbehaved(f"`{step.id}` says `expands = True` but returned columns, not an Expansion")
    parent: Integers = pc.cast(made.parent, pa.int64()).to_numpy(zero_copy_only=False)
    if len(parent) != made.batch.num_rows or (len(parent) and not 0 <= parent.min() <= parent.max() < chosen.count):
        raise OperatorMisbehaved(f"`{step.id}` named parents that do not fit its {made.batch.num_rows} new rows")
    order = np.argsort(parent, kind="stable")
    parent, batch = parent[order], made.batch.take(pa.array(order))
    number = np.arange(len(parent)) - np.searchsorted(parent, parent)
    children = chosen.with_ids().take(parent)
    ids = pc.binary_join_element_wise(children.id_array(), step.id, pc.cast(pa.array(number), pa.string()), "/")
    inherited = {n: children.data.column(n) for n in children.data.schema.names if n not in batch.schema.names}
    columns = placed(step, as_batch(children, inherited), {n: batch.column(n) for n in batch.schema.names})
    generated = {**children.generated, step.id: np.ones(len(parent), dtype=bool)}
    children = replace(children, data=columns, ids=ids, generated=generated)
    stays = np.ones(rows.count, dtype=bool) if made.keep_parent else ~mask
    parts = [with_missing(rows.with_ids().select(stays), step), children]
    rank = np.concatenate([np.flatnonzero(stays), np.flatnonzero(mask)[parent]])
    replaced = 0 if made.keep_parent else chosen.count
    return concat_rows(parts).take(np.argsort(rank, kind="stable")), len(parent), replaced
