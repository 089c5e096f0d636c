"""Measure what RedPajama-v2 publishes with its texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import pyarrow as pa

from fdf.errors import did_you_mean
from fdf.operator import Columns, Context, Score
from fdf_ops_text.text_filter import warm
from fdf_ops_text.words import require_text

SIGNALS = (
    "rps_doc_curly_bracket",
    "rps_doc_frac_all_caps_words",
    "rps_doc_frac_lines_end_with_ellipsis",
    "rps_doc_frac_no_alph_words",
    "rps_doc_lorem_ipsum",
    "rps_doc_mean_word_length",
    "rps_doc_stop_word_fraction",
    "rps_doc_symbol_to_word_ratio",
    "rps_doc_frac_unique_words",
    "rps_doc_unigram_entropy",
    "rps_doc_word_count",
    "rps_doc_num_sentences",
    "rps_lines_ending_with_terminal_punctution_mark",
    "rps_lines_javascript_counts",
    "rps_lines_num_words",
    "rps_lines_numerical_chars_fraction",
    "rps_lines_start_with_bulletpoint",
    "rps_lines_uppercase_letter_fraction",
    "rps_doc_frac_chars_top_2gram",
    "rps_doc_frac_chars_top_3gram",
    "rps_doc_frac_chars_top_4gram",
    "rps_doc_frac_chars_dupe_5grams",
    "rps_doc_frac_chars_dupe_6grams",
    "rps_doc_frac_chars_dupe_7grams",
    "rps_doc_frac_chars_dupe_8grams",
    "rps_doc_frac_chars_dupe_9grams",
    "rps_doc_frac_chars_dupe_10grams",
)
"""Names of the signals: of natural language, then of repetition."""
SPANS = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64(), "value": pa.float64()}))
"""The type of a signal of lines: what RedPajama-v2 publishes as ``[[start, end, score], ...]``."""
# Which signals follow from the same analysis.
_RAW_WORDS = (
    "rps_doc_frac_all_caps_words",
    "rps_doc_frac_no_alph_words",
    "rps_doc_stop_word_fraction",
    "rps_doc_symbol_to_word_ratio",
)
_RAW_TEXT = (
    "rps_doc_curly_bracket",
    "rps_doc_frac_lines_end_with_ellipsis",
    "rps_doc_num_sentences",
    "rps_lines_ending_with_terminal_punctution_mark",
    "rps_lines_start_with_bulletpoint",
    "rps_lines_uppercase_letter_fraction",
)
_NORMAL_LINES = (
    "rps_lines_javascript_counts",
    "rps_lines_num_words",
    "rps_lines_numerical_chars_fraction",
)
_LOREM_IPSUM = ("rps_doc_lorem_ipsum",)
_NGRAMS = {name: 2 + i for i, name in enumerate(SIGNALS[-9:])}
_NORMAL_WORDS = (
    "rps_doc_mean_word_length",
    "rps_doc_frac_unique_words",
    "rps_doc_unigram_entropy",
    "rps_doc_word_count",
    *_NGRAMS,
)


@dataclass(frozen=True, kw_only=True)
class RedPajamaSignals(Score):
    r"""Add RedPajama-v2's quality signals of language and repetition, under the names under which it publishes them.

    Signals of a document (`rps_doc_...`) are numbers; signals of lines (`rps_lines_...`) are lists with one
    `{start, end, value}` per line, where start and end count the document's characters (code points) and a line
    includes its line feed. Fractions are rounded to 8 digits, as published.

    Raw words are runs of word characters or of other marks: ``\w+|[^\w\s]+`` of Python's `re`, WordPunct of the NLTK
    of the dataset's time (3.8; NLTK 3.10 takes combining marks for word characters too). Normalised words are those
    of the text without ASCII punctuation, in lower case, in NFD, cut at whitespace. Of raw words or raw text:
    frac_all_caps_words, frac_no_alph_words (no letter of ``[a-zA-Z]``), symbol_to_word_ratio (``#``, ``...``, ``…``),
    stop_word_fraction (compared as written), num_sentences (``\b[^.!?]+[.!?]*``), curly_bracket (per character), the
    shares of lines and of letters in upper case. Of normalised words: word_count, mean_word_length, frac_unique_words,
    unigram_entropy (natural logarithm), lorem_ipsum (per character of the normalised text), javascript_counts,
    num_words, numerical_chars_fraction, and the shares of characters in the top 2- to 4-gram (all its occurrences; 0
    where it occurs once) and in 5- to 10-grams that occur more than once (each word counted once).

    What is a share of no words or no lines is null, as published, but 0 for curly_bracket, lorem_ipsum,
    stop_word_fraction and the n-grams. Signals of lines of an empty text are empty lists, except
    rps_lines_start_with_bulletpoint, which is one span from 0 to 0 without a value. A null text has null signals. What
    a letter, whitespace or lower case is, the Unicode of the running Python says, as in the original.

    Source: Weber et al. 2024 (arXiv 2411.12372), tables of natural-language and repetitiveness signals, by the code
    that made the dataset (togethercomputer/RedPajama-Data, commit 6d2cee9). Its signals of models, of lists of bad
    words and of URLs are not among these.

    >>> batch = pa.record_batch({"text": ["It WORKS... well enough.\n\u2022 So it works #1!"]})
    >>> chosen = ("rps_doc_word_count", "rps_doc_frac_unique_words", "rps_lines_start_with_bulletpoint")
    >>> {name: column[0].as_py() for name, column in RedPajamaSignals(signals=chosen[:2]).score(batch).items()}
    {'rps_doc_word_count': 9.0, 'rps_doc_frac_unique_words': 0.77777778}
    >>> RedPajamaSignals(signals=chosen[2:]).score(batch)[chosen[2]][0].as_py()
    [{'start': 0, 'end': 25, 'value': 0.0}, {'start': 25, 'end': 42, 'value': 1.0}]
    """

    field: str = "text"
    """The column of text."""
    signals: tuple[str, ...] | None = None
    """Names of the signals to add; null: all. What they do not need is not computed."""
    stop_words: tuple[str, ...] | str | None = None
    """The stop words: a list; or the path of a file with one on a line (``#`` begins a comment), read when the
    recipe is; or null for English: the 570 words of stopwords-json, RedPajama-v2's own source."""

    version = "1.0.0"
    modality = "text"

    def __post_init__(self) -> None:
        if self.signals is not None:
            _check(self.signals)
        if isinstance(self.stop_words, str):
            # The words take the place of the path, so that a stage runs again when they change.
            object.__setattr__(self, "stop_words", _read(self.stop_words))

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the columns of the signals. Raises PlanError where `field` is no text."""
        require_text(schema, self.field, operator="RedPajamaSignals")
        return {name: SPANS if name.startswith("rps_lines") else pa.float64() for name in self.signals or SIGNALS}

    def setup(self, context: Context) -> None:
        """Load the kernels, compiled by the first worker of this version that needs them."""
        warm(self, self.score)

    def score(self, batch: pa.RecordBatch) -> Columns:
        """Compute the signals, without one Python object per row."""
        from fdf_ops_text.analysis.rpv2_signals import (
            of_lorem_ipsum,
            of_normal_lines,
            of_normal_words,
            of_raw_text,
            of_raw_words,
        )

        column, signals = batch.column(self.field), self.signals or SIGNALS
        stop_words = english_stop_words() if self.stop_words is None else tuple(self.stop_words)
        longest = max(_NGRAMS.get(name, 1) for name in signals)
        measures: dict[tuple[str, ...], Callable[[], dict[str, pa.Array]]] = {
            _RAW_WORDS: lambda: of_raw_words(column, stop_words),
            _RAW_TEXT: lambda: of_raw_text(column),
            _NORMAL_LINES: lambda: of_normal_lines(column),
            _LOREM_IPSUM: lambda: of_lorem_ipsum(column),
            _NORMAL_WORDS: lambda: of_normal_words(column, longest),
        }
        found: dict[str, pa.Array] = {}
        for names, measure in measures.items():
            if not set(names).isdisjoint(signals):
                found |= measure()
        return {name: found[name] for name in signals}


@cache
def english_stop_words() -> tuple[str, ...]:
    """Return the 570 English words of stopwords-json 1.2.0, which RedPajama-v2 counts."""
    return _words_in(files("fdf_ops_text").joinpath("data", "stop_words_en.txt").read_text("utf-8"))


def _check(names: tuple[str, ...]) -> None:
    if not names:
        raise ValueError("`signals` is empty: name some, or leave it out for all of them")
    for name in names:
        if name not in SIGNALS:
            hint = did_you_mean(name, SIGNALS) or f"there are: {', '.join(SIGNALS)}"
            raise ValueError(f"`signals` names {name}, which is none ({hint})")
        if names.count(name) > 1:
            raise ValueError(f"`signals` names {name} more than once")


def _words_in(text: str) -> tuple[str, ...]:
    words = (line.strip() for line in text.splitlines() if not line.startswith("#"))
    return tuple(dict.fromkeys(word for word in words if word))


def _read(path: str) -> tuple[str, ...]:
    try:
        words = _words_in(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(
            f"`stop_words: {path}` cannot be read ({reason}): name a file with one word on a line, or list the words"
        ) from error
    if not words:
        raise ValueError(f"`stop_words: {path}` has no word: write one on a line")
    return words
