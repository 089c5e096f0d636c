"""A third party's operator package, complete."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

import fdf


@dataclass(frozen=True, kw_only=True)
class ShoutFilter(fdf.Filter):
    """Drop rows whose text is nothing but capitals."""

    field: str = "text"
    min_letters: int = 3
    """Shorter texts are kept: they may be abbreviations."""

    version: ClassVar[str] = "1.0.0"
    reasons: ClassVar[tuple[str, ...]] = ("shouting",)
    modality: ClassVar[str] = "text"

    def verdict(self, batch: pa.RecordBatch) -> fdf.Verdict:
        """Judge each row; a null is kept."""
        text = batch[self.field]
        long = pc.greater_equal(pc.utf8_length(text), self.min_letters)
        return fdf.Verdict.first(shouting=fdf.Rule(pc.and_(pc.utf8_is_upper(text), long), text))
