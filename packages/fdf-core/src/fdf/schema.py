"""Names and types that FDF itself adds to rows, and small questions about Arrow schemas.

Provenance columns are plain types that datasets, Polars and DuckDB all read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

PREFIX = "__fdf__/"
ID = "__fdf__/id"
SOURCE = "__fdf__/source"
TAGS = "__fdf__/tags"
SCORES = "__fdf__/scores"
DROPPED_BY = "__fdf__/dropped_by"
DROP_REASON = "__fdf__/drop_reason"
DROP_EVIDENCE = "__fdf__/drop_evidence"
REFINED_BY = "__fdf__/refined_by"
GENERATED_BY = "__fdf__/generated_by"
OPERATOR_VERSIONS = "__fdf__/operator_versions"
FAILED_IN = "__fdf__/failed_in"
ERROR = "__fdf__/error"
RAW = "__fdf__/raw"

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "gif", "webp", "tif", "tiff", "bmp"})
AUDIO_EXTENSIONS = frozenset({"wav", "flac", "mp3", "ogg", "opus", "m4a"})
VIDEO_EXTENSIONS = frozenset({"mp4", "webm", "mkv", "mov", "avi"})


def is_internal(name: str) -> bool:
    """Say whether a column is FDF's own (`__fdf__/...`)."""
    return name.startswith(PREFIX)


def is_scalar_score(kind: pa.DataType) -> bool:
    """Say whether a score of this type is one number per row (and so goes into `__fdf__/scores`)."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type without dictionaries, views, run-ends, extensions and maps, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([plain_field(f) for f in kind])
    if pa.types.is_map(kind):
        # `datasets` cannot open a map, and every reader can a list of pairs.
        pair = pa.struct([pa.field("key", plain_type(kind.key_type)), pa.field("value", plain_type(kind.item_type))])
        return pa.list_(pair)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_field(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(plain_field(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(plain_field(kind.value_field))
    return kind


def plain_field(field: pa.Field) -> pa.Field:
    """Return a field with a plain type and without metadata."""
    return pa.field(field.name, plain_type(field.type), field.nullable)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema of plain fields, without metadata."""
    return pa.schema([plain_field(f) for f in schema])


def decoded(array: pa.Array) -> pa.Array:
    """Return an array without its dictionary or extension type: the values themselves."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        values = array.dictionary
        # Polars gives views, which Arrow cannot take from.
        array = values.cast(plain_type(values.type)).take(array.indices)
    return array


def row_bytes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return about how many bytes each row holds (int64), from its logical values alone.

    The same row weighs the same in whatever batch or buffer layout it stands, so whatever is cut by these weights is
    cut at the same rows everywhere.
    """
    total = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        total += _array_bytes(column)
    return total


def _array_bytes(array: pa.Array) -> npt.NDArray[np.int64]:
    kind = array.type
    rows = len(array)
    if pa.types.is_dictionary(kind):
        return _array_bytes(array.dictionary_decode())
    if (
        pa.types.is_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
    ):
        lengths = pc.fill_null(pc.binary_length(array), 0)
        widths: npt.NDArray[np.int64] = lengths.to_numpy(zero_copy_only=False).astype(np.int64) + 4
        return widths
    if pa.types.is_map(kind):
        return _array_bytes(pc.cast(array, pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        # Of a null nothing is flattened, nor counted: of fixed size, too.
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        inner = np.concatenate([[0], np.cumsum(_array_bytes(array.flatten()))])
        ends = np.cumsum(lengths)
        result: npt.NDArray[np.int64] = inner[ends] - inner[ends - lengths] + 4
        return result
    if pa.types.is_struct(kind):
        total = np.zeros(rows, dtype=np.int64)
        for child in array.flatten():
            total += _array_bytes(child)
        return total
    if pa.types.is_null(kind):
        return np.zeros(rows, dtype=np.int64)
    try:
        width = max(1, kind.bit_width // 8)
    except ValueError:
        return _array_bytes(pc.cast(array, pa.large_binary()))
    return np.full(rows, width, dtype=np.int64)
