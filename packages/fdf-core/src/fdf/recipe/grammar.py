"""The grammar of a recipe as JSON Schema (draft-07): which keys there are, and of which type.

It stops at what packages define: the parameters of operators and the options of sources and sinks are checked against
their dataclasses (`fdf.recipe.parameters`) and join the published schema in `fdf.recipe.schema`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
SIZE = r"^\s*\d[\d_]*(\.\d+)?\s*([KMGTkmgt]i?)?[Bb]?\s*$"


def _object(description: str, /, *, required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """Return the schema of a mapping with exactly these keys; `from_` stands for `from`."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _name(what: str) -> Schema:
    return _text(f"{what}: letters, digits, `.`, `_` and `-`", pattern=NAME)


def _choice(description: str, *values: Any) -> Schema:
    return {"description": description, "enum": list(values)}


def _positive(description: str) -> Schema:
    return {"type": "integer", "minimum": 1, "description": description}


def _size(description: str) -> Schema:
    return {
        "type": ["integer", "string"],
        "minimum": 1,
        "pattern": SIZE,
        "description": f"{description}: bytes, or text such as `256 MiB`",
    }


_WEIGHT: Schema = {"type": "number", "minimum": 0, "description": "Relative share."}
_CAP = _positive("At most this much, in the mixture's unit.")
_UNIT = _choice("What is counted.", "tokens", "rows", "images", "bytes")
_MODE = _choice("What to do with what is there already.", "incremental", "overwrite", "error")
_EXHAUSTED = _text(
    "What happens when a source runs out.",
    pattern=r"^(stop|renormalize|repeat|error|fallback:.+)$",
    examples=["stop", "renormalize", "repeat", "error", "fallback:NAME"],
)

_SCHEDULE: Schema = {
    "type": "array",
    "description": "A curriculum: how weights change with what was delivered.",
    "items": _object(
        "One point of the schedule.",
        at={"type": "integer", "minimum": 0, "description": "Units delivered."},
        at_step={"type": "integer", "minimum": 0, "description": "Training steps; needs `units_per_step`."},
        weights={"type": "object", "additionalProperties": _WEIGHT, "description": "New weights by name."},
        ramp=_choice("How the weights get there.", "step", "linear", "piecewise", "cosine"),
    ),
}
_MIXING: Schema = {
    "seed": {"type": "integer", "description": "Seed of the order inside each source; default: the recipe's."},
    "unit": _UNIT,
    "tokenizer": _text("A tokenizer file that counts tokens."),
    "total": _positive("Stop here, in the mixture's unit."),
    "temperature": {"type": "number", "exclusiveMinimum": 0, "description": "Share proportional to size^(1/T)."},
    "granularity": _choice("What is scheduled: each document, or row groups.", "document", "block"),
    "on_exhausted": _EXHAUSTED,
    "schedule": _SCHEDULE,
    "units_per_step": _positive("Units that one training step takes."),
}

DEFINITIONS: dict[str, Schema] = {
    "source": {
        "type": "object",
        "description": "Where rows come from. Relative paths are relative to the working directory.",
        "required": ["type"],
        "properties": {
            "type": _text("The kind of source."),
            "name": _name("The source's name"),
        },
    },
    "dataset": _object(
        "One dataset of a mixture, or a group of them.",
        required=("name",),
        name=_name("The dataset's name"),
        source=_ref("source"),
        datasets={
            "type": "array",
            "minItems": 1,
            "items": _ref("dataset"),
            "description": "Datasets inside this group, with weights among themselves; in place of `source`.",
        },
        weight=_WEIGHT,
        cap=_CAP,
        epochs={"type": "number", "exclusiveMinimum": 0, "description": "How often it is read at most (default 1)."},
    ),
    "mixture": _object(
        "A mixture of datasets, exact at every prefix.",
        required=("type", "datasets"),
        type={"const": "mixture"},
        name=_name("The mixture's name"),
        datasets={"type": "array", "minItems": 1, "items": _ref("dataset"), "description": "What is mixed."},
        **_MIXING,
    ),
    "bucket": _object(
        "One bucket; a row is in the first that fits.",
        required=("name",),
        name=_name("The bucket's name"),
        where=_text("A Polars SQL predicate; without it every row fits."),
        weight=_WEIGHT,
        cap=_CAP,
        epochs={"type": "number", "exclusiveMinimum": 0, "description": "How often it is read at most (default 1)."},
        quantile=_object(
            "Rows between two quantiles of a column of numbers, of the rows of the stage before.",
            required=("field",),
            field=_text("The column."),
            ge={"type": "number", "minimum": 0, "maximum": 1, "description": "From this quantile on."},
            lt={"type": "number", "minimum": 0, "maximum": 1, "description": "Below this quantile."},
            exact={"type": "boolean", "description": "Sort the column instead of trusting a histogram (1/64)."},
        ),
        buckets={"type": "array", "minItems": 1, "items": _ref("bucket"), "description": "Buckets inside this one."},
    ),
    "stage_mixture": _object(
        "A new mixture of the previous stage's rows.",
        required=("buckets",),
        buckets={"type": "array", "minItems": 1, "items": _ref("bucket"), "description": "Tried in order."},
        **_MIXING,
    ),
    "materialize": _object(
        "Where the stage is committed, and what it keeps there.",
        path=_text("A directory: a local path or a URL. Without it, below the run directory."),
        mode=_MODE,
        drops=_choice("What is kept of dropped rows (default sample).", "full", "sample", "ids", "none"),
        keep=_choice("Older datasets kept readable after a commit (default 0).", 0, 1),
    ),
    "resources": _object(
        "What one instance of the operator asks for.",
        cpus={"type": "number", "minimum": 0, "description": "CPU cores."},
        gpus={"type": "number", "minimum": 0, "description": "GPUs; a fraction shares one."},
        memory=_size("Memory"),
    ),
    "operator": _object(
        "One operator.",
        required=("id", "kind", "op"),
        id=_name("The operator's id, unique in the recipe"),
        kind=_choice("What it may do.", "score", "evaluator", "filter", "refiner", "generator"),
        op=_text("A registered name, `distribution:Name`, `my_ops.py:name` beside the recipe, or `module:name`."),
        params={"type": "object", "description": "Its parameters."},
        when=_text("Run it on the rows that this Polars SQL predicate selects; the others pass by."),
        write_fields={
            "type": "array",
            "items": {"type": "string"},
            "uniqueItems": True,
            "description": "Keep only these of the columns that it writes.",
        },
        on_error=_choice(
            "What becomes of a row that it fails on (default quarantine).", "fail", "quarantine", "null", None
        ),
        resources=_ref("resources"),
        batch_size={
            "type": ["integer", "string"],
            "if": {"type": "integer"},
            "then": {"minimum": 1},
            "else": {"enum": ["auto"]},
            "description": "Rows per batch; default: at most 16 MiB of Arrow, or what the operator says. `auto`, for "
            "operators that run a model: as many as it is the faster for, and the device has memory for.",
        },
        require={"type": "array", "items": {"type": "string"}, "description": "Gates: `metric.path <= 0.01`."},
    ),
    "stage": _object(
        "One stage: what it runs, and where it is committed.",
        required=("name",),
        name=_name("The stage's name"),
        materialize=_ref("materialize"),
        operators={"type": "array", "items": _ref("operator"), "description": "The chain of operators, in order."},
        mixture=_ref("stage_mixture"),
        min_errors={
            "type": "integer",
            "minimum": 0,
            "description": "Failed rows that are always allowed (default 10).",
        },
        max_error_rate={
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "Share of rows that may fail (default 0.001).",
        },
    ),
    "output": {
        "type": "object",
        "description": "The final dataset.",
        # `path` too, but that is judged beside the format's own options: `paht` is one mistake, not two.
        "required": ["type"],
        "properties": {
            "type": _text("The format."),
            "path": _text("A directory: a local path or a URL."),
            "mode": _MODE,
            "shard_size": _size("The size that files should have (default 256 MiB)"),
        },
    },
}

GRAMMAR: Schema = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "FDF recipe",
    **_object(
        "One YAML file in, a training-ready dataset out.",
        required=("name", "input"),
        name=_name("The pipeline's name"),
        description=_text("What the dataset is for."),
        seed={"type": "integer", "description": "Decides every sample (default 0)."},
        vars={"type": "object", "description": "Values for `{{name}}`."},
        provenance=_choice("How much each kept row says of its way (default full).", "full", "lite", "none"),
        input={
            "type": "object",
            "required": ["type"],
            "if": {"properties": {"type": {"const": "mixture"}}, "required": ["type"]},
            "then": _ref("mixture"),
            "else": _ref("source"),
        },
        stages={"type": "array", "items": _ref("stage"), "description": "The stages, in order."},
        output=_ref("output"),
    ),
    "definitions": DEFINITIONS,
}
