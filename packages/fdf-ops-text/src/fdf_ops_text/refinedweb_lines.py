"""Keep texts of which RefinedWeb's line-wise corrections take little away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from fdf.verdict import Rule
from fdf_ops_text.text_filter import Bound, TextFilter, Tokenizer, share

if TYPE_CHECKING:
    from fdf_ops_text.analysis.refinedweb import LineCorrections

REFINEDWEB_BOUNDS: dict[str, float] = {
    "max_line_feeds": 2,
    "max_uppercase": 0.5,
    "max_numeric": 0.999999,
    "min_words_per_line": 2,
    "max_phrase_words": 10,
    "max_words_removed": 0.05,
}


def line_corrections(operator: Any) -> LineCorrections:
    """Return the corrections that the parameters of `RefinedWebLineFilter` or `RemoveLines` state."""
    from fdf_ops_text.analysis.refinedweb import LineCorrections

    def number(name: str) -> float | None:
        given = getattr(operator, name)
        chosen = REFINEDWEB_BOUNDS[name] if given is None else given
        return None if chosen is False else chosen

    return LineCorrections(
        max_line_feeds=number("max_line_feeds"),
        max_uppercase=number("max_uppercase"),
        max_numeric=number("max_numeric"),
        counters=operator.counters,
        min_words_per_line=number("min_words_per_line"),
        phrases=operator.phrases,
        max_phrase_words=number("max_phrase_words"),
    )


def check_corrections(operator: Any) -> None:
    """Refuse to leave no line feed at all, which would join lines. Raises ValueError."""
    given = operator.max_line_feeds
    if given is not None and given is not False and given < 1:
        raise ValueError(
            f"max_line_feeds is {given}, and without line feeds a text has no lines: set 1 or more, or false for any"
        )


@dataclass(frozen=True, kw_only=True)
class RefinedWebLineFilter(TextFilter):
    r"""Drop texts of which RefinedWeb's line-wise corrections would take more than a twentieth of the words away.

    It judges a text as `RemoveLines` with `rules: refinedweb` and the same parameters would rewrite it, and leaves it
    as it is: put `RemoveLines` behind it. Of more than `max_line_feeds` line feeds in a row, as many are left. Then a
    line goes if more than `max_uppercase` of its characters are in upper case; if more than `max_numeric` are digits;
    if it is a counter ("1.2K likes", "12 comments"); if it has fewer than `min_words_per_line` words, unless it is
    empty. Of lines of at most `max_phrase_words` words, "items in cart" is cut out, "Read more" with three characters
    behind it at the end, and "Sign-in" at the start, each with one character of whitespace beside it. The rules are
    tried on the whole text, one after the other, and whitespace at both ends of the text goes between them.

    It is the configuration of DCLM (commit 361714b, dclm_baseline_refinedweb.yaml), whose authors worked the rules out
    from the paper. `empty` is a text without a word, or without a line that is left.

    Source: Penedo et al. 2023 (arXiv 2306.01116), appendix G.2. A null text is kept.

    >>> batch = pa.record_batch({"text": ["Some words of a text.\n12 likes", "Some words.\nHOME", "2024", None]})
    >>> judged = RefinedWebLineFilter(max_words_removed=0.3).verdict(batch)
    >>> [judged.reasons[code - 1] if code else "keep" for code in judged.codes]
    ['keep', 'too_many_words_removed', 'empty', 'keep']
    """

    field: str = "text"
    """The column of text."""
    tokenizer: Tokenizer | None = None
    """Which words are counted, before and after; null: `fasttext`, as in DCLM."""
    max_words_removed: Bound = None
    """The highest share of words that may be taken away (0.05)."""
    max_line_feeds: Bound = None
    """How many line feeds in a row are left of more (2)."""
    max_uppercase: Bound = None
    """The highest share of upper-case characters of a line that is kept (0.5)."""
    max_numeric: Bound = None
    """The highest share of digits (`str.isdigit`) in a line that is kept (0.999999)."""
    counters: bool = True
    """Whether lines like "12 likes" are dropped."""
    min_words_per_line: Bound = None
    """The fewest words of a line that is kept (2)."""
    phrases: bool = True
    """Whether "items in cart", "Read more..." and "Sign-in" are cut out of short lines."""
    max_phrase_words: Bound = None
    """The most words of a short line (10)."""

    version = "1.0.0"
    reasons = ("empty", "too_many_words_removed")
    PRESETS: ClassVar = {"": {"tokenizer": "fasttext", **REFINEDWEB_BOUNDS}}

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        check_corrections(self)

    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        from fdf_ops_text.analysis.refinedweb import corrected, word_counts

        text = corrected(column, line_corrections(self))
        before, after = word_counts(column, text, self.words)
        return {
            "empty": Rule((before == 0) | (text.n_bytes == 0)),
            "too_many_words_removed": self.too_high(share(before - after, before), "max_words_removed"),
        }
