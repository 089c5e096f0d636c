"""What a column of images must be."""

from __future__ import annotations

import pyarrow as pa

from fdf.errors import PlanError, Problem

_BYTES = (pa.types.is_binary, pa.types.is_large_binary)


def require_images(schema: pa.Schema, field: str, *, operator: str) -> None:
    """Raise PlanError where a column that is there holds no bytes.

    >>> require_images(pa.schema([("image", pa.binary())]), "image", operator="Example")
    """
    if field not in schema.names:
        return
    kind = schema.field(field).type
    if not any(is_kind(kind) for is_kind in _BYTES):
        raise PlanError(
            Problem(
                code="FDF225",
                message=f"`field` of {operator} names the column `{field}`, which is {kind}, not an image's bytes",
                help="name a column of type binary that holds whole image files",
            )
        )
