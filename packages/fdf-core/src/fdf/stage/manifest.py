"""The manifest: the JSON record that commits a stage, made from receipts alone.

Its deterministic part says what the dataset is; equal results have equal `id`s, whatever the path, run or machine.
Its observed part says how it came to be.
"""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from fdf.errors import StageFailed
from fdf.fingerprint import canonical_json, digest, sha256_hex
from fdf.models.devices import gpu_names
from fdf.operator import Evaluator
from fdf.plan.compile import FORMAT
from fdf.plan.encoding import encode_schema
from fdf.plan.job import StageJob
from fdf.plan.model import StagePlan
from fdf.recipe.redact import redact
from fdf.schema import OPERATOR_VERSIONS
from fdf.stage.budget import check_budget
from fdf.stage.receipt import COUNTS, Receipt
from fdf.stage.rows import kept_schema
from fdf.stage.shard_file import FileEntry
from fdf.stage.tally import Tally

_CONTRACT = frozenset({"fdf", "builtins", "abc", "typing"})
"""Where bases come from that are no operator's own."""

DETERMINISTIC = (
    "format",
    "id",
    "pipeline",
    "stage",
    "fingerprint",
    "seed",
    "operators",
    "counts",
    "outputs",
    "dropped",
    "quarantine",
    "schema",
    "mixture",
    "evaluations",
)


def fold(stage: StagePlan, receipts: Sequence[Receipt]) -> tuple[dict[str, int], dict[str, Tally]]:
    """Add up the receipts of a stage, in input order."""
    counts = dict.fromkeys(COUNTS, 0)
    tallies = {step.id: Tally() for step in stage.job.steps}
    operators = {step.id: step.use.operator for step in stage.job.steps}
    for receipt in receipts:
        for name, value in receipt.counts.items():
            counts[name] += value
        for operator_id, tally in receipt.tallies.items():
            tallies[operator_id].add(tally, operators[operator_id])
    return counts, tallies


def evaluations(stage: StagePlan, tallies: dict[str, Tally]) -> tuple[dict[str, Any], list[str]]:
    """Return each evaluator's report, and the gates that failed."""
    reports: dict[str, Any] = {}
    failed: list[str] = []
    for step in stage.job.steps:
        operator = step.use.operator
        if not isinstance(operator, Evaluator):
            continue
        state = tallies[step.id].state
        report = reports[step.id] = _report(step.id, operator, state) if state is not None else {}
        for gate in step.use.require:
            value = _metric(report, gate.metric)
            if not gate.holds(value):
                failed.append(f"{step.id}: {gate} (is {value})")
    return reports, failed


def _report(operator_id: str, operator: Evaluator, state: bytes) -> dict[str, Any]:
    try:
        report = operator.report(state)
        canonical_json(report)
    except Exception as error:
        raise StageFailed(
            f"`{operator_id}` cannot report on the dataset: {type(error).__name__}: {error}",
            help="report() has to return a dict of JSON values (no NaN or infinity); correct it and run again:"
            " the splits are done",
        ) from error
    return report


def _metric(report: Any, path: str) -> float | None:
    """Look up a dotted path; a key may itself hold dots."""
    if not isinstance(report, dict):
        return None
    if path in report:
        value = report[path]
        return float(value) if isinstance(value, (int, float)) else None
    for key, inner in report.items():
        if path.startswith(f"{key}."):
            found = _metric(inner, path[len(key) + 1 :])
            if found is not None:
                return found
    return None


def build(
    stage: StagePlan,
    job: StageJob,
    receipts: Sequence[Receipt],
    outputs: Sequence[FileEntry],
    observed: dict[str, Any],
    *,
    mixture: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the manifest. `outputs` are the receipts' shards, or the one empty shard of a stage that keeps nothing."""
    counts, tallies = fold(stage, receipts)
    check_budget(stage, receipts, counts, tallies)
    reports, gates_failed = evaluations(stage, tallies)
    fields = list(kept_schema(job))
    schema = [{"name": f.name, "type": str(f.type)} for f in fields]
    if job.provenance == "full":
        schema.append({"name": OPERATOR_VERSIONS, "type": "string"})
    operators = [_operator(step, tallies[step.id]) for step in job.steps]
    deterministic: dict[str, Any] = {
        "format": FORMAT,
        "id": "",
        "pipeline": job.pipeline,
        "stage": job.stage,
        "fingerprint": stage.fingerprint,
        "seed": job.seed,
        "operators": operators,
        "counts": counts,
        "outputs": [f.to_json() for f in outputs],
        "dropped": [f.to_json() for r in receipts for f in r.dropped],
        "quarantine": [f.to_json() for r in receipts for f in r.quarantine],
        "schema": schema,
        "mixture": mixture,
        "evaluations": reports,
    }
    deterministic["id"] = identity(deterministic)
    seconds = {operator_id: round(t.seconds, 6) for operator_id, t in tallies.items()}
    retries = sum(r.attempts - 1 for r in receipts)
    return {
        **deterministic,
        "gates_failed": gates_failed,
        "input_schema": encode_schema(stage.physical_schema) if stage.physical_schema is not None else None,
        "source": dict(job.source.pins()) if job.source is not None else None,
        "inputs": [i for r in receipts for i in r.inputs],
        "seconds": seconds,
        "retries": retries,
        "environment": environment(stage),
        "operator_sources": operator_sources(stage),
        **observed,
    }


def identity(manifest: Mapping[str, Any]) -> str:
    """Return the `id` that a manifest must have: equal for equal results, whatever the path, run or machine."""
    return digest(
        {
            **{key: manifest[key] for key in ("format", "fingerprint", "counts", "evaluations", "schema")},
            "mixture": _without_events(manifest["mixture"]),
            "outputs": [[f["path"], f["rows"], f["sha256"]] for f in manifest["outputs"]],
            "operators": [{k: o[k] for k in ("id", "rows_in", "rows_out", "dropped")} for o in manifest["operators"]],
        }
    )


def _without_events(mixture: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if mixture is None else {k: v for k, v in mixture.items() if k not in ("events", "track")}


def _operator(step: Any, tally: Tally) -> dict[str, Any]:
    use = step.use
    return {
        "id": use.id,
        "kind": use.kind,
        "op": use.op,
        "version": use.operator.version,
        "params": redact(use.operator.params()),
        **({"assets": dict(step.assets)} if step.assets else {}),
        "distribution": f"{use.distribution} {use.distribution_version}".strip(),
        "rows_in": tally.rows_in,
        "rows_out": tally.rows_out,
        "rows_dropped": tally.dropped.total(),
        "dropped": dict(sorted(tally.dropped.items())),
        "rows_generated": tally.generated,
        "rows_expanded": tally.expanded,
        "rows_quarantined": tally.quarantined,
        "errors": tally.errors,
        "histograms": {k: h.to_json() for k, h in sorted(tally.histograms.items())},
    }


def environment(stage: StagePlan) -> dict[str, Any]:
    """Return what the results were made with."""
    names = {"fdf-core", "pyarrow", "polars", "numpy", *(s.use.distribution for s in stage.job.steps)}
    names.update(name for s in stage.job.steps for name in getattr(s.use.operator, "libraries", ()))
    distributions = {}
    for name in sorted(n for n in names if n):
        try:
            distributions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "distributions": distributions,
        "devices": gpu_names(),
    }


def operator_sources(stage: StagePlan) -> dict[str, str]:
    """Return a digest of each operator class's source, to notice a change that its version does not tell.

    With its bases, less those of FDF's own contract: what operators share is theirs too.
    """
    found = {}
    for step in stage.job.steps:
        own, *bases = type(step.use.operator).__mro__
        kinds = [own, *(b for b in bases if b.__module__.partition(".")[0] not in _CONTRACT)]
        try:
            found[step.id] = sha256_hex("".join(map(inspect.getsource, kinds)))[:16]
        except (OSError, TypeError):
            # Made at a prompt or by a decorator: there is no source to look at.
            continue
    return found


def remarks(manifest: Mapping[str, Any]) -> list[str]:
    """Return what a person must not miss in a committed stage: files left out, and that nothing at all came through."""
    found = []
    skipped = [i for i in manifest["inputs"] if i.get("error")]
    if skipped:
        first = skipped[0]
        found.append(
            f"{len(skipped)} of {len(manifest['inputs'])} inputs could not be read (to their end) and were skipped, "
            f"such as {first['uri']}: {first['error']}"
        )
    counts = manifest["counts"]
    if counts["rows_in"] and counts["rows_quarantined"] == counts["rows_in"]:
        found.append(
            f"all {counts['rows_in']} rows of stage `{manifest['stage']}` failed: they are in quarantine, which "
            "`min_errors` allows for so few"
        )
    mixture = manifest.get("mixture") or {}
    if mixture.get("total") and mixture.get("units", 0) < mixture["total"]:
        last = mixture["events"][-1] if mixture.get("events") else {}
        cause = f": `{last['name']}` ended by its {last['cause']}" if last.get("name") else ""
        found.append(f"the mixture stopped at {mixture['units']:,} of {mixture['total']:,} {mixture['unit']}{cause}")
    extra = sorted({name for i in manifest["inputs"] for name in i.get("extra_columns") or ()})
    if extra:
        found.append(f"columns that the first files do not have were left out: {', '.join(extra)}")
    return found


def manifest_files(manifest: dict[str, Any]) -> set[str]:
    """Return every file that a manifest names."""
    return {f["path"] for part in ("outputs", "dropped", "quarantine") for f in manifest[part]}
