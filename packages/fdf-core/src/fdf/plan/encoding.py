"""Schemas as JSON, for pins and manifests."""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa


def encode_schema(schema: pa.Schema) -> dict[str, Any]:
    """Return a schema as JSON: readable columns, and the exact Arrow form."""
    columns = [{"name": f.name, "type": str(f.type)} for f in schema]
    return {"columns": columns, "arrow_ipc": base64.b64encode(schema.serialize()).decode()}


def decode_schema(value: dict[str, Any]) -> pa.Schema:
    """Return the schema of `encode_schema`."""
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(value["arrow_ipc"])))
