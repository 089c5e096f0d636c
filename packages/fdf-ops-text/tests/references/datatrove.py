"""The decisions of datatrove 0.10.1's quality filters in plain Python, one text at a time, from their definitions.

Definitions: the rules as published (Rae et al. 2021, appendix A; Raffel et al. 2020, section 2.2; Penedo et al. 2024,
section 3.6), and where these are silent what datatrove 0.10.1 was seen to decide. None of its code is here. Words are
handed in, so that each rule serves any segmentation; `None` as a bound switches a rule off.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from fdf_ops_text.characters import sentence_ends, symbols, terminal_punctuation

SYMBOLS = frozenset(map(chr, symbols()))
TERMINAL = tuple(map(chr, sorted(terminal_punctuation())))
SENTENCE_ENDS = frozenset(map(chr, sentence_ends()))
CLOSING = "\"'\u201d\u2019\u00bb\u203a)]}\u300d\u300f\uff09\u3011\u300b\u3009"
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
QUALITY = {
    "min_words": 50,
    "max_words": 100_000,
    "min_word_length": 3,
    "max_word_length": 10,
    "max_symbols": 0.1,
    "max_bullet_lines": 0.9,
    "max_ellipsis_lines": 0.3,
    "min_letter_words": 0.8,
    "min_stop_words": 2,
}
REPETITION = {
    "dup_para_frac": 0.3,
    "dup_para_char_frac": 0.2,
    "dup_line_frac": 0.3,
    "dup_line_char_frac": 0.2,
    "top_2_gram": 0.2,
    "top_3_gram": 0.18,
    "top_4_gram": 0.16,
    "duplicated_5_n_grams": 0.15,
    "duplicated_6_n_grams": 0.14,
    "duplicated_7_n_grams": 0.13,
    "duplicated_8_n_grams": 0.12,
    "duplicated_9_n_grams": 0.11,
    "duplicated_10_n_grams": 0.10,
}
FINEWEB = {"line_punct_ratio": 0.12, "short_line_ratio": 0.67, "char_dup_ratio": 0.01, "list_ratio": 0.3}
C4 = {"min_sentences": 5, "min_words_per_line": 3, "max_word_length": 1000}
T5 = {"min_sentences": 3, "min_words_per_line": 5, "max_word_length": 1000}


# --- words and sentences ----------------------------------------------------------------------------------------------


def spacy_words(nlp, text):
    """Return spaCy's tokens of a whole text without the whitespace around them, those of nothing else left out."""
    with nlp.memory_zone():
        stripped = [token.text.strip() for token in nlp.tokenizer(text)]
    return [word for word in stripped if word]


def spacy_sentences(nlp, text):
    """Count the sentences that a mark of one token ends, if a token that is no punctuation comes after it."""
    with nlp.memory_zone():
        tokens = [token.text for token in nlp.tokenizer(text)]
    count, ended = 1, False
    for token in tokens:
        if token in SENTENCE_ENDS:
            ended = True
        elif ended and not all(unicodedata.category(c)[0] == "P" for c in token):
            count, ended = count + 1, False
    return count


def plain_sentences(text):
    """Count sentences of whitespace words: one ends with a word that ends in a mark, closing ones behind it aside."""
    words = text.split()
    return 1 + sum(word.rstrip(CLOSING)[-1:] in SENTENCE_ENDS for word in words[:-1])


# --- Gopher -----------------------------------------------------------------------------------------------------------


def gopher_quality(text, words, stop_words=STOP_WORDS, **changed):
    """Return "keep" or the first reason to drop a text."""
    bounds = {**QUALITY, **changed}
    plain = [word for word in words if set(word) - SYMBOLS]
    lines = text.splitlines()
    n = len(words)
    ellipses = sum(line.rstrip().endswith(("...", "\u2026")) for line in lines)
    bullets = sum(line.lstrip().startswith(("\u2022", "-")) for line in lines)
    letters = sum(any(map(str.isalpha, word)) for word in words)
    mean = of(sum(map(len, plain)), len(plain))
    rules = (
        ("gopher_short_doc", below(len(plain), bounds["min_words"])),
        ("gopher_long_doc", above(len(plain), bounds["max_words"])),
        ("gopher_below_avg_threshold", below(mean, bounds["min_word_length"])),
        ("gopher_above_avg_threshold", above(mean, bounds["max_word_length"])),
        ("gopher_too_many_hashes", above(of(text.count("#"), n), bounds["max_symbols"])),
        ("gopher_too_many_ellipsis", above(of(text.count("...") + text.count("\u2026"), n), bounds["max_symbols"])),
        ("gopher_too_many_bullets", above(of(bullets, len(lines)), bounds["max_bullet_lines"])),
        ("gopher_too_many_end_ellipsis", above(of(ellipses, len(lines)), bounds["max_ellipsis_lines"])),
        ("gopher_below_alpha_threshold", below(of(letters, n), bounds["min_letter_words"])),
        ("gopher_enough_stop_words", below(len(set(stop_words) & set(words)), bounds["min_stop_words"])),
    )
    return first(rules)


def gopher_repetition(text, words, **changed):
    """Return "keep" or the first reason to drop a text."""
    bounds = {**REPETITION, **changed}
    if not text:
        return "empty"
    shares = repetition_shares(text, words)
    return first((name, above(shares.get(name), bound)) for name, bound in bounds.items())


def repetition_shares(text, words):
    """Return what repeats in a text that is not empty, as shares of it; no share of n-grams longer than the text."""
    shares = {}
    paragraphs = re.split(r"\n{2,}", text.strip())
    lines = re.split(r"\n+", text)
    for name, parts in (("dup_para", paragraphs), ("dup_line", lines)):
        repeated = repeats(parts)
        shares[f"{name}_frac"] = len(repeated) / len(parts)
        shares[f"{name}_char_frac"] = sum(map(len, repeated)) / len(text)
    for n in (2, 3, 4):
        grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        if grams:
            # `max` keeps the first of several, and a Counter its keys in the order in which they were seen.
            gram, count = max(Counter(grams).items(), key=lambda item: item[1])
            shares[f"top_{n}_gram"] = len(gram) * count / len(text)
    for n in range(5, 11):
        shares[f"duplicated_{n}_n_grams"] = repeated_runs(words, n) / len(text)
    return shares


def repeated_runs(words, n):
    """Return the characters of runs of n words, written without spaces, that stood before; found ones are jumped."""
    seen, chars, i = set(), 0, 0
    while i + n <= len(words):
        run = "".join(words[i : i + n])
        if run in seen:
            chars += len(run)
            i += n
        else:
            seen.add(run)
            i += 1
    return chars


# --- FineWeb ----------------------------------------------------------------------------------------------------------


def fineweb(text, words, *, exclude_zero=False, short_length=30, **changed):
    """Return "keep" or the first reason to drop a text."""
    bounds = {**FINEWEB, **changed}
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return "empty"
    ended, short, repeated = line_counts(lines, short_length)
    few = below(ended / len(lines), bounds["line_punct_ratio"]) and not (ended == 0 and exclude_zero)
    chars = len(text) - text.count("\n")
    rules = (
        ("line_punct_ratio", few),
        ("short_line_ratio", above(short / len(lines), bounds["short_line_ratio"])),
        ("char_dup_ratio", above(repeated / chars, bounds["char_dup_ratio"])),
        ("list_ratio", above(of(text.count("\n"), len(words)), bounds["list_ratio"])),
    )
    return first(rules)


def line_counts(lines, short_length):
    """Return lines that end with a terminal mark, short ones, and the characters of those that stood before."""
    ended = sum(line.endswith(TERMINAL) for line in lines)
    short = sum(len(line) <= short_length for line in lines)
    return ended, short, sum(map(len, repeats(lines)))


# --- C4 ---------------------------------------------------------------------------------------------------------------


def c4(text, sentences, *, t5=False, **changed):
    """Return "keep" or the reason to drop a text, and the text as its kept lines make it.

    `sentences` counts those of a line. A phrase that condemns a text does not end the walk over its lines.
    """
    bounds = {**(T5 if t5 else C4), **changed}
    kept, reason = c4_lines(text, bounds, t5=t5)
    count, fewest = sum(map(sentences, kept)), bounds["min_sentences"]
    if reason is None and below(count, fewest):
        reason = "too_few_sentences"
    return reason or "keep", "\n".join(kept).strip()


def c4_lines(text, bounds, *, t5=False):
    """Return the lines that are kept, and the first phrase that condemns the text, or None."""
    kept, reason = [], None
    for raw in text.splitlines():
        line = raw.strip()
        words = line.split()
        longest = bounds["max_word_length"]
        if longest is not None and any(len(word) > longest for word in words):
            continue
        if bounds.get("citations", True):
            line = re.sub(r"\[(?:\d*|edit|citation needed)\]", "", line)
            words = line.split() if t5 else words
        marks = (".", "?", "!", '"') if t5 else (".", "?", "!", '"', "'")
        if bounds.get("terminal_punct", True) and (not line.endswith(marks) or line.endswith("...")):
            continue
        if below(len(words), bounds["min_words_per_line"]):
            continue
        lower = line.lower()
        if bounds.get("lorem_ipsum", True) and "lorem ipsum" in lower:
            reason = reason or "lorem_ipsum"
        if bounds.get("javascript", True) and "javascript" in lower:
            continue
        if bounds.get("curly_bracket", True) and "{" in line:
            reason = reason or "curly_bracket"
        if bounds.get("policy", True) and any(policy in lower for policy in POLICIES):
            continue
        kept.append(line)
    return kept, reason


# --- what all rules are made of ---------------------------------------------------------------------------------------


def repeats(parts):
    """Return the parts that stood before."""
    seen = set()
    return [part for part in parts if part in seen or seen.add(part)]


def of(part, whole):
    """Return a share in double precision, or None, which breaks no rule, where there is nothing to share."""
    return part / whole if whole else None


def below(value, bound):
    return bound is not None and value is not None and value < bound


def above(value, bound):
    return bound is not None and value is not None and value > bound


def first(rules):
    return next((reason for reason, broken in rules if broken), "keep")
