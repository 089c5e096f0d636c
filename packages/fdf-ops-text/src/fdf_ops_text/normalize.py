"""Bring text into one form: Unicode, control characters, whitespace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from fdf.operator import Columns, Refiner
from fdf_ops_text.utf8 import valid_text
from fdf_ops_text.words import TextBytes, require_text

# Category Cc without tab, line feed, carriage return and U+0085, which are whitespace.
_CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F\x{80}-\x{84}\x{86}-\x{9F}]"
_LINE_BREAK = r"\r\n|[\r\x{85}\x{2028}\x{2029}]"
_BLANK = r"\t\x0B\x0C\x1C-\x1F\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}"


@dataclass(frozen=True, kw_only=True)
class NormalizeText(Refiner):
    r"""Rewrite a text in one Unicode form, without control characters and with plain whitespace.

    - `control: remove` takes out control characters (category Cc) other than tab and line breaks.
    - `unicode` is NFC, NFKC, NFD, NFKD or none. NFKC also replaces ligatures and full-width forms: it loses
      distinctions.
    - `whitespace: collapse` makes every line break a line feed, every run of other whitespace one space, removes
      whitespace at both ends of lines and of the text, and keeps one empty line where there were several. It takes the
      indentation off code: use `whitespace: keep` there.

    In this order; applying it twice changes nothing more. A null stays null.

    >>> batch = pa.record_batch({"text": ["cafe\u0301 \t au\u00a0lait \r\n\n\n\nolé\x07"]})
    >>> NormalizeText().refine(batch)["text"].to_pylist()
    ['café au lait\n\nolé']
    """

    field: str = "text"
    """The column of text."""
    unicode: Literal["NFC", "NFKC", "NFD", "NFKD", "none"] = "NFC"
    """The Unicode normalization form."""
    whitespace: Literal["collapse", "keep"] = "collapse"
    """Whether whitespace is collapsed."""
    control: Literal["remove", "keep"] = "remove"
    """Whether control characters are removed."""

    version = "1.0.0"
    modality = "text"
    depends = ("pyarrow",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column, of the type it has. Raises PlanError where it is no text."""
        return {self.field: require_text(schema, self.field, operator="NormalizeText")}

    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Rewrite the column with Arrow's kernels."""
        column = batch.column(self.field)
        text = valid_text(column)
        if self.control == "remove":
            text = _replace(text, _CONTROL, "")
        if self.unicode != "none":
            text = _in_form(text, self.unicode)
        if self.whitespace == "collapse":
            text = _replace(text, _LINE_BREAK, "\n")
            # A lone space is the common case and stays: it must not cost a replacement.
            text = _replace(text, f"[{_BLANK} ]{{2,}}|[{_BLANK}]", " ")
            text = _replace(text, " \n ?|\n ", "\n")
            text = _replace(text, "\n{3,}", "\n\n")
            text = pc.utf8_trim(text, characters=" \n")
        return {self.field: text.cast(column.type)}


def _in_form(text: pa.LargeStringArray, form: str) -> pa.LargeStringArray:
    # Characters below U+0300 (UTF-8 below CC 80) are in NFC as they are, and ASCII is in every form (UAX #15,
    # section 9): most texts need no second look.
    held = TextBytes.of(text)
    changeable = held.per_row(held.data >= (0xCC if form == "NFC" else 0x80)) > 0
    if not changeable.any():
        return text
    mask = pa.array(changeable & held.valid)
    return pc.replace_with_mask(text, mask, pc.utf8_normalize(text.filter(mask), form=form))


def _replace(text: pa.LargeStringArray, pattern: str, replacement: str) -> pa.LargeStringArray:
    return pc.replace_substring_regex(text, pattern=pattern, replacement=replacement)
