"""Count what a text consists of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fdf.operator import Columns, Score
from fdf_ops_text.words import TextBytes, require_text


@dataclass(frozen=True, kw_only=True)
class TextStatistics(Score):
    r"""Add the columns n_chars, n_bytes, n_words, n_lines and mean_word_length.

    Characters are Unicode code points; bytes are of UTF-8; a word is a maximal run of characters that are not
    whitespace (Python's ``text.split()``); a line ends with a line feed or with the text, so that an empty text has
    none. mean_word_length is in characters, and null where there is no word. A null text gives nulls. `prefix` is put
    before the names, for use on a second column.

    >>> batch = pa.record_batch({"text": ["one two\nthree\n"]})
    >>> {name: column.to_pylist() for name, column in TextStatistics().score(batch).items()}
    {'n_chars': [14], 'n_bytes': [14], 'n_words': [3], 'n_lines': [2], 'mean_word_length': [3.6666666666666665]}
    """

    field: str = "text"
    """The column of text."""
    prefix: str = ""
    """Put before the names of the new columns."""

    version = "1.0.0"
    modality = "text"

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the five columns. Raises PlanError where `field` is no text."""
        require_text(schema, self.field, operator="TextStatistics")
        counts = {f"{self.prefix}{name}": pa.int64() for name in ("n_chars", "n_bytes", "n_words", "n_lines")}
        return {**counts, f"{self.prefix}mean_word_length": pa.float64()}

    def score(self, batch: pa.RecordBatch) -> Columns:
        """Count, without one Python object per row."""
        text = TextBytes.of(batch.column(self.field))
        words = text.n_words
        lengths = np.divide(text.n_chars - text.n_space_chars, words, where=words > 0, out=np.zeros(len(words)))
        return {
            f"{self.prefix}n_chars": text.column(text.n_chars, pa.int64()),
            f"{self.prefix}n_bytes": text.column(text.n_bytes, pa.int64()),
            f"{self.prefix}n_words": text.column(words, pa.int64()),
            f"{self.prefix}n_lines": text.column(text.n_lines, pa.int64()),
            f"{self.prefix}mean_word_length": pa.array(lengths, pa.float64(), mask=~text.valid | (words == 0)),
        }
