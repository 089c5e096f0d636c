"""Keep texts by the language that a scorer found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import PlanError, Problem
from fdf.operator import Filter
from fdf.verdict import Rule, Verdict
from fdf_ops_text.utf8 import valid_text
from fdf_ops_text.words import require_text


@dataclass(frozen=True, kw_only=True)
class LanguageFilter(Filter):
    """Keep rows in one of the `languages`, with a language score of `min_score` at least.

    It reads the columns that LanguageScorer writes (put one before it), or those that a dataset brings: FineWeb's rows
    have them under the same names. So a language is found once, however many operators look at it. 0.65 is the bound of
    RefinedWeb (Penedo et al. 2023, arXiv 2306.01116, section 3.1) and of FineWeb. `min_scores` gives languages bounds
    of their own, as FineWeb-2 does.

    `other_language`: the language is not in `languages`; a text of which no language is known counts here.
    `low_language_score`: the score is below the bound; NaN is. A row with neither language nor score, of a null text,
    is kept; so is a missing score.

    >>> batch = pa.record_batch({"language": ["en", "de", "en", None], "language_score": [0.9, 0.9, 0.5, None]})
    >>> LanguageFilter(languages=("en",)).verdict(batch).codes.tolist()
    [0, 1, 2, 0]
    """

    languages: tuple[str, ...] | None = None
    """The languages to keep, as the scorer names them; null: all."""
    min_score: float = 0.65
    """The lowest score that is kept."""
    min_scores: dict[str, float] = dataclasses.field(default_factory=dict)
    """Language: the lowest score that is kept in it, in place of `min_score`."""
    field: str = "language"
    """The column of languages."""
    score_field: str = "language_score"
    """The column of scores."""

    version = "1.0.0"
    modality = "text"
    reasons = ("other_language", "low_language_score")

    def __post_init__(self) -> None:
        """Refuse lists that drop every row, and bounds for languages that are dropped anyway."""
        if self.languages is not None:
            if not self.languages:
                raise ValueError("`languages` is empty: it would drop every row; name one, or leave it out for all")
            if unused := sorted(set(self.min_scores) - set(self.languages)):
                raise ValueError(f"`min_scores` has a bound for `{unused[0]}`, which is not in `languages`")
        for bound in (self.min_score, *self.min_scores.values()):
            if not 0 <= bound <= 1:
                raise ValueError(f"a language score lies between 0 and 1, and so does its bound: not {bound}")

    def reads(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the two columns. Raises PlanError, with the operator to add, where a text has not been scored yet."""
        absent = [name for name in (self.field, self.score_field) if name not in schema.names]
        if absent:
            raise PlanError(
                Problem(
                    code="FDF310",
                    message=f"LanguageFilter needs the column `{absent[0]}`, which rows do not have there",
                    help="put the operator LanguageScorer before it, or name the columns in `field` and `score_field`",
                )
            )
        return (self.field, self.score_field)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return no columns. Raises PlanError where the columns are not text and numbers."""
        require_text(schema, self.field, operator="LanguageFilter")
        kind = schema.field(self.score_field).type
        if not (pa.types.is_floating(kind) or pa.types.is_null(kind)):
            raise PlanError(
                Problem(
                    code="FDF225",
                    message=f"LanguageFilter reads scores, and the column `{self.score_field}` is {kind}",
                    help="set `score_field` to a column of floating-point numbers",
                )
            )
        return {}

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        """Drop other languages first, then low scores."""
        language, score = valid_text(batch.column(self.field)), batch.column(self.score_field)
        if pa.types.is_null(score.type):
            score = score.cast(pa.float64())
        low = pc.invert(pc.greater_equal(score, self._bounds(language, score.type)))
        bounds: dict[str, Any] = {"min": self.min_score}
        if self.min_scores:
            bounds["min_scores"] = dict(self.min_scores)
        return Verdict.first(
            other_language=None if self.languages is None else self._other(language, score),
            low_language_score=Rule(low, score, bounds),
        )

    def _other(self, language: pa.Array, score: pa.Array) -> Rule:
        assert self.languages is not None
        listed = pc.is_in(language, value_set=pa.array(self.languages, pa.large_string()))
        judged = pc.or_(pc.is_valid(language), pc.is_valid(score))
        return Rule(pc.and_not(judged, listed), language, {"languages": list(self.languages)})

    def _bounds(self, language: pa.Array, kind: pa.DataType) -> pa.Array:
        """Return each row's bound, as a number of the scores' kind: a float32 score of 0.65 should meet 0.65."""
        own = pc.index_in(language, value_set=pa.array(self.min_scores, pa.large_string()))
        bounds = np.array([*self.min_scores.values(), self.min_score])
        return pa.array(bounds[pc.fill_null(own, len(self.min_scores)).to_numpy(zero_copy_only=False)]).cast(kind)
