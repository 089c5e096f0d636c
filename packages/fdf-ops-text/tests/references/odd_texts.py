# ruff: noqa: RUF001, SIM905 (characters that look alike are what is tested; many short strings read best as one)
"""Random texts of pieces that rules and kernels treat apart, as hypothesis strategies."""

from __future__ import annotations

import string

import pyarrow as pa
from hypothesis import strategies as st

SPACES = [chr(code) for code in range(0x110000) if chr(code).isspace()]
LINE_BREAKS = [*"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", "\r\n", "\n\n", "\n\r", "\n\n\n"]
MARKS = [*string.punctuation, "[citation needed]"]
MARKS += """
... .. .... ...... … …… !!! ?! -- --- — –– “ ” ‘ ’ „ « » ‹ • · ° § 。 ！ ？ ， 、 「 」 ؟ ۔ । ՞ ™ © → ✓ ## '' "" …” ).
." ,) (( [1] [] [١٢] [edit] [Edit] [citation needed] [12
""".split()
# Emoticons, contractions, abbreviations, numbers and addresses: what spaCy has exceptions and patterns for.
CHUNKS = """
:) :-) :(( :((( .:(( (x :'( 8-) <3 </3 xD ^_^ (╯°□°）╯︵┻━┻ ಠ_ಠ ¯\\(ツ)/¯ O.o =] it's It’s can't cannot don't, we'll
I'm 'em 'S y'all would've shouldn't've gonna who's o'clock dogs' a.m. p.m Mr. Mrs. e.g. i.e., U.S. U.S.A etc.
Inc.) Ph.D. a. b. vs. C++ 9am 10p.m. 12km 5kg. 3.5GB 100% 20°C. -5 +49 1,000.50 1-2 3--4 1+1=2 2^3*4 ½ ٣٤ $5
US$20 C$3 €9.99 £5m 5€ ¥¥ http://example.com/a?b=c#d https://www.a-b.co.uk:8080/x_(y). example.com
www.example.org, (http://a.bc) 192.168.0.1 user@example.com <a.b@c.de> mailto:x@y.zz foo.Bar one.two End.Start
a/b either/or well-known x--y a—b re-do- snake_case x=1; if(a<b){return;} foo(bar) a->b <div> &amp; @user #tag
JavaScript
""".split()
# What condemns lines and texts to C4.
CHUNKS += "lorem ipsum|LOREM IPSUM|Terms of Use|privacy policy|use coo\u212aies|uses cookies|Cookie Policy".split("|")
WORDS = "the be The and that with of to have word Words a I x ab b ba IV".split()
OTHERS = """
\x00 \x07 \x7f \u0301 e\u0301 \u200b \u200d \ufeff \xad \u180e \u2060
\U0001f468\u200d\U0001f469\u200d\U0001f467 👍🏽 \u2764\ufe0f 🇩🇪 😀 \U0001d4d0 é ß ſ İ ı \u212a ñandú Ὀδυσσεύς
дом 日本語。 文 이것은 ภาษาไทย السلام עִבְרִית हिन्दी। \U000e0001 \U0010ffff \ud7ff \ue000 ߿ࠀ \uffff\U00010000
""".split()
pieces = (
    st.sampled_from([" ", " ", " ", *LINE_BREAKS])
    | st.sampled_from(WORDS)
    | st.sampled_from(CHUNKS)
    | st.sampled_from(MARKS)
    | st.sampled_from(OTHERS)
    | st.sampled_from(SPACES)
    | st.characters(exclude_categories=("Cs",))
)
odd_texts = (st.lists(pieces, max_size=12) | st.lists(pieces, min_size=15, max_size=40)).map("".join)
"""Pieces one after the other, so that they also meet without a space."""

_separators = st.sampled_from([" ", " ", " ", " ", "  ", "\n", "\n\n", "", "\u00a0", "\r\n", " \n"])
_words = st.sampled_from(WORDS)
_spaced = st.tuples(_words | _words | st.sampled_from(CHUNKS) | st.sampled_from(MARKS + OTHERS), _separators)
prose = (st.lists(_spaced, max_size=12) | st.lists(_spaced, min_size=25, max_size=60)).map(
    lambda parts: "".join(piece + separator for piece, separator in parts)
)
"""Pieces with spaces and line breaks between them."""

# Many lines, of which some are blank, short, bulleted, the same as others, or trail off.
_lines = st.sampled_from(
    [
        "",
        " ",
        "\u3000\u00a0",
        "- x",
        "\u2022",
        "  \u2022 item",
        "*",
        "\u2026",
        "so\u2026 ",
        "...",
        "..",
        "and so on...",
        "dots. . .",
        ". . .",
        "x. .",
        "Done.",
        "Done. ",
        "Done.\r",
        "\u3002",
        "exactly thirty characters long",
        "exactly thirty-one long, it is.",
        "\u00e9" * 30,
        "\u00e9" * 31,
        "\x00",
        "\u0301",
    ]
)
_line = st.tuples(_lines, st.sampled_from(["\n", "\n", "\n", *LINE_BREAKS]))
many_lines = (st.lists(_line, max_size=5) | st.lists(_line, min_size=8, max_size=14)).map(
    lambda parts: "".join(line + end for line, end in parts)
)
texts = odd_texts | prose | st.text(max_size=30)
columns = st.lists(st.none() | texts, max_size=5)
"""The rows of a column, nulls among them."""


def repeated(words):
    """Return lists of a few words, short and long ones."""
    return st.lists(st.sampled_from(words), max_size=20) | st.lists(st.sampled_from(words), min_size=25, max_size=60)


def bounds(names, values):
    """Return thresholds by name, two in three of them off: otherwise the first rules decided on all texts."""
    return st.fixed_dictionaries({name: st.just(False) | st.just(False) | values for name in names})


few_words = repeated(["a", "ab", "b", "ba"])
"""Words that repeat, and that join alike where they are cut apart in different places."""


def column_of(rows, skipped=0):
    """Return rows as a column that begins in the middle of Arrow's buffers where some are `skipped` before it."""
    before = ["bef\u00f6re \u2026", None, "x"] * skipped
    return pa.array([*before, *rows, "aft\u00e9r\u2026"], pa.string()).slice(len(before), len(rows))
