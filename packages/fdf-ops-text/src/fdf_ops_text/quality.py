"""Score how much a text looks like prose worth learning from, by published rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.operator import Columns, Score
from fdf_ops_text.gopher_quality import STOP_WORDS
from fdf_ops_text.lines import WordLines
from fdf_ops_text.words import TextBytes, require_text

_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TextQualityScorer(Score):
    """Add `text_quality_score`, from 0 to 1: how far a text keeps the rules of Gopher and FineWeb.

    The score is the product of eight parts. Each is 1 where the rule is kept and falls to 0 in a straight line, so 1
    means that every rule is kept, and 0.6 is a text of 30 words that keeps the others. With n words and m lines:

    1. length: n / 50, and 100,000 / n for longer texts (Gopher: 50 to 100,000 words)
    2. mean word length w in characters: w / 3; beyond 10, 2 - w / 10 (Gopher: 3 to 10)
    3. symbols s, the larger of ``#`` / n and ellipses / n: 2 - s / 0.1 (Gopher: at most 0.1)
    4. share b of lines that start with a bullet: (1 - b) / 0.1 (Gopher: at most 0.9)
    5. share e of lines that end in an ellipsis: 2 - e / 0.3 (Gopher: at most 0.3)
    6. share a of words with a letter: a / 0.8 (Gopher: at least 0.8)
    7. number k of different English stop words out of {the, be, to, of, and, that, have, with}: k / 2 (Gopher: 2)
    8. share t of lines that end like a sentence: t / 0.12 (FineWeb: at least 0.12)

    each cut to [0, 1]. Words are maximal runs of non-whitespace, punctuation included; a stop word is compared in lower
    case without the punctuation after it. Lines are separated by line feeds, blank ones do not count. Bullets are
    ``-*•●``; an ellipsis is ``...`` or ``…``; a sentence ends with one of ``. ! ? …`` or their Chinese, Japanese,
    Arabic and Indic forms, closing quotes and brackets after it aside. A text without words scores 0, a null text null.

    Made for English (part 7): `stop_words: false` leaves that part out. Languages written without spaces score low.

    Sources: Gopher, Rae et al. 2021 (arXiv 2112.11446), appendix A, table A1; FineWeb, Penedo et al. 2024
    (arXiv 2406.17557). The straight lines between keeping a rule and breaking it are ours.

    >>> batch = pa.record_batch({"text": ["The cat and the dog sat. " * 5, None]})
    >>> TextQualityScorer().score(batch)["text_quality_score"].to_pylist()
    [0.6, None]
    """

    field: str = "text"
    """The column of text."""
    stop_words: bool = True
    """Whether part 7, English stop words, counts."""

    version = "1.0.0"
    modality = "text"

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the score's column. Raises PlanError where `field` is no text."""
        require_text(schema, self.field, operator="TextQualityScorer")
        return {"text_quality_score": pa.float64()}

    def score(self, batch: pa.RecordBatch) -> Columns:
        """Compute the score, without one Python object per row."""
        text = TextBytes.of(batch.column(self.field))
        lines = WordLines(text)
        words = text.n_words
        n, m = np.maximum(words, 1), np.maximum(lines.n_lines, 1)
        mean_length = (text.n_chars - text.n_space_chars) / n
        symbols = np.maximum(text.per_row(text.data == ord("#")), lines.n_ellipses) / n
        parts = [
            np.minimum(words / 50, 100_000 / n),
            np.minimum(mean_length / 3, 2 - mean_length / 10),
            2 - symbols / 0.1,
            (1 - lines.n_bulleted / m) / 0.1,
            2 - lines.n_trailing_off / m / 0.3,
            lines.n_words_with_letters / n / 0.8,
            lines.n_sentence_ends / m / 0.12,
        ]
        if self.stop_words:
            parts.append(lines.different_words(STOP_WORDS) / 2)
        score: _Numbers = np.ones(len(words))
        for part in parts:
            score *= np.clip(part, 0, 1)
        return {"text_quality_score": pa.array(np.where(words == 0, 0, score), pa.float64(), mask=~text.valid)}
