"""Decides which physical columns are read and what they are called: renames, aliases that everyone uses, types."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fdf.errors import PlanError, Problem, did_you_mean
from fdf.schema import IMAGE_EXTENSIONS, PREFIX, is_internal
from fdf.sources.base import Source
from fdf.sources.stored_files import as_read, is_bytes, note_of_files, note_of_only_paths
from fdf.typename import parse_type

ALIASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("text", ("content", "TEXT", "caption", "txt")),
    ("url", ("URL",)),
)
"""Names that everyone uses for `text` and `url`, the likeliest first."""
IMAGE = "image"
"""What a column of bytes is called that is named after a format of images."""


@dataclass(frozen=True)
class Naming:
    """Columns to read as (new name, physical name) in physical order, and what the plan should say of it."""

    pairs: tuple[tuple[str, str], ...]
    schema: pa.Schema
    """The columns under their new names, in the types in which they are read."""
    files: tuple[str, ...] = ()
    """The physical names of those that hold files as `datasets` stores them, of which the bytes are read."""
    notes: tuple[str, ...] = ()


def resolve_columns(
    physical: pa.Schema, columns: dict[str, str] | None, *, schema: dict[str, str] | None = None
) -> Naming:
    """Return the columns to read under the names that the recipe sees.

    With `columns` (new: old) only these are read. Without it all are, and an alias takes a well-known name where
    that is absent (`image` only of bytes, and only where one column is named after a format of images); what FDF itself
    wrote of an earlier run's rows is left out, as rows get it anew. Files as `datasets` stores them are read as their
    bytes unless `schema` declares their column. Raises PlanError for an old name that is not there or is asked for
    twice, or a new one that is FDF's own.
    """
    read = as_read(physical, declared_schema(schema, columns))
    pairs, notes = _named(read, columns)
    types = {f.name: f.type for f in read}
    files = tuple(dict.fromkeys(old for _, old in pairs if types[old] != physical.field(old).type))
    return Naming(
        pairs, pa.schema([(new, types[old]) for new, old in pairs]), files, (*notes, *map(note_of_files, files))
    )


def _named(read: pa.Schema, columns: dict[str, str] | None) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    names = list(read.names)
    if columns is not None:
        _check_asked(columns, names)
        return tuple(columns.items()), []
    notes: list[str] = []
    if any(is_internal(n) for n in names):
        names = [n for n in names if not is_internal(n)]
        notes.append(f"the columns `{PREFIX}*` of an earlier run are left out; `columns:` keeps one under another name")
    renamed: dict[str, str] = {}
    for target, aliases in ALIASES:
        present = [a for a in aliases if a in names]
        if target in names or not present:
            continue
        renamed[present[0]] = target
        more = f" (not `{'`, `'.join(present[1:])}`)" if len(present) > 1 else ""
        notes.append(f"column `{present[0]}`{more} is read as `{target}`")
    images = [n for n in names if n.lower() in IMAGE_EXTENSIONS and is_bytes(read.field(n).type)]
    if images and IMAGE not in names:
        notes.append(_image_named(images, renamed))
    return tuple((renamed.get(n, n), n) for n in names), notes


def _image_named(images: list[str], renamed: dict[str, str]) -> str:
    """Rename the one column that is named after a format; return what the plan says of it."""
    if len(images) == 1:
        renamed[images[0]] = IMAGE
        return f"column `{images[0]}` is read as `{IMAGE}`"
    # One per format, as a rule: each is null where another is not, and the first alone would hide the rest.
    return f"`{IMAGE}` may be any of `{'`, `'.join(images)}`: say which with `columns: {{ {IMAGE}: {images[0]} }}`"


def _check_asked(columns: dict[str, str], names: list[str]) -> None:
    problems = []
    for new, old in columns.items():
        if is_internal(new):
            message = f"`columns` gives the name `{new}`, which is FDF's own"
            problems.append(_wrong("columns", message, help=f"choose a name that does not start with `{PREFIX}`"))
        if old not in names:
            message = f"`columns` asks for `{old}` (as `{new}`), which the input does not have"
            have = f"it has: {', '.join(names)}"
            problems.append(_wrong("columns", message, hint=did_you_mean(old, names), help=have))
    asked = list(columns.values())
    for old in sorted({name for name in asked if asked.count(name) > 1}):
        twice = "` and as `".join(new for new, name in columns.items() if name == old)
        message = f"`columns` reads `{old}` as `{twice}`"
        problems.append(_wrong("columns", message, help="give a column one name, and let an operator copy it"))
    if problems:
        raise PlanError(*problems)


def _wrong(key: str, message: str, *, hint: str | None = None, help: str | None = None) -> Problem:  # noqa: A002 (as Problem names it)
    return Problem(code=PlanError.default_code, message=message, about=key, hint=hint, help=help)


def types_of(source: Source, physical: pa.Schema) -> list[list[str]]:
    """Return what a fingerprint says of a source's columns: their physical names, the types in which they are read, and
    which is `image` without having been called so by the recipe."""
    read = as_read(physical, declared_schema(source.schema, source.columns))
    images = {old for new, old in _named(read, None)[0] if new == IMAGE} if source.columns is None else set()
    return [[f.name, str(f.type), *([IMAGE] if f.name in images - {IMAGE} else [])] for f in read]


def notes_of_only_paths(source: Source, files: tuple[str, ...]) -> list[str]:
    """Return what the plan should say of files that are not in the data, as far as that is told without reading."""
    found = source.only_paths(files) if files else {}
    return [note_of_only_paths(name, without, rows) for name, (without, rows) in found.items() if without]


def declared_schema(schema: dict[str, str] | None, columns: dict[str, str] | None = None) -> dict[str, pa.DataType]:
    """Return the declared types of a source's `schema:` option, by physical name where `columns` renames. Raises
    PlanError for a name that is no type.

    >>> declared_schema({"tags": "list<string>"})["tags"].value_type
    DataType(string)
    """
    types = {}
    for column, name in (schema or {}).items():
        try:
            types[(columns or {}).get(column, column)] = parse_type(name)
        except ValueError as error:
            raise PlanError(_wrong("schema", f"`schema` of column `{column}`: {error}")) from error
    return types
