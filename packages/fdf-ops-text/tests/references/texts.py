"""Texts that rules about words and lines may stumble over, and strategies that make more of them."""

from __future__ import annotations

from hypothesis import strategies as st

PROSE = (
    "It was to be the last day of that summer, and the children knew it. They had with them a basket of bread "
    "and a little cheese, which they meant to eat by the river when the sun stood high. Nobody spoke of school, "
    "of winter, or of the long road home."
)
EDGES = [
    "",
    " ",
    "\n",
    "\n\n\n",
    "word",
    "...",
    "!!! ??? --- ###",
    "\r\n\r\n",
    "line one\r\nline two\r\nline one\r\n",
    "\u00a0\u2003\u3000\x85\x1c",
    "a\u00a0b\u2003c\u3000d\x85e\u2028f",
    "\U0001f469\u200d\U0001f33e\U0001f469\u200d\U0001f33e \U0001f1e9\U0001f1ea",
    "e\u0301e\u0301 e\u0301",
    "日本語のテキスト。二つの文。日本語のテキスト。",
    "هذا نص عربي، وفيه جملتان. هذا نص عربي.",
    "ภาษาไทยไม่มีช่องว่าง",
    "x" * 5000,
    "x " * 500,
    "nul\x00word\x00 and\x00more",
    "This is a test.",
    ". . . . . . . . .",
    "- one\n* two\n\u2022 three\n\u25cf four\n - five",
    "wait\u2026\nwait \u2026 \nwait...\nwait . . .\n",
    PROSE,
    PROSE + "\n\n" + PROSE,
    (PROSE + "\n") * 3,
    PROSE.upper(),
]
WORDS = st.sampled_from(
    [
        "the",
        "The",
        "of",
        "AND",
        "be",
        "with",
        "that",
        "tHaT",
        "word",
        "#",
        "##x",
        "...",
        "wait....",
        "…",
        "a…b",
        ".",
        "..",
        "-",
        "•",
        "*",
        "●",
        "-x",
        "12",
        "3.5",
        "é",
        "日本。",
        "(end.)",
        "can't",
        "x_y",
        "well-known",
        "\u212aind",
        "\u017fo",
        "😀",
        "\x00",
        "{brace}",
        "it",
        "it",
        "it",
    ]
)
SPACES = st.sampled_from([" "] * 8 + ["\n", "\n\n", "\n\n\n", " \n", "\r\n", "\u3000", "\t", "\u2028", ""])
BUSY = st.lists(st.tuples(WORDS, SPACES), max_size=90).map(lambda parts: "".join(w + s for w, s in parts))
# Few words and a long text: much repeats.
REPETITIVE = st.lists(
    st.tuples(st.sampled_from(["aa", "b", "ccc", "d-e", "ff."]), st.sampled_from([" ", " ", "\n", "\n\n"])), max_size=60
).map(lambda parts: "".join(w + s for w, s in parts))
ANY = st.text(st.characters(codec="utf-8"), max_size=40)
