"""Repair text that was decoded wrongly: mojibake, HTML entities, control characters and the like, by ftfy."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fdf.operator import Columns, Context, Refiner
from fdf_ops_text.extras import require
from fdf_ops_text.utf8 import valid_text
from fdf_ops_text.words import TextBytes, require_text

_SINGLE_QUOTES = "[\u02bc\u2018-\u201b]"
_DOUBLE_QUOTES = "[\u201c-\u201f]"
_LINE = re.compile("[^\n]*\n|[^\n]+")
_LINE_BREAKS = "\r\n|[\r\u0085\u2028\u2029]"


@dataclass(frozen=True, kw_only=True)
class FixUnicode(Refiner):
    r"""Repair what went wrong with a text's characters, as ``ftfy.fix_text`` does (Speer 2019), to the letter.

    The switches are those of ftfy's TextFixerConfig, with its defaults; ftfy's documentation tells each one. FineWeb's
    formatter leaves typography alone: it sets `fix_latin_ligatures`, `fix_character_width`, `uncurl_quotes` and
    `fix_line_breaks` to false and `normalization` to null.

    ftfy reads 2 to 3 MB per second, and most texts have nothing to repair. A text cannot change, and is not shown to
    ftfy, if none of these holds for a switch that is on:

    - `unescape_html`: it has an HTML entity (`HTML_ENTITY_RE` of ftfy).
    - `fix_encoding`: ftfy's own test finds mojibake in it (`BADNESS_RE`, translated for a faster engine).
    - `fix_c1_controls`: it has one of U+0080 to U+009F.
    - `fix_latin_ligatures`, `fix_character_width`, `uncurl_quotes`, `fix_line_breaks`, `remove_terminal_escapes`,
      `remove_control_chars`: it has a character that the switch replaces.
    - `normalization`: it is not in that form.

    Unpaired surrogates cannot be in UTF-8. Where nothing but curly quotes and line breaks is to be replaced, kernels do
    it. A null stays null.

    >>> batch = pa.record_batch({"text": ["l\u00e2\u20ac\u2122id\u00c3\u00a9e", "fine &amp; well", "plain", None]})
    >>> FixUnicode().refine(batch)["text"].to_pylist()
    ["l'idée", 'fine & well', 'plain', None]
    """

    field: str = "text"
    """The column of text."""
    unescape_html: bool | Literal["auto"] = "auto"
    """Replace HTML entities; auto: in texts without `<` up to there."""
    remove_terminal_escapes: bool = True
    """Remove the escape sequences that colour a terminal's text."""
    fix_encoding: bool = True
    """Undo mojibake: UTF-8 that was decoded as something else."""
    restore_byte_a0: bool = True
    """Take a space for a lost non-breaking one where that makes mojibake decodable."""
    replace_lossy_sequences: bool = True
    """Put U+FFFD for mojibake of which bytes are lost."""
    decode_inconsistent_utf8: bool = True
    """Undo mojibake in parts of a text too."""
    fix_c1_controls: bool = True
    """Read U+0080 to U+009F as Windows-1252."""
    fix_latin_ligatures: bool = True
    """Replace ligatures such as U+FB01 by their letters."""
    fix_character_width: bool = True
    """Replace full-width Latin and half-width Katakana by their usual forms."""
    uncurl_quotes: bool = True
    """Replace curly quotes by straight ones."""
    fix_line_breaks: bool = True
    """Make every line break a line feed."""
    remove_control_chars: bool = True
    """Remove control characters that mean nothing in a text."""
    normalization: Literal["NFC", "NFKC", "NFD", "NFKD"] | None = "NFC"
    """The Unicode normalization form; null: as it is."""
    max_decode_length: int = 1_000_000
    """The characters of a line that are looked at together."""

    version = "1.0.0"
    modality = "text"
    depends = ("ftfy",)
    extras = ("ftfy",)

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return the column, of the type it has. Raises PlanError where it is no text."""
        return {self.field: require_text(schema, self.field, operator="FixUnicode")}

    def setup(self, context: Context) -> None:
        """Import ftfy. Raises MissingDependency where it is absent."""
        self._load()

    def refine(self, batch: pa.RecordBatch) -> Columns:
        """Repair the texts that can change."""
        column = batch.column(self.field)
        text = valid_text(column)
        rows = np.flatnonzero(self._may_change(text))
        if rows.size == 0:
            return {self.field: column}
        fixed = self._fixed(text.take(pa.array(rows)))
        mask = np.zeros(len(text), dtype=bool)
        mask[rows] = True
        return {self.field: pc.replace_with_mask(text, pa.array(mask), fixed).cast(column.type)}

    def _fixed(self, text: pa.LargeStringArray) -> pa.LargeStringArray:
        """Repair texts that may change: by kernels where these reach what ftfy would, by ftfy elsewhere."""
        light = ~self._matches(text, self._load().heavy) & ~self._unnormalized(text) & ~self._is_long(text)
        done = text
        if self.uncurl_quotes:
            done = pc.replace_substring_regex(done, pattern=_DOUBLE_QUOTES, replacement='"')
            done = pc.replace_substring_regex(done, pattern=_SINGLE_QUOTES, replacement="'")
        if self.fix_line_breaks:
            done = pc.replace_substring_regex(done, pattern=_LINE_BREAKS, replacement="\n")
        # ftfy goes on until nothing changes: so it stops here, or it has more to do.
        by_ftfy = np.flatnonzero(~light | self._may_change(done))
        mask = np.zeros(len(text), dtype=bool)
        mask[by_ftfy] = True
        fixed = self._by_lines(text.take(pa.array(by_ftfy)).to_pylist())
        return pc.replace_with_mask(done, pa.array(mask), pa.array(fixed, pa.large_string()))

    def _by_lines(self, values: list[str]) -> list[str]:
        """Give ftfy the lines that may change. It judges lines one by one itself: only `<` is remembered from above."""
        lines = [_LINE.findall(text) for text in values]
        flat = [line for some in lines for line in some]
        changes = self._may_change(pa.array(flat, pa.large_string())).tolist()
        held = self._load()
        fixed, at = [], 0
        for some in lines:
            tagged = False
            for number, line in enumerate(some):
                if changes[at + number]:
                    some[number] = held.fix(line, held.config_below_tags if tagged else held.config)
                # ftfy's `auto` leaves entities alone from the first line with a tag to the text's end.
                tagged = tagged or "<" in line
            at += len(some)
            fixed.append("".join(some))
        return fixed

    def _may_change(self, text: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
        valid = text.is_valid().to_numpy(zero_copy_only=False)
        held = self._load()
        found = self._matches(text, held.heavy) | self._matches(text, held.light) | self._unnormalized(text)
        result: npt.NDArray[np.bool_] = valid & found
        return result

    @staticmethod
    def _matches(text: pa.LargeStringArray, pattern: str) -> npt.NDArray[np.bool_]:
        if not pattern:
            return np.zeros(len(text), dtype=bool)
        found = pc.match_substring_regex(text, pattern=pattern)
        result: npt.NDArray[np.bool_] = pc.fill_null(found, fill_value=False).to_numpy(zero_copy_only=False)
        return result

    def _unnormalized(self, text: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
        changes = np.zeros(len(text), dtype=bool)
        if self.normalization is None:
            return changes
        held = TextBytes.of(text)
        # Characters below U+0300 are in NFC as they are, and ASCII is in every form (UAX #15, section 9).
        rows = np.flatnonzero(held.per_row(held.data >= (0xCC if self.normalization == "NFC" else 0x80)) > 0)
        some = text.take(pa.array(rows))
        same = pc.equal(some, pc.utf8_normalize(some, form=self.normalization))
        changes[rows] = ~pc.fill_null(same, fill_value=True).to_numpy(zero_copy_only=False)
        return changes

    def _is_long(self, text: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
        # ftfy cuts a line of this length anywhere, also between a carriage return and its line feed.
        result: npt.NDArray[np.bool_] = TextBytes.of(text).n_bytes >= self.max_decode_length
        return result

    def _load(self) -> Any:
        held = self.runtime
        if not hasattr(held, "fix"):
            ftfy = require("ftfy", operator="FixUnicode", extra="ftfy")
            switches = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "field"}
            held.config = ftfy.TextFixerConfig(**switches)
            untagged = {"unescape_html": False} if self.unescape_html == "auto" else {}
            held.config_below_tags = ftfy.TextFixerConfig(**(switches | untagged))
            held.fix = ftfy.fix_text
            held.heavy = "|".join(self._heavy(ftfy))
            held.light = "|".join(
                ([_DOUBLE_QUOTES, _SINGLE_QUOTES] if self.uncurl_quotes else [])
                + ([_LINE_BREAKS] if self.fix_line_breaks else [])
            )
        return held

    def _heavy(self, ftfy: Any) -> list[str]:
        """Return RE2 patterns of all that only ftfy repairs, from its own tables."""
        data = ftfy.chardata
        patterns = []
        if self.unescape_html:
            patterns.append(data.HTML_ENTITY_RE.pattern)
        if self.fix_encoding:
            patterns.append(_mojibake(ftfy.badness.BADNESS_RE.pattern))
        if self.fix_c1_controls:
            patterns.append("[\u0080-\u009f]")
        if self.fix_latin_ligatures:
            patterns.append(_one_of(data.LIGATURES))
        if self.fix_character_width:
            patterns.append(_one_of(data.WIDTH_MAP))
        if self.remove_terminal_escapes:
            patterns.append("\x1b")
        if self.remove_control_chars:
            patterns.append(_one_of(data.CONTROL_CHARS))
        return patterns


def _one_of(codes: dict[int, Any]) -> str:
    return "[" + "".join(f"\\x{{{code:X}}}" for code in codes) + "]"


def _mojibake(verbose: str) -> str:
    """Return a pattern of what ftfy may take for mojibake; it leaves ASCII alone, whatever its next version tests."""
    pattern = _for_re2(verbose)
    try:
        pc.match_substring_regex(pa.array([""]), pattern=pattern)
    except pa.ArrowInvalid:
        return r"[^\x00-\x7F]"
    return pattern


def _for_re2(verbose: str) -> str:
    r"""Return a verbose Python pattern in RE2's syntax, matching at least where it does.

    Comments and spaces outside classes go. RE2's ``\s`` and ``\w`` know ASCII only, so outside classes any character
    stands for them; a ``^`` goes, since ftfy judges lines one by one.

    >>> _for_re2(r"^ [a#] \s  # a comment")
    '[a#](?s:.)'
    """
    out: list[str] = []
    in_class = escaped = in_comment = False
    for character in verbose:
        if in_comment:
            in_comment = character != "\n"
        elif escaped:
            escaped = False
            out.append("(?s:.)" if character in "sw" and not in_class else "\\" + character)
        elif character == "\\":
            escaped = True
        elif in_class:
            in_class = character != "]"
            out.append(character)
        elif character == "#":
            in_comment = True
        elif character == "[":
            in_class = True
            out.append(character)
        elif character != "^" and not character.isspace():
            out.append(character)
    return "".join(out)
