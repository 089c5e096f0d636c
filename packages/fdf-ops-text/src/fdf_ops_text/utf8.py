"""Text columns of every Arrow kind as one kind, proven to be UTF-8."""

from __future__ import annotations

import pyarrow as pa


def valid_text(column: pa.Array) -> pa.LargeStringArray:
    """Return a text column as large_string. Raises ValueError where a value is not UTF-8.

    Arrow trusts what a file claims to be text; kernels and libraries that meet other bytes answer nonsense. The engine
    bisects a batch that raises until the bad rows are alone.

    >>> valid_text(pa.array(["a", None, "a"]).dictionary_encode()).to_pylist()
    ['a', None, 'a']
    """
    # A dictionary is decoded first: one bad value in it concerns only the rows that use it.
    text = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    text.validate(full=True)
    return text.cast(pa.large_string())
