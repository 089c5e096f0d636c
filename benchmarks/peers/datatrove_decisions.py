"""Writes what datatrove decides on each document of a corpus, every filter on the original text, alone.

By filter: the reason for which datatrove drops a document, or "keep", or "error: ..." where the filter raised.
`c4_text` and `c4_no_terminal_text` are the SHA-256 of the text as C4 rewrote it, null where it is dropped. For tests:
`words` (how many), `words_sha256` (the first 16 digits of the SHA-256 of the words joined by newlines, which no word
holds) and `sentences` (how many).

How to run it: decisions.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.text import split_into_sentences, split_into_words
from decisions import KEEP, Decider, digest, write_decisions


def main() -> None:
    """Decide on a corpus."""
    # Those that ask for the words of the whole text come first: datatrove remembers its last five texts' words.
    deciders = {
        "gopher_quality": by_filter("gopher_quality", GopherQualityFilter),
        "gopher_repetition": by_filter("gopher_repetition", GopherRepetitionFilter),
        "fineweb": by_filter("fineweb", FineWebQualityFilter),
        "c4": by_filter("c4", C4QualityFilter, rewrites=True),
        "c4_no_terminal": by_filter(
            "c4_no_terminal", lambda: C4QualityFilter(filter_no_terminal_punct=False), rewrites=True
        ),
    }
    write_decisions(deciders, packages=("datatrove", "spacy", "numpy"), gold=(words_and_sentences,), doc=__doc__)


def by_filter(name: str, make: Callable[[], Any], *, rewrites: bool = False) -> Decider:
    """Return what decides by one of datatrove's filters, with its default parameters or those given."""
    step = make()

    def decide(text: str) -> dict[str, str | None]:
        document = Document(text=text, id="")
        decided: dict[str, str | None] = {name: decision(step, document)}
        if rewrites:
            decided[f"{name}_text"] = digest(document.text) if decided[name] == KEEP else None
        return decided

    return decide


def decision(step: Any, document: Document) -> str:
    """Return "keep", the reason for dropping, or what the filter raised (which would end datatrove's run)."""
    try:
        answer = step.filter(document)
    except Exception as raised:  # noqa: BLE001 (whatever it is, it is what datatrove does with this document)
        return f"error: {type(raised).__name__}"
    keeps, reason = answer if isinstance(answer, tuple) else (answer, "dropped")
    return KEEP if keeps else str(reason)


def words_and_sentences(text: str) -> dict[str, str | int]:
    """Tell datatrove's words of a text, and how many sentences it finds."""
    words = split_into_words(text)
    return {
        "words": len(words),
        "words_sha256": digest("\n".join(words))[:16],
        "sentences": len(split_into_sentences(text)),
    }


if __name__ == "__main__":
    main()
