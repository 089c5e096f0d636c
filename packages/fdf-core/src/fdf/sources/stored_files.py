"""Columns in which `datasets` stores whole files, as its features Image, Audio and Video do: read as the files' bytes.

Such a column is a struct of `bytes` and `path`, where the path is only a name unless the bytes are null. Operators want
the bytes, in a column of binary. Lists of such structs stay as they are, and so does a column that `schema:` declares.
"""

from __future__ import annotations

from collections.abc import Container

import pyarrow as pa
import pyarrow.compute as pc

BYTES, PATH = "bytes", "path"
_AS_BOTH = f"struct<{BYTES}: binary, {PATH}: string>"


def holds_files(kind: pa.DataType) -> bool:
    """Say whether a plain type is exactly that struct, in either order. A path is of type null where Arrow saw none.

    >>> holds_files(pa.struct({"path": pa.string(), "bytes": pa.binary()}))
    True
    """
    if not pa.types.is_struct(kind) or kind.num_fields != 2 or {f.name for f in kind} != {BYTES, PATH}:
        return False
    path = kind.field(PATH).type
    named = pa.types.is_string(path) or pa.types.is_large_string(path) or pa.types.is_null(path)
    return is_bytes(kind.field(BYTES).type) and bool(named)


def is_bytes(kind: pa.DataType) -> bool:
    """Say whether a type is binary."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def as_read(physical: pa.Schema, declared: Container[str] = ()) -> pa.Schema:
    """Return the types in which columns are read: bytes for those that hold files and are not declared."""
    return pa.schema(
        [
            (f.name, f.type.field(BYTES).type if f.name not in declared and holds_files(f.type) else f.type)
            for f in physical
        ]
    )


def may_give_bytes(have: pa.DataType, wanted: pa.DataType) -> bool:
    """Say whether a column of a file is such a struct, or what was read of one, where bytes are wanted."""
    if not is_bytes(wanted) or not pa.types.is_struct(have) or not {f.name for f in have} <= {BYTES, PATH}:
        return False
    if have.get_field_index(BYTES) < 0:
        return False
    data = have.field(BYTES).type
    return bool(is_bytes(data) or pa.types.is_binary_view(data) or pa.types.is_null(data))


def bytes_of(array: pa.StructArray) -> pa.Array:
    """Return the bytes of files without copying them; null where a file is null, or has a path alone.

    >>> bytes_of(pa.array([{"bytes": b"GIF", "path": None}, {"bytes": None, "path": "a.gif"}, None])).to_pylist()
    [b'GIF', None, None]
    """
    return pc.struct_field(array, BYTES)


def note_of_files(name: str) -> str:
    """Return what the plan says of a column that is read as bytes."""
    return (
        f"column `{name}` holds files as `datasets` stores them, and their bytes are read; "
        f'`schema: {{ {name}: "{_AS_BOTH}" }}` keeps their paths too'
    )


def note_of_only_paths(name: str, without: int, rows: int) -> str:
    """Return what the plan says of files that are not in the data: so many rows at least have only a path."""
    return f"column `{name}` has a path and no bytes in at least {without:,} of {rows:,} rows looked at: these are null"
