"""RedPajama-v2's signals in plain Python, one text at a time, from their definitions.

Definitions: Weber et al. 2024 (arXiv 2411.12372), and where that is silent togethercomputer/RedPajama-Data, commit
6d2cee9 (core/document.py, core/quality_signals, utilities/text/normalization.py). None of its code is here.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter

BULLETS = "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013"
TERMINAL = (".", "!", "?", "\u201d")
ELLIPSES = ("...", "\u2026")


def raw_words(text):
    return re.findall(r"\w+|[^\w\s]+", text)


def normalized(text):
    kept = text.translate(dict.fromkeys(map(ord, string.punctuation)))
    return unicodedata.normalize("NFD", re.sub(r"\s+", " ", kept.lower().strip()))


def lines(text):
    """Return start, end and text of each line, with its line feed."""
    found, start = [], 0
    while start < len(text):
        feed = text.find("\n", start)
        end = len(text) if feed < 0 else feed + 1
        found.append((start, end, text[start:end]))
        start = end
    return found


def signals(text, stop_words):
    """Return every signal of a text by name; a signal of lines as a list of (start, end, value)."""
    raw, normal = raw_words(text), normalized(text)
    words = normal.split()
    told = {
        "rps_doc_num_sentences": float(len(re.findall(r"\b[^.!?]+[.!?]*", text))),
        "rps_doc_word_count": float(len(words)),
        "rps_doc_curly_bracket": of((text.count("{") + text.count("}")), len(text), empty=0.0),
        "rps_doc_lorem_ipsum": of(lorem_ipsum(normal), len(normal), empty=0.0),
        "rps_doc_mean_word_length": of(sum(map(len, words)), len(words)),
        "rps_doc_frac_unique_words": of(len(set(words)), len(words)),
        "rps_doc_unigram_entropy": entropy(words),
        "rps_doc_symbol_to_word_ratio": of(sum(map(text.count, ("#", *ELLIPSES))), len(raw)),
        "rps_doc_frac_all_caps_words": of(sum(word.isupper() for word in raw), len(raw)),
        "rps_doc_frac_lines_end_with_ellipsis": of(
            sum(line.rstrip().endswith(ELLIPSES) for _, _, line in lines(text)), len(lines(text))
        ),
        "rps_doc_stop_word_fraction": of(sum(word in stop_words for word in raw), len(raw)) if words else 0.0,
    }
    without = sum(re.search("[a-zA-Z]", word) is not None for word in raw)
    told["rps_doc_frac_no_alph_words"] = round(1.0 - without / len(raw), 8) if raw else None
    for n in (2, 3, 4):
        told[f"rps_doc_frac_chars_top_{n}gram"] = top(words, n)
    for n in range(5, 11):
        told[f"rps_doc_frac_chars_dupe_{n}grams"] = duplicate(words, n)
    return {**told, **of_lines(text)}


def of(part, whole, *, empty=None):
    return round(part / whole, 8) if whole else empty


def lorem_ipsum(normal):
    return len(re.findall("lorem ipsum", normal, re.IGNORECASE)) if "lorem ipsum" in normal else 0


def entropy(words):
    if not words:
        return None
    total = 0.0
    for count in Counter(words).values():
        total += -count / len(words) * math.log(count / len(words))
    return round(total, 8)


def grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def top(words, n):
    common = Counter(grams(words, n)).most_common(1)
    if not common or common[0][1] == 1:
        return 0.0
    gram, count = common[0]
    return round(len("".join(gram)) * count / len("".join(words)), 8)


def duplicate(words, n):
    counts = Counter(grams(words, n))
    inside = set()
    for i, gram in enumerate(grams(words, n)):
        if counts[gram] > 1:
            inside.update(range(i, i + n))
    return round(sum(len(words[i]) for i in inside) / len("".join(words)), 8) if inside else 0.0


def of_lines(text):
    told = {
        "rps_lines_ending_with_terminal_punctution_mark": lambda line: float(line.rstrip().endswith(TERMINAL)),
        "rps_lines_javascript_counts": lambda line: float(normalized(line).split().count("javascript")),
        "rps_lines_num_words": lambda line: float(len(normalized(line).split())),
        "rps_lines_numerical_chars_fraction": lambda line: of(
            sum(c.isnumeric() for c in normalized(line)), len(normalized(line)), empty=0.0
        ),
        "rps_lines_start_with_bulletpoint": lambda line: float(line.lstrip().startswith(tuple(BULLETS))),
        "rps_lines_uppercase_letter_fraction": lambda line: of(sum(c.isupper() for c in line), len(line)),
    }
    spans = {name: [(start, end, value(line)) for start, end, line in lines(text)] for name, value in told.items()}
    if not text:
        spans["rps_lines_start_with_bulletpoint"] = [(0, 0, None)]
    return spans
