"""Puts into tables of `datasets` the files that they only point to: images, sounds.

A feature such as Image may hold a file's bytes, or only a path to where it lies. What leaves this machine, or this
process, needs the bytes: `datasets` does the same before it writes parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fdf.sources.stored_files import BYTES, PATH, holds_files

_FILES = 32
"""Rows whose files are held in memory at once."""


def embedded(tables: Iterable[pa.Table], features: Any) -> Iterator[pa.Table]:
    """Yield tables with the bytes of the files that they point to, in the types of `features`."""
    from datasets.table import embed_table_storage

    for table in tables:
        typed = table.cast(features.arrow_schema)
        for first in range(0, typed.num_rows, _FILES):
            yield embed_table_storage(typed.slice(first, _FILES))


def may_point(features: Any) -> bool:
    """Say whether a dataset has a feature that holds files or points to them."""
    from datasets.features.features import require_storage_embed

    return features is not None and any(require_storage_embed(feature) for feature in features.values())


def points(array: pa.Array) -> bool:
    """Say whether any file of a column, at any depth, has a path and no bytes."""
    kind = array.type
    if holds_files(kind):
        lacking = pc.is_null(pc.struct_field(array, BYTES))
        return bool(pc.any(pc.and_(lacking, pc.is_valid(pc.struct_field(array, PATH)))).as_py())
    if pa.types.is_struct(kind):
        return any(points(child) for child in array.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return points(array.flatten())
    return False
