"""The JSON Schemas (draft-07) of what FDF writes: manifests, receipts and events. `fdf schema` prints them.

In the manifest's schema each top-level key says in `x-fdf-part` whether it belongs to what the dataset is
(`deterministic`) or to how it came about (`observed`).
"""

from __future__ import annotations

from typing import Any, get_args

from fdf.stage.events import EventKind
from fdf.stage.manifest import DETERMINISTIC
from fdf.stage.receipt import COUNTS

Schema = dict[str, Any]

_DRAFT = "http://json-schema.org/draft-07/schema#"
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEXT: Schema = {"type": "string"}
_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_TIME: Schema = {"type": "string", "format": "date-time"}


def _object(description: str = "", *, optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    said: Schema = {"description": description} if description else {}
    return {
        **said,
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _with(schema: Schema, properties: dict[str, Schema]) -> Schema:
    """Return an object's schema with further required properties."""
    names = [*schema["required"], *properties]
    return {**schema, "properties": {**schema["properties"], **properties}, "required": names}


def _list(items: Schema, description: str = "") -> Schema:
    return {**({"description": description} if description else {}), "type": "array", "items": items}


def _map(values: Schema, description: str = "") -> Schema:
    said: Schema = {"description": description} if description else {}
    return {**said, "type": "object", "additionalProperties": values}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


_COUNTS = _with(
    _object("Rows by what became of them: rows_in + rows_generated is the sum of all others."),
    dict.fromkeys(COUNTS, _COUNT),
)
_FILE = _object(
    path=_said(_TEXT, "Relative to the stage."),
    rows=_COUNT,
    bytes=_COUNT,
    sha256=_SHA256,
    split=_said(_TEXT, "The location of the split that it came from."),
)
_INPUT = _object(
    uri=_TEXT,
    version=_said(_TEXT, "Changes when the content may have: an ETag, a commit, a checksum, size and times."),
    bytes=_COUNT,
    rows=_COUNT,
    extra_columns=_list(_TEXT, "Columns that the stage's fixed schema does not have, left out."),
    error=_said(_or_null(_TEXT), "Why the file, or the rest of it, was skipped."),
    optional=("extra_columns",),
)
_HISTOGRAM = _object(
    "Signed logarithmic bins of a written score.",
    bins_per_octave=_COUNT,
    positive=_map(_COUNT),
    negative=_map(_COUNT),
    zeros=_COUNT,
    nulls=_COUNT,
    nans=_COUNT,
    positive_infinities=_COUNT,
    negative_infinities=_COUNT,
    count=_COUNT,
    min=_or_null({"type": "number"}),
    max=_or_null({"type": "number"}),
    mean=_or_null({"type": "number"}),
)
_OPERATOR = _object(
    id=_TEXT,
    kind={"enum": ["score", "evaluator", "filter", "refiner", "generator"]},
    op=_TEXT,
    version=_TEXT,
    params={"type": "object"},
    assets=_map(_TEXT, "Digests and revisions of what the parameters name (a list, a model), by name."),
    distribution=_said(_TEXT, "The package that it came from, and its version."),
    rows_in=_COUNT,
    rows_out=_COUNT,
    rows_dropped=_COUNT,
    dropped=_map(_COUNT, "Rows by reason."),
    rows_generated=_COUNT,
    rows_expanded=_COUNT,
    rows_quarantined=_COUNT,
    errors=_COUNT,
    histograms=_map(_HISTOGRAM, "By written score column."),
    optional=("assets",),
)
_COLUMN = _object(name=_TEXT, type=_said(_TEXT, "An Arrow type."))

_MANIFEST: dict[str, Schema] = {
    "format": {"const": "fdf/1"},
    "id": _said(_SHA256, "Equal for equal results, whatever the path, run or machine."),
    "pipeline": _TEXT,
    "stage": _TEXT,
    "fingerprint": _said(_SHA256, "What decides whether splits run again: operators, source options, seed and more."),
    "seed": {"type": "integer"},
    "operators": _list(_OPERATOR, "In the order in which they ran."),
    "counts": _COUNTS,
    "outputs": _list(_FILE, "The shards, in the order of the dataset."),
    "dropped": _list(_FILE, "Files of dropped rows."),
    "quarantine": _list(_FILE, "Files of rows that failed."),
    "schema": _list(_COLUMN, "The columns of the shards."),
    "mixture": {"description": "The mixture's plan and account; null without one.", "type": ["object", "null"]},
    "evaluations": _map({"type": "object"}, "Each evaluator's report, by operator id."),
    "lists": _said(
        _or_null(_object(file=_TEXT, sha256=_SHA256)),
        "Where very long lists are: a parquet file beside the manifest, which then holds them empty.",
    ),
    "gates_failed": _list(_TEXT, "The `require:` gates that did not hold."),
    "input_schema": _said(
        _or_null(_object(columns=_list(_COLUMN), arrow_ipc=_TEXT)), "The pinned columns of the source's files."
    ),
    "source": {
        "description": "What the source was resolved to, such as a commit; null for a later stage.",
        "type": ["object", "null"],
    },
    "inputs": _list(_INPUT, "What was read."),
    "seconds": _map(_SECONDS, "Time spent, by operator id."),
    "retries": _COUNT,
    "resumed_splits": _said(_COUNT, "Splits that were done before this run."),
    "environment": _object(
        python=_TEXT, platform=_TEXT, distributions=_map(_TEXT), devices=_list({"type": ["string", "object"]})
    ),
    "operator_sources": _map(_TEXT, "A digest of each operator class's source."),
    "run_id": _TEXT,
    "config_hash": _SHA256,
    "generation": _said(_TEXT, "The folder of its receipts."),
    "limit": _said(_or_null(_COUNT), "How many input rows the run was to read (`--limit`); null for all."),
    "code_version": _said(_TEXT, "The version of fdf-core."),
    "recipe": {"description": "The recipe as it ran: resolved, secrets redacted.", "type": "object"},
    "upstream": _said(_or_null(_SHA256), "The id of the manifest that this stage read; null for the first."),
    "resources": {"description": "Where and with what it ran.", "type": "object"},
    "started_at": _TIME,
    "finished_at": _TIME,
}


def _part(key: str) -> str:
    return "deterministic" if key in DETERMINISTIC else "observed"


def _root(title: str, description: str, body: Schema) -> Schema:
    return {"$schema": _DRAFT, "title": title, **body, "description": description}


MANIFEST = _root(
    "FDF manifest",
    "The record that commits a stage. The deterministic part says what the dataset is, the observed how it came to be.",
    _with(_object(), {key: {**schema, "x-fdf-part": _part(key)} for key, schema in _MANIFEST.items()}),
)

RECEIPT = _root(
    "FDF receipt",
    "The record that commits what one split became.",
    _object(
        format={"const": "fdf-receipt/1"},
        split=_object(
            location={"type": "string", "pattern": "^[0-9a-f]{32}$"},
            version={"type": "string", "pattern": "^[0-9a-f]{16}$"},
            name=_TEXT,
        ),
        source=_TEXT,
        fingerprint=_SHA256,
        nonce=_said(_TEXT, "Which attempt wrote it."),
        counts=_COUNTS,
        operators=_map(
            _object(
                rows_in=_COUNT,
                rows_out=_COUNT,
                dropped=_map(_COUNT),
                generated=_COUNT,
                expanded=_COUNT,
                quarantined=_COUNT,
                errors=_COUNT,
                causes=_map(_COUNT),
                histograms=_map(_HISTOGRAM),
                state=_said(_or_null(_TEXT), "An evaluator's state, base64."),
                seconds=_SECONDS,
            ),
            "What each operator did, by id.",
        ),
        outputs=_list(_FILE),
        dropped=_list(_FILE),
        quarantine=_list(_FILE),
        inputs=_list(_INPUT),
        read_errors=_map(_COUNT, "Records that could not be read, by cause."),
        seconds=_SECONDS,
        attempts={"type": "integer", "minimum": 1},
    ),
)

_BY_KIND: dict[str, Schema] = {
    "run_started": _object(run_id=_TEXT, stages=_list(_TEXT)),
    "stage_started": _object(root=_TEXT),
    "split_started": _object(name=_TEXT, attempt={"type": "integer", "minimum": 1}),
    "split_progress": _object(name=_TEXT, rows=_COUNT, bytes=_COUNT),
    "split_committed": _with(
        _object(
            name=_TEXT, bytes_in=_COUNT, bytes_out=_COUNT, seconds=_SECONDS, attempts={"type": "integer", "minimum": 1}
        ),
        dict.fromkeys(COUNTS, _COUNT),
    ),
    "split_skipped": _object(name=_TEXT, rows_in=_COUNT),
    "split_retried": _object(name=_TEXT, cause=_TEXT),
    "split_stalled": _object(name=_TEXT, seconds=_SECONDS),
    "stage_committed": _object(id=_SHA256, counts=_COUNTS, gates_failed=_list(_TEXT)),
    "stage_failed": _object(error=_TEXT),
    "run_finished": _object(run_id=_TEXT, status=_TEXT, exit_code=_COUNT),
    "warning": _object(message=_TEXT),
}

EVENT = _root(
    "FDF event",
    "One line of `fdf run --json`. The last line is the result: `event` is `result`, with status and exit code.",
    {
        **_object(
            event={"enum": [*get_args(EventKind), "result"]},
            stage=_or_null(_TEXT),
            split=_or_null(_TEXT),
            time=_said({"type": "number"}, "Seconds since 1970."),
            optional=("stage", "split", "time"),
        ),
        "allOf": [
            {
                "if": {"properties": {"event": {"const": kind}}},
                "then": {**then, "required": [*then["required"], "time"]},
            }
            for kind, then in _BY_KIND.items()
        ]
        + [
            {
                "if": {"properties": {"event": {"const": "result"}}},
                "then": _object(run_id=_TEXT, status=_TEXT, exit_code=_COUNT),
            }
        ],
    },
)

SCHEMAS: dict[str, Schema] = {"manifest": MANIFEST, "receipt": RECEIPT, "event": EVENT}
