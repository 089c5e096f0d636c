"""Count the tokens of a text, by a tokenizer's file or by an estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fdf.errors import PlanError, Problem
from fdf.operator import Columns, Context, Score
from fdf_ops_text.extras import require
from fdf_ops_text.lists import check_files, digests
from fdf_ops_text.utf8 import valid_text
from fdf_ops_text.words import TextBytes, require_text

# Encodings are many times larger than their texts, and only their lengths are wanted.
_TEXTS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class TokenCounter(Score):
    """Add the column `tokens`: how many tokens a text has.

    With `tokenizer`, the path of a Hugging Face tokenizer's `tokenizer.json`, the count is exact: without special
    tokens unless `add_special_tokens`, and whatever truncation or padding the file asks for, of the whole text. Without
    it, the count is estimated as one token per 4 bytes of UTF-8, rounded up, as mixtures do.

    An empty text has no token (special ones aside), a null text null.

    >>> TokenCounter().score(pa.record_batch({"text": ["twelve bytes", "", None]}))["tokens"].to_pylist()
    [3, 0, None]
    """

    field: str = "text"
    """The column of text."""
    tokenizer: str | None = None
    """The path of a `tokenizer.json`; null: the estimate."""
    add_special_tokens: bool = False
    """Whether the tokens that the tokenizer puts around a text count."""
    column: str = "tokens"
    """The name of the new column."""

    version = "1.0.0"
    modality = "text"
    extras = ("tokenizers",)

    def __post_init__(self) -> None:
        """Refuse special tokens of no tokenizer."""
        if self.add_special_tokens and self.tokenizer is None:
            raise ValueError("add_special_tokens needs a `tokenizer`: the estimate knows none")

    @property
    def depends(self) -> tuple[str, ...]:  # type: ignore[override] # declared per class, asked of an instance
        """Return the library of tokenizers, where one is used."""
        return ("tokenizers",) if self.tokenizer else ()

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column. Raises PlanError where `field` is no text, or the tokenizer's file is not there."""
        require_text(schema, self.field, operator="TokenCounter")
        check_files(self._files(), operator="TokenCounter")
        return {self.column: pa.int64()}

    def assets(self) -> dict[str, str]:
        """Return the digest of the tokenizer's file."""
        return digests(self._files(), operator="TokenCounter")

    def setup(self, context: Context) -> None:
        """Load the tokenizer. Raises MissingDependency without the library, PlanError for a file that is none."""
        if self.tokenizer is not None:
            self._load()

    def score(self, batch: pa.RecordBatch) -> Columns:
        """Count; the estimate without one Python object per row."""
        text = valid_text(batch.column(self.field))
        if self.tokenizer is None:
            held = TextBytes.of(text)
            return {self.column: held.column(-(-held.n_bytes // 4), pa.int64())}
        encode = self._load().encode_batch_fast
        counts = np.zeros(len(text), dtype=np.int64)
        rows = np.flatnonzero(text.is_valid().to_numpy(zero_copy_only=False))
        for at in range(0, len(rows), _TEXTS_AT_ONCE):
            some = rows[at : at + _TEXTS_AT_ONCE]
            encoded = encode(text.take(pa.array(some)).to_pylist(), add_special_tokens=self.add_special_tokens)
            counts[some] = [len(each) for each in encoded]
        return {self.column: pa.array(counts, pa.int64(), mask=~text.is_valid().to_numpy(zero_copy_only=False))}

    def _files(self) -> dict[str, tuple[str, ...]]:
        return {"tokenizer": (self.tokenizer,) if self.tokenizer else ()}

    def _load(self) -> Any:
        held = self.runtime
        if not hasattr(held, "tokenizer"):
            library = require("tokenizers", operator="TokenCounter", extra="tokenizers")
            try:
                tokenizer = library.Tokenizer.from_file(self.tokenizer)
            except Exception as error:  # the library raises nothing narrower
                raise PlanError(
                    Problem(
                        code="FDF225",
                        message=f"`tokenizer` of TokenCounter: {self.tokenizer} is no tokenizer: {error}",
                        help="give the `tokenizer.json` that Hugging Face tokenizers writes",
                    )
                ) from error
            tokenizer.no_truncation()
            tokenizer.no_padding()
            held.tokenizer = tokenizer
        return held.tokenizer
