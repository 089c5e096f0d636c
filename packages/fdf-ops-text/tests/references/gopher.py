"""Gopher's rules as dolma, DCLM and the paper read them, in plain Python, written from their descriptions.

Each function returns the first reason to drop a text, in the order of the operator, or "keep". Sources: dolma 1.2.1,
taggers/gopher.py (gopher_v1), with configs/dolma-v1_5/mixing/cc-head.yaml; DCLM 361714b, content_filters.py, with
dclm_baseline_refinedweb.yaml; Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter

from uniseg.wordbreak import words as unicode_words

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
TOP = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def first(*rules):
    """Return the name of the first rule that is broken."""
    return next((name for name, broken in rules if broken), "keep")


def share(part, whole):
    return part / whole if whole else 0.0


def lettered(words):
    return sum(any(character.isalpha() for character in word) for word in words)


def dolma_quality(text):
    words = text.split()
    lines = text.split("\n")
    median = statistics.median(map(len, words)) if words else 0
    bullets = sum(line[:1] in {"*", "-"} for line in lines)
    return first(
        ("gopher_short_doc", len(words) < 50),
        ("gopher_long_doc", len(words) > 100_000),
        ("gopher_below_avg_threshold", median < 3),
        ("gopher_above_avg_threshold", median > 10),
        ("gopher_too_many_symbols", share(sum("#" in w or "…" in w for w in words), len(words)) > 0.1),
        ("gopher_below_alpha_threshold", share(lettered(words), len(words)) < 0.8),
        ("gopher_enough_stop_words", sum(word in STOP_WORDS for word in words) < 2),
        ("gopher_too_many_bullets", bullets / len(lines) > 0.9),
        ("gopher_too_many_end_ellipsis", sum(line[-1:] == "…" for line in lines) / len(lines) > 0.3),
    )


def fasttext_words(text):
    """Return fastText's tokens that start with a letter or a digit."""
    return [w for w in re.split("[ \n\r\t\v\f\0]+", text) if w and w[0].isalnum()]


def dclm_quality(text):
    n = len(fasttext_words(text))
    words = text.split()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    mean = share(sum(map(len, words)), len(words))
    symbols = sum(text.count(symbol) for symbol in ("#", "...", ". . .", "…"))
    bullets = sum(line.startswith(("●", "•", "*", "-")) for line in lines)
    trailing = sum(line.endswith(("...", ". . .", "…")) for line in lines)
    return first(
        ("gopher_short_doc", n < 50),
        ("gopher_long_doc", n > 100_000),
        ("gopher_below_avg_threshold", mean < 3),
        ("gopher_above_avg_threshold", mean > 10),
        ("gopher_too_many_symbols", not words or symbols / len(words) > 0.1),
        ("gopher_too_many_bullets", bullets > 0.9 * len(lines)),
        ("gopher_too_many_end_ellipsis", trailing > 0.3 * len(lines)),
        ("gopher_below_alpha_threshold", not words or (len(words) - lettered(words)) / len(words) > 0.2),
        ("gopher_enough_stop_words", sum(word.lower() in STOP_WORDS for word in words) < 2),
    )


def paper_quality(text):
    words = text.split()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    n = len(words)
    bullets = sum(line[0] in "●•*-" for line in lines)
    return first(
        ("gopher_short_doc", n < 50),
        ("gopher_long_doc", n > 100_000),
        ("gopher_below_avg_threshold", n > 0 and sum(map(len, words)) / n < 3),
        ("gopher_above_avg_threshold", n > 0 and sum(map(len, words)) / n > 10),
        ("gopher_too_many_hashes", share(text.count("#"), n) > 0.1),
        ("gopher_too_many_ellipsis", share(text.count("...") + text.count("…"), n) > 0.1),
        ("gopher_too_many_bullets", share(bullets, len(lines)) > 0.9),
        ("gopher_too_many_end_ellipsis", share(sum(x.endswith(("...", "…")) for x in lines), len(lines)) > 0.3),
        ("gopher_below_alpha_threshold", n > 0 and lettered(words) / n < 0.8),
        ("gopher_enough_stop_words", len(STOP_WORDS & set(words)) < 2),
    )


def grams_of(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def size(gram):
    return sum(map(len, gram))


def dolma_repetition(text):
    words = text.split()
    chars = max(size(words), 1)
    lines = Counter(text.split("\n"))
    several = [(line, count) for line, count in lines.items() if count > 1]
    rules = [
        ("dup_line_frac", sum(count for _, count in several) / lines.total() > 0.3),
        ("dup_line_char_frac", sum(len(line) * count for line, count in several) / chars > 0.3),
    ]
    for n, bound in (TOP | DUPLICATED).items():
        counts = Counter(grams_of(words, n))
        if not counts:
            continue
        if n in TOP:
            highest = max(counts.values())
            gram = next(gram for gram, count in counts.items() if count == highest)
            rules.append((f"top_{n}_gram", highest * size(gram) / chars > bound))
        else:
            repeated = sum(size(gram) * count for gram, count in counts.items() if count > 1)
            every = max(sum(size(gram) * count for gram, count in counts.items()), 1)
            rules.append((f"duplicated_{n}_n_grams", repeated / every > bound))
    return first(*rules)


def dclm_repetition(text):
    lines = Counter(line.strip() for line in text.split("\n") if line.strip())
    paragraphs = Counter(part.strip() for part in text.split("\n\n") if part.strip())
    if not lines:
        return "empty"
    rules = []
    for measure in ("frac", "char_frac"):
        for name, parts in (("line", lines), ("para", paragraphs)):
            weight = {part: len(part) if measure == "char_frac" else 1 for part in parts}
            repeated = sum(weight[part] * count for part, count in parts.items() if count > 1)
            every = sum(weight[part] * count for part, count in parts.items())
            bound = 0.2 if measure == "char_frac" else 0.3
            rules.append((f"dup_{name}_{measure}", parts.total() > 1 and repeated / every > bound))
    words = [word for word in unicode_words(text) if word[0].isalnum()]
    for n, bound in (TOP | DUPLICATED).items():
        grams = grams_of(words, n)
        counts = Counter(grams)
        if not counts or max(counts.values()) == 1:
            continue
        if n in TOP:
            highest = max(counts.values())
            longest = max(size(gram) for gram, count in counts.items() if count == highest)
            rules.append((f"top_{n}_gram", highest * longest / size(words) > bound))
        else:
            covered = {i + j for i, gram in enumerate(grams) if counts[gram] > 1 for j in range(n)}
            rules.append((f"duplicated_{n}_n_grams", sum(len(words[i]) for i in covered) / size(words) > bound))
    return first(*rules)
