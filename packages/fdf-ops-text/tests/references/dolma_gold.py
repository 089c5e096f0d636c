"""Writes what dolma's own tagger makes of some texts: ``python dolma_gold.py > dolma-1.2.1.jsonl``.

It needs an environment with dolma 1.2.1 and numpy, and nothing of this repository. The first line of the file says how
it was made; each other line holds a text and the first bound of Dolma 1.5's mix for the web that it breaks
(configs/dolma-v1_5/mixing/cc-head.yaml, in its order), by the attributes of the tagger gopher_v1.
"""

from __future__ import annotations

import json
import random
import sys
from importlib.metadata import version

SENTENCES = [
    "It was to be the last day of that summer, and the children knew it.",
    "They had with them a basket of bread and a little cheese, which they meant to eat by the river.",
    "Nobody spoke of school, of winter, or of the long road home.",
    "Wait\u2026",
    "# Heading # two",
    "- a point",
    "* another point of the list",
    "12 34 56 , . ;",
    "to go on and on to go on and on to go on and on",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\u3000\u4e8c\u3064\u306e\u6587\u3002",
    "\u00e9t\u00e9 a\u0301 \U0001f469\u200d\U0001f33e",
    "Donaudampfschifffahrtsgesellschaft Rindfleischetikettierung",
    "a b c d e f g",
    "",
]
BOUNDS = {"word_count": (50, 100_000), "median_word_length": (3, 10), "symbol_to_word_ratio": (0, 0.1)}
BOUNDS |= {"fraction_of_words_with_alpha_character": (0.8, 1), "required_word_count": (2, 1e9)}
BOUNDS |= {"fraction_of_lines_starting_with_bullet_point": (0, 0.9), "fraction_of_lines_ending_with_ellipsis": (0, 0.3)}
BOUNDS |= {"fraction_of_duplicate_lines": (0, 0.3), "fraction_of_characters_in_duplicate_lines": (0, 0.3)}
TOP = {2: 0.2, 3: 0.18, 4: 0.16}
BOUNDS |= {f"fraction_of_characters_in_most_common_{n}grams": (0, bound) for n, bound in TOP.items()}
BOUNDS |= {f"fraction_of_characters_in_duplicate_{n}grams": (0, (20 - n) / 100) for n in range(5, 11)}


def texts():
    """Return the edge cases of one sentence, and mixtures of few sentences, which repeat, and of many."""
    draw = random.Random(20)
    yield from SENTENCES
    for _ in range(110):
        pool = draw.sample(SENTENCES, draw.randint(1, len(SENTENCES)))
        parts = draw.choices(pool, k=draw.randint(1, 12))
        yield "".join(part + draw.choice([" ", " ", "\n", "\n", "\n\n", " \n"]) for part in parts)
    for _ in range(60):
        plain = SENTENCES[:3] * draw.randint(1, 2)
        mixed = plain + draw.choices(SENTENCES[3:], k=draw.randint(0, 6))
        draw.shuffle(mixed)
        yield draw.choice([" ", "\n"]).join(mixed)


def decision(text):
    """Return the first attribute that is out of bounds, or "keep"."""
    from dolma.taggers.gopher import get_attributes

    told = {span.type: span.score for span in get_attributes(text).as_spans()}
    return next(
        (name for name, (low, high) in BOUNDS.items() if name in told and not low <= told[name] <= high), "keep"
    )


if __name__ == "__main__":
    head = {"dolma": version("dolma"), "python": sys.version.split()[0], "made by": "python dolma_gold.py"}
    print(json.dumps(head))
    for each in texts():
        print(json.dumps({"text": each, "decision": decision(each)}, ensure_ascii=False))
