"""Reference pages of operators: plain Markdown, made from their classes alone, one page each and an index.

`folder` says what a folder of pages must hold and writes it; `page` makes one page out of what `docstring` and
`columns` find out, in the words of `wording`. What this package does not do: run an operator or its example.
"""

from __future__ import annotations

from fdf.reference.folder import Difference, compare, pages, write
from fdf.reference.wording import in_words

__all__ = ["Difference", "compare", "in_words", "pages", "write"]
