"""Line-wise rules of C4 and RefinedWeb as DCLM applies them, in plain Python, written from their descriptions.

DCLM 361714b: modifiers.py with c4.yaml and dclm_baseline_refinedweb.yaml. Each step takes a text and returns a text.
"""

from __future__ import annotations

import re

from references.gopher import fasttext_words

POLICIES = "terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"
NOUNS = "likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views|followers"
COUNTER = re.compile(rf"^\W*\d(?:,|\.|\d)*[kmb]?\s+(?:{NOUNS})\W*$")


def kept(text, keep):
    return "\n".join(line for line in text.split("\n") if keep(line))


def cut(text, pattern, most_words):
    found = []
    for line in text.split("\n"):
        left = re.sub(pattern, "", line, flags=re.IGNORECASE) if len(line.split()) <= most_words else line
        if left.strip() or not line or len(line.split()) > most_words:
            found.append(left)
    return "\n".join(found).strip()


def share_of(line, test):
    return sum(map(test, line)) / len(line) if line else 0


def refinedweb(text, most_feeds=2):
    text = re.sub(f"\n{{{most_feeds + 1},}}", "\n" * most_feeds, text)
    text = kept(text, lambda line: share_of(line, str.isupper) <= 0.5).strip()
    text = kept(text, lambda line: share_of(line, str.isdigit) <= 0.999999).strip()
    text = kept(text, lambda line: not COUNTER.search(line.lower())).strip()
    text = kept(text, lambda line: not line or len(line.split()) >= 2)
    text = cut(text, r"\s?(?:items in cart)", 10)
    text = cut(text, r"\s?(?:read more...)$", 10)
    return cut(text, r"^(?:sign-in)\s?", 10)


def refinedweb_reason(text):
    before, after = len(fasttext_words(text)), refinedweb(text)
    if before == 0 or not after:
        return "empty"
    return "too_many_words_removed" if (before - len(fasttext_words(after))) / before > 0.05 else "keep"


def dclm_c4(text):
    """Return the reason that condemns a text before sentences are counted (or "keep"), and the text that is left."""
    reason = "too_many_chars" if len(text) > 190_000 else "keep"
    text = kept(text, lambda line: all(len(word) <= 1000 for word in line.split()))
    text = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", text)
    text = kept(text, lambda line: not line or re.search(r'[.!?"…]\s*$', line))
    text = kept(text, lambda line: not re.search(r"(?:\.\.\.|…)\s*$", line))
    text = kept(text, lambda line: not line or len(line.split()) >= 5)
    if "lorem ipsum" in text.lower() and reason == "keep":
        reason = "lorem_ipsum"
    text = kept(text, lambda line: not re.search("javascript", line, re.IGNORECASE)).strip()
    if "{" in text and reason == "keep":
        reason = "curly_bracket"
    return reason, kept(text, lambda line: not re.search(POLICIES, line, re.IGNORECASE)).strip()


def has_paragraphs(text):
    return sorted(map(len, text.split("\n")), reverse=True)[2:3] >= [200]
