"""What the filters over one text column have in common: thresholds from a preset, kernels that are warm, nulls kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fdf.operator import Context, Filter
from fdf.verdict import Rule, Verdict, above, below
from fdf_ops_text.extras import missing
from fdf_ops_text.words import require_text

Bound: TypeAlias = float | Literal[False] | None
"""A threshold: a number, false to switch its rule off, or null for the preset's own."""
Tokenizer = Literal["whitespace", "datatrove", "unicode", "dclm", "dolma", "fasttext", "rpv2"]
"""What a word is; `fdf_ops_text.analysis.words.words_of` tells each."""
EXTRAS = {"spacy": "spacy", "uniseg": "unicode"}
"""The extra that brings a module which words are found with."""
DECIDED_BY: dict[str, tuple[str, ...]] = {"datatrove": ("spacy",), "unicode": ("uniseg",), "dclm": ("uniseg",)}
"""The distributions whose version decides what a word is."""
Numbers: TypeAlias = npt.NDArray[np.float64]
EXAMPLE = "It's a line of a text, long enough.\n\n- And \u201canother\u201d one\u2026\n"


class TextFilter(Filter):
    """Judges one text column, `field`, by rules with thresholds. A null text is kept.

    `PRESETS` gives each preset's thresholds by parameter; a parameter that is not None takes its place.
    """

    modality = "text"
    PRESETS: ClassVar[dict[str, dict[str, Any]]]

    @property
    def depends(self) -> tuple[str, ...]:  # type: ignore[override] # it depends on a parameter
        """Return the distributions whose version decides what a word is."""
        return DECIDED_BY.get(self.words, ())

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return no columns. Raises PlanError where `field` is no text."""
        require_text(schema, self._column, operator=type(self).__name__)
        return {}

    def setup(self, context: Context) -> None:
        """Load the kernels, compiled by the first worker of this version that needs them."""
        warm(self, self.verdict)

    @abstractmethod
    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        """Return the rules in the order in which they are tried; a rule that is None is switched off."""

    def verdict(self, batch: pa.RecordBatch) -> Verdict:
        column = batch.column(self._column)
        rules = {reason: rule for reason, rule in self.rules(column).items() if rule is not None}
        if not rules:
            return Verdict.keep_all(len(column))
        judged = Verdict.first(**rules)
        if column.null_count:
            judged.codes[column.is_null().to_numpy(zero_copy_only=False)] = 0
        return judged

    def bound(self, name: str) -> float | None:
        """Return a threshold: the parameter's, else the preset's; None where its rule is off."""
        given = getattr(self, name)
        chosen = self.PRESETS[getattr(self, "preset", "")].get(name) if given is None else given
        return None if chosen is None or chosen is False else chosen

    def too_low(self, values: npt.NDArray[Any], name: str) -> Rule | None:
        """Return the rule that drops values below a threshold, or None where that is off. NaN is not below."""
        bound = self.bound(name)
        return None if bound is None else below(pa.array(values), bound)

    def too_high(self, values: npt.NDArray[Any], name: str) -> Rule | None:
        """Return the rule that drops values above a threshold, or None where that is off. NaN is not above."""
        bound = self.bound(name)
        return None if bound is None else above(pa.array(values), bound)

    @property
    def words(self) -> Any:
        """What a word is: the parameter `tokenizer`, else the preset's; empty where words do not matter."""
        given = getattr(self, "tokenizer", None)
        return given or self.PRESETS[getattr(self, "preset", "")].get("tokenizer", "")

    @property
    def _column(self) -> str:
        name: str = self.field  # type: ignore[attr-defined] # every subclass has the parameter
        return name


def share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Numbers:
    """Return `part / whole` in double precision; NaN, which breaks no rule, where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole == 0, np.nan, part / whole)


def warm(operator: Any, verb: Callable[[pa.RecordBatch], object]) -> None:
    """Run an operator's verb on an example, so that its kernels are compiled and its tables are there.

    Raises MissingDependency, with the line that installs it, where a library is not there.
    """
    from fdf_ops_text.kernels.compiling import compiled_once

    name = type(operator).__name__
    batch = pa.record_batch({operator.field: pa.array([EXAMPLE, None])})
    try:
        # Presets and tokenizers have kernels of their own.
        chosen = (getattr(operator, name, None) for name in ("rules", "preset", "tokenizer"))
        variant = "".join(f"-{choice}" for choice in chosen if isinstance(choice, str))
        compiled_once(type(operator), lambda: verb(batch), variant=variant)
    except ModuleNotFoundError as error:
        absent = (error.name or "").partition(".")[0]
        if absent not in EXTRAS:
            raise
        raise missing(absent, operator=name, extra=EXTRAS[absent]) from error
