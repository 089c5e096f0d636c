"""Rewrite texts line by line, as published filters do before they judge what is left."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import pyarrow as pa

from fdf.operator import Columns, Context, Refiner
from fdf_ops_text.c4_quality import C4_PRESETS, line_rules
from fdf_ops_text.refinedweb_lines import check_corrections, line_corrections
from fdf_ops_text.text_filter import Bound, warm
from fdf_ops_text.words import require_text

_C4_ALONE = (
    "preset",
    "max_word_length",
    "terminal_punct",
    "citations",
    "lorem_ipsum",
    "javascript",
    "curly_bracket",
    "policy",
)
_REFINEDWEB_ALONE = ("max_line_feeds", "max_uppercase", "max_numeric", "counters", "phrases", "max_phrase_words")


@dataclass(frozen=True, kw_only=True)
class RemoveLines(Refiner):
    r"""Drop lines, and cut marks out of lines, by C4's or RefinedWeb's rules; join what is left with line feeds.

    - `rules: c4`: which lines go, and in what order, is told at `C4QualityFilter`.
    - `rules: refinedweb`: RefinedWeb's line-wise corrections, told at `RefinedWebLineFilter`.

    These filters drop the texts of which too little is left: put one before this, with the same parameters, and both
    share the work. A text without any line left is empty. A null text stays null.

    Source: Raffel et al. 2020 (JMLR 21-074), section 2.2; datatrove 0.10.1, C4QualityFilter. Penedo et al. 2023 (arXiv
    2306.01116), appendix G.2; DCLM (commit 361714b), dclm_baseline_refinedweb.yaml.

    >>> batch = pa.record_batch({"text": ["Home\nA sentence to be kept.[1]\nPlease enable JavaScript now."]})
    >>> RemoveLines(terminal_punct=False).refine(batch)["text"].to_pylist()
    ['A sentence to be kept.']
    >>> batch = pa.record_batch({"text": ["A LOUD HEADING\nSign-in Plain words are kept.\n12 likes\n2024"]})
    >>> RemoveLines(rules="refinedweb").refine(batch)["text"].to_pylist()
    ['Plain words are kept.']
    """

    field: str = "text"
    """The column of text."""
    rules: Literal["c4", "refinedweb"] = "c4"
    """Whose rules hold."""
    preset: Literal["datatrove", "t5", "dclm"] = "datatrove"
    """Whose numbers and lines hold. Rules c4 alone."""
    min_words_per_line: Bound = None
    """The fewest words of a line that is kept (datatrove 3, t5 and dclm 5; refinedweb 2)."""
    max_word_length: Bound = None
    """The most characters of a word in a line that is kept (1,000). Rules c4 alone."""
    terminal_punct: bool = True
    """Whether lines that do not end in a punctuation mark are dropped. Rules c4 alone."""
    citations: bool = True
    """Whether citation marks are cut out. Rules c4 alone."""
    lorem_ipsum: bool = True
    """As in `C4QualityFilter`; no line is dropped for it. Rules c4 alone."""
    javascript: bool = True
    """Whether lines that say "javascript" are dropped. Rules c4 alone."""
    curly_bracket: bool = True
    """As in `C4QualityFilter`; no line is dropped for it. Rules c4 alone."""
    policy: bool = True
    """Whether lines that speak of cookies, privacy or terms of use are dropped. Rules c4 alone."""
    max_line_feeds: Bound = None
    """How many line feeds in a row are left of more; null: 2. Rules refinedweb alone."""
    max_uppercase: Bound = None
    """The highest share of upper-case characters of a line that is kept; null: 0.5. Rules refinedweb alone."""
    max_numeric: Bound = None
    """The highest share of digits in a line that is kept; null: 0.999999. Rules refinedweb alone."""
    counters: bool = True
    """Whether lines like "12 likes" are dropped. Rules refinedweb alone."""
    phrases: bool = True
    """Whether "items in cart", "Read more..." and "Sign-in" are cut out of short lines. Rules refinedweb alone."""
    max_phrase_words: Bound = None
    """The most words of a short line; null: 10. Rules refinedweb alone."""

    version = "1.1.0"
    modality = "text"
    PRESETS = C4_PRESETS

    def __post_init__(self) -> None:
        """Refuse parameters of the rules that are not asked for, and numbers that make no sense."""
        other = _REFINEDWEB_ALONE if self.rules == "c4" else _C4_ALONE
        defaults = {field.name: field.default for field in fields(self)}
        given = [name for name in other if getattr(self, name) != defaults[name]]
        if given:
            theirs = "refinedweb" if self.rules == "c4" else "c4"
            raise ValueError(
                f"RemoveLines by `rules: {self.rules}` has no {', '.join(f'`{name}`' for name in given)}: set "
                f"`rules: {theirs}`, or leave {'it' if len(given) == 1 else 'them'} out"
            )
        if self.rules == "refinedweb":
            check_corrections(self)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column, of the type it has. Raises PlanError where it is no text."""
        return {self.field: require_text(schema, self.field, operator="RemoveLines")}

    def setup(self, context: Context) -> None:
        """Load the kernels, compiled by the first worker of this version that needs them."""
        warm(self, self.refine)

    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Rewrite the column."""
        column = batch.column(self.field)
        if self.rules == "refinedweb":
            from fdf_ops_text.analysis.refinedweb import corrected

            return {self.field: corrected(column, line_corrections(self)).column(column.type)}
        from fdf_ops_text.analysis.c4 import rewritten

        return {self.field: rewritten(column, line_rules(self)).column(column.type)}
