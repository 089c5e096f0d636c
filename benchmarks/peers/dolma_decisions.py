"""Writes what dolma decides on each document of a corpus, by its taggers and its mixer's published bounds.

dolma's taggers only score, and round scores to five digits; documents are dropped by the mixer. For `gopher_v1` and
`gopher_v2` the bounds are those of configs/dolma-v1_5/mixing/cc-head.yaml (allenai/dolma at 2daae12), in its order:
the decision is the name of the first attribute that is out of bounds, or "keep". (The file misspells the names of the
most common n-grams, so that as it stands these drop nothing; here they do.) A text with fewer than n words has no
n-grams, and no attribute for them.

`c4_v1` and `c4_v2` tell what the taggers mark: how many lines that lack an end or words, and what the text has.

How to run it: decisions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nltk
from decisions import KEEP, Decider, write_decisions

Scores = Mapping[str, list[tuple[int, int, float]]]

LEAST: dict[str, float] = {
    "word_count": 50,
    "median_word_length": 3,
    "fraction_of_words_with_alpha_character": 0.8,
    "required_word_count": 2,
}
MOST: dict[str, float] = {
    "word_count": 100_000,
    "median_word_length": 10,
    "symbol_to_word_ratio": 0.1,
    "fraction_of_lines_starting_with_bullet_point": 0.9,
    "fraction_of_lines_ending_with_ellipsis": 0.3,
    "fraction_of_duplicate_lines": 0.3,
    "fraction_of_characters_in_duplicate_lines": 0.3,
    "fraction_of_characters_in_most_common_2grams": 0.2,
    "fraction_of_characters_in_most_common_3grams": 0.18,
    "fraction_of_characters_in_most_common_4grams": 0.16,
    "fraction_of_characters_in_duplicate_5grams": 0.15,
    "fraction_of_characters_in_duplicate_6grams": 0.14,
    "fraction_of_characters_in_duplicate_7grams": 0.13,
    "fraction_of_characters_in_duplicate_8grams": 0.12,
    "fraction_of_characters_in_duplicate_9grams": 0.11,
    "fraction_of_characters_in_duplicate_10grams": 0.10,
}
ORDER = (
    *("word_count", "median_word_length", "symbol_to_word_ratio", "fraction_of_words_with_alpha_character"),
    *("required_word_count", *list(MOST)[3:]),
)


def main() -> None:
    """Decide on a corpus."""
    # dolma asks for a download of sentence models when it is imported; none of this needs them.
    nltk.download = lambda *_, **__: False
    deciders = {name: by_gopher(name) for name in ("gopher_v1", "gopher_v2")}
    deciders |= {name: by_c4(name) for name in ("c4_v1", "c4_v2")}
    write_decisions(deciders, packages=("dolma",), doc=__doc__)


def tagger(name: str) -> Callable[[str], Scores]:
    """Return one of dolma's taggers as a function of a text, which rounds as dolma does when it writes scores."""
    from dolma.core.data_types import InputSpec
    from dolma.core.registry import TaggerRegistry

    made: Any = TaggerRegistry.get(name)()
    return lambda text: made.tag(InputSpec(id="", text=text))


def by_gopher(name: str) -> Decider:
    """Return what compares the scores of one of the Gopher taggers with the mixer's bounds."""
    tag = tagger(name)

    def decide(text: str) -> dict[str, str]:
        scores = tag(text)
        return {name: next((attribute for attribute in ORDER if is_out(scores, attribute)), KEEP)}

    return decide


def is_out(scores: Scores, attribute: str) -> bool:
    """Tell whether a document has the attribute, with a score out of bounds."""
    if attribute not in scores:
        return False
    score = scores[attribute][0][2]
    return score < LEAST.get(attribute, score) or score > MOST.get(attribute, score)


def by_c4(name: str) -> Decider:
    """Return what tells the marks that one of the C4 taggers makes."""
    tag = tagger(name)

    def decide(text: str) -> dict[str, str]:
        marks = tag(text)
        counted = [f"{mark}={len(marks[mark])}" for mark in sorted(marks) if mark.startswith("lines_")]
        return {name: " ".join([*counted, *(mark for mark in sorted(marks) if mark.startswith("has_"))]) or KEEP}

    return decide


if __name__ == "__main__":
    main()
