"""Byte sequences that are no UTF-8, of every kind."""

from __future__ import annotations

# The kinds of ill-formed sequences (Unicode 3.9, table 3-7), each as the rows of a column.
INVALID = {
    "cut off at the end of the column": [b"A text.", b"caf\xc3"],
    "three bytes cut off after one": [b"A text.", b"\xe2"],
    "three bytes cut off after two": [b"\xe2\x80"],
    "four bytes cut off after one": [b"text \xf0"],
    "four bytes cut off after two": [b"text \xf0\x9f"],
    "four bytes cut off after three": [b"A text.", b"text \xf0\x9f\x98"],
    "cut apart by the border of two rows": [b"caf\xc3", b"\xa9 is a text."],
    "cut off before a letter": [b"\xe2\x80a text.", b"."],
    "a continuation alone": [b"a\x80b", b"A text."],
    "two continuations too many": [b"\xc3\xa9\xa9\xa9"],
    "overlong slash in two bytes": [b"a\xc0\xafb"],
    "overlong letter in two bytes": [b"\xc1\xa1"],
    "overlong in three bytes": [b"\xe0\x9f\xbf."],
    "overlong in four bytes": [b"\xf0\x8f\xbf\xbf."],
    "overlong NUL": [b"\xc0\x80"],
    "a high surrogate": [b"\xed\xa0\x80"],
    "a pair of surrogates": [b"\xed\xa0\xbd\xed\xb8\x80"],
    "a low surrogate": [b"x\xed\xbf\xbfx"],
    "just above the last code point": [b"\xf4\x90\x80\x80"],
    "far above the last code point": [b"\xf7\xbf\xbf\xbf"],
    "five bytes": [b"\xf8\x88\x80\x80\x80"],
    "six bytes": [b"\xfc\x84\x80\x80\x80\x80"],
    "bytes that never occur": [b"\xfe\xff"],
    "Latin-1": [b"na\xefve caf\xe9"],
}
