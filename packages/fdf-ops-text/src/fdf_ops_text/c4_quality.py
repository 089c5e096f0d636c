"""Keep texts of which enough sentences are left when their lines went through C4's rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from fdf.verdict import Rule
from fdf_ops_text.text_filter import Bound, TextFilter, Tokenizer

if TYPE_CHECKING:
    from fdf_ops_text.analysis.c4 import LineRules

C4_PRESETS: dict[str, dict[str, Any]] = {
    "datatrove": {"tokenizer": "datatrove", "min_sentences": 5, "min_words_per_line": 3, "max_word_length": 1000},
    "t5": {"tokenizer": "datatrove", "min_sentences": 3, "min_words_per_line": 5, "max_word_length": 1000},
    "dclm": {
        "tokenizer": "datatrove",
        "min_sentences": 3,
        "min_words_per_line": 5,
        "max_word_length": 1000,
        "max_chars": 190_000,
    },
}


def line_rules(operator: Any) -> LineRules:
    """Return the rules for lines that the parameters of `C4QualityFilter` or `RemoveLines` state."""
    from fdf_ops_text.analysis.c4 import LineRules

    def number(name: str) -> int | None:
        given = getattr(operator, name)
        chosen = C4_PRESETS[operator.preset][name] if given is None else given
        return None if chosen is False else int(chosen)

    published = operator.preset != "datatrove"
    return LineRules(
        citations=operator.citations,
        terminal_punct=operator.terminal_punct,
        single_quote_ends=not published,
        words_after_citations=published,
        min_words=number("min_words_per_line"),
        max_word_length=number("max_word_length"),
        lorem_ipsum=operator.lorem_ipsum,
        javascript=operator.javascript,
        curly_bracket=operator.curly_bracket,
        policy=operator.policy,
        whole_lines=operator.preset == "dclm",
    )


@dataclass(frozen=True, kw_only=True)
class C4QualityFilter(TextFilter):
    r"""Drop texts that speak of lorem ipsum, hold a curly bracket, or of which too few sentences are left.

    It judges a text as `RemoveLines` with the same parameters would rewrite it, and leaves it as it is: put
    `RemoveLines` behind it. In this order a line is dropped if a word of it is longer than `max_word_length`
    characters, if (when citation marks like ``[1]`` and ``[edit]`` are cut out) it does not end in ``. ? ! " '`` or
    ends in ``...``, if it has fewer than `min_words_per_line` words, if it says "javascript" or speaks of cookies,
    privacy or terms of use. A line that came that far and says "lorem ipsum" or holds ``{`` condemns the text.

    `preset: datatrove` decides as datatrove 0.10.1's filter (3 words, 5 sentences, as in the paper); `preset: t5` has
    the numbers of the code that made C4 (5 words, counted without citation marks, 3 sentences; ``'`` ends no line; its
    sentences are NLTK's, here spaCy's). `terminal_punct: false` is FineWeb's setting.

    `preset: dclm` has the steps of DCLM's c4.yaml (commit 361714b) that look at one text: those of t5 with its numbers,
    and at most `max_chars` characters. Its lines are those between line feeds, with the whitespace around them; empty
    lines stay. Not part of it: NLTK's sentences (spaCy's here), the deduplication of URLs and paragraphs with a second
    count of sentences, the list of bad words, and the language.

    Source: Raffel et al. 2020 (JMLR 21-074), section 2.2; tensorflow_datasets, text/c4_utils.py. A null text is kept.

    >>> batch = pa.record_batch({"text": ["One line is here. And two. Three! Four? Five.", "void main() { return; }."]})
    >>> judged = C4QualityFilter(tokenizer="whitespace").verdict(batch)
    >>> [judged.reasons[code - 1] if code else "keep" for code in judged.codes]
    ['keep', 'curly_bracket']
    """

    field: str = "text"
    """The column of text."""
    preset: Literal["datatrove", "t5", "dclm"] = "datatrove"
    """Whose numbers hold."""
    tokenizer: Tokenizer | None = None
    """How words end sentences; null: the preset's, `datatrove`. Words of a line are always split at whitespace."""
    min_sentences: Bound = None
    """The fewest sentences in kept lines that a text is kept with (datatrove 5, t5 and dclm 3)."""
    min_words_per_line: Bound = None
    """The fewest words of a line that is kept (datatrove 3, t5 and dclm 5)."""
    max_word_length: Bound = None
    """The most characters of a word in a line that is kept (1,000)."""
    max_chars: Bound = None
    """The most characters of a text that is kept (dclm 190,000, else off)."""
    terminal_punct: bool = True
    """Whether lines that do not end in a punctuation mark are dropped."""
    citations: bool = True
    """Whether citation marks are cut out."""
    lorem_ipsum: bool = True
    """Whether "lorem ipsum" condemns a text."""
    javascript: bool = True
    """Whether lines that say "javascript" are dropped."""
    curly_bracket: bool = True
    """Whether ``{`` condemns a text."""
    policy: bool = True
    """Whether lines that speak of cookies, privacy or terms of use are dropped."""

    version = "1.1.0"
    extras = ("spacy", "unicode")
    reasons = ("too_many_chars", "lorem_ipsum", "curly_bracket", "too_few_sentences")
    PRESETS = C4_PRESETS

    def rules(self, column: pa.Array) -> dict[str, Rule | None]:
        from fdf_ops_text.analysis.c4 import rewritten, sentence_counts
        from fdf_ops_text.analysis.marks import marks_of
        from fdf_ops_text.kernels.c4 import CURLY_BRACKET, LOREM_IPSUM

        chars: Any = np.empty(0)
        if self.bound("max_chars") is not None:
            chars = marks_of(column).chars
        text = rewritten(column, line_rules(self))
        sentences: Any = np.empty(0)
        if self.bound("min_sentences") is not None:
            sentences = sentence_counts(column, text, self.words)
        return {
            "too_many_chars": self.too_high(chars, "max_chars"),
            "lorem_ipsum": Rule(text.reasons == LOREM_IPSUM),
            "curly_bracket": Rule(text.reasons == CURLY_BRACKET),
            "too_few_sentences": self.too_low(sentences, "min_sentences"),
        }
