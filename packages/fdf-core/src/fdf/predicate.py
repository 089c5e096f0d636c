"""Row-wise conditions written in Polars SQL: what `when:` and `ExpressionFilter` accept, and nothing that looks past
one row.

A condition must give the same answer for a row in whatever batch it stands. Polars itself cannot be asked: it calls
``a > max(b) OVER (...)`` row-separable, and turns ``now()`` into a constant while parsing. So the text is read here,
token by token, against a list of what is row-wise; Polars then parses and computes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fdf.errors import PlanError, Problem, RecipeError, did_you_mean

MODALITY = "modality"
MODALITY_COLUMNS = ("image", "audio", "video", "text")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Everything else is refused: aggregates, windows, functions of time or chance, and unknown ones.
ROW_WISE_FUNCTIONS = _words("""
    coalesce greatest if ifnull least nullif cast try_cast
    abs acos acosd asin asind atan atan2 atan2d atand cbrt ceil ceiling cos cosd cot cotd degrees div exp floor
    ln log log10 log1p log2 mod pi pow power radians round sign sin sind sqrt tan tand
    bit_and bit_count bit_not bit_or bit_xor
    bit_length char_length character_length concat concat_ws ends_with initcap left length lower ltrim normalize
    octet_length position regexp_like replace reverse right rtrim starts_with strpos substr substring trim upper
    date date_part extract strftime strptime
    array_contains array_get array_length array_mean array_reverse array_sum array_to_string array_unique
""")
_AGGREGATES = _words("""
    any_value approx_count_distinct array_agg arg_max arg_min avg corr count covar covar_pop covar_samp explode first
    group_concat last max median min mode product quantile quantile_cont quantile_disc std stddev stddev_pop
    stddev_samp stdev stdev_samp string_agg sum unnest var var_pop var_samp variance
""")
_WINDOWS = _words("""
    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
""")
_VARYING_WORDS = _words("current_timestamp current_date current_time localtime localtimestamp")
_VARYING = _VARYING_WORDS | _words("""
    now today random rand uuid gen_random_uuid setseed clock_timestamp statement_timestamp transaction_timestamp
    getdate sysdate
""")
_FORBIDDEN_WORDS = _words("select over union intersect except exists any all some with table values")
_KEYWORDS = _words("""
    and or not in like ilike rlike regexp is null true false between case when then else end distinct from for both
    leading trailing as escape xor div
""")
_ALLOWED = "a condition may use columns, constants, comparisons, and/or/not, arithmetic, CASE and row-wise functions"

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>--|/\*)
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*"|`[^`]*`)
  | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[^\W\d]\w*)
  | (?P<mark>::|->>?|.)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def lower(self) -> str:
        return self.text.lower() if self.kind == "word" else self.text


@dataclass(frozen=True)
class Predicate:
    """A condition on one row. It holds the SQL only, so it pickles anywhere and is parsed where it runs.

    A column whose name is no plain word is written in double quotes: ``"eval.x" > 0.5``, ``"__fdf__/id" LIKE 'a%'``.
    Where rows have no column `modality`, the name stands for what the row holds: see `modality`. NaN counts as larger
    than any number, as Polars has it.

    >>> import pyarrow as pa
    >>> p = Predicate.compile("length(text) > 3 and lang in ('en', 'de')")
    >>> p.columns
    ('text', 'lang')
    >>> p.mask(pa.record_batch({"text": ["long enough", "no", None], "lang": ["de", "en", "en"]})).to_pylist()
    [True, False, False]
    """

    sql: str

    @classmethod
    def compile(cls, sql: str) -> Predicate:
        """Check that the SQL is one row-wise condition and return it.

        Raises RecipeError: FDF220 for what Polars SQL cannot parse, FDF221 for an aggregate, a window or a subquery,
        FDF222 for a function of time or chance, FDF223 for a function that is not known to be row-wise.
        """
        predicate = cls(sql)
        _ = predicate.columns
        _parse(sql)
        return predicate

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that the condition names, in order of first mention."""
        return tuple(dict.fromkeys(_columns(self.sql)))

    def columns_in(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the columns to read from rows of this schema.

        `modality` becomes the columns it is derived from, as far as they exist; other names stay as they are, also
        those that the schema lacks.
        """
        if MODALITY not in self.columns or MODALITY in schema.names:
            return self.columns
        derived = [c for c in MODALITY_COLUMNS if c in schema.names]
        named = [c for c in self.columns if c != MODALITY]
        return tuple(dict.fromkeys(named + derived))

    def mask(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return true for the rows that meet the condition; null counts as false, so a row of unknown is not selected.

        Raises PlanError (FDF224) where a column is missing or its type does not fit the condition.
        """
        return pc.fill_null(self.truth(batch), fill_value=False)

    def truth(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return true, false or null (unknown, as SQL has it) per row. Raises as `mask` does."""
        import polars as pl  # Only here and below: workers of a stage without conditions start without it.
        from polars.exceptions import PolarsError

        frame = pl.from_arrow(self._inputs(batch))
        try:
            # Beside a column of the table a constant condition is as long as the batch.
            query = f"SELECT ({self.sql}) AS mask, {_ROW} FROM {_TABLE}"  # noqa: S608 (nothing but this table is there)
            result = pl.SQLContext({_TABLE: frame}).execute(query, eager=True)["mask"]
        except PolarsError as error:
            raise PlanError(self._mismatch(batch.schema, str(error))) from error
        if result.dtype == pl.Null:
            return pa.nulls(batch.num_rows, pa.bool_())
        if result.dtype != pl.Boolean:
            raise PlanError(self._mismatch(batch.schema, f"it gives {result.dtype}, not true or false"))
        return result.to_arrow()

    def check(self, schema: pa.Schema) -> None:
        """Raise the PlanError (FDF224) that `mask` would raise on rows of this schema; reads no data."""
        self.mask(pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema))

    def __getstate__(self) -> dict[str, Any]:
        return {"sql": self.sql}

    def _inputs(self, batch: pa.RecordBatch) -> pa.Table:
        names = batch.schema.names
        present = [c for c in self.columns if c in names]
        arrays = {c: batch.column(c) for c in present}
        if MODALITY in self.columns and MODALITY not in names:
            arrays[MODALITY] = modality(batch)
        arrays[_ROW] = pa.nulls(batch.num_rows, pa.int8())
        return pa.table(arrays)

    def _mismatch(self, schema: pa.Schema, detail: str) -> Problem:
        missing = [c for c in self.columns if c != MODALITY and c not in schema.names]
        if missing:
            return Problem(
                code="FDF224",
                message=f"the condition `{self.sql}` needs column `{missing[0]}`, which these rows do not have",
                hint=did_you_mean(missing[0], schema.names),
                help="columns: " + ", ".join(schema.names),
            )
        types = ", ".join(f"{c}: {schema.field(c).type}" for c in self.columns if c in schema.names)
        return Problem(
            code="FDF224",
            message=f"the condition `{self.sql}` does not fit these rows: {detail.splitlines()[0]}",
            help=f"the columns are {types}; CAST(column AS type) changes one" if types else _ALLOWED,
        )


def modality(batch: pa.RecordBatch) -> pa.StringArray:
    """Say what each row holds: those of `image`, `audio`, `video`, `text` that are not null, in this order, joined by
    `_` (`text`, `image_text`, `audio`, ...); null where it holds none of them. An empty string or value counts as held.

    >>> import pyarrow as pa
    >>> modality(pa.record_batch({"text": ["a", None, "b"], "image": [None, b"x", b"y"]})).to_pylist()
    ['text', 'image', 'image_text']
    """
    held = np.zeros(batch.num_rows, dtype=np.int8)
    for bit, name in enumerate(MODALITY_COLUMNS):
        if name in batch.schema.names:
            held |= batch.column(name).is_valid().to_numpy(zero_copy_only=False).astype(np.int8) << bit
    return _MODALITIES.take(pa.array(held))


_MODALITIES = pa.array(
    ["_".join(n for bit, n in enumerate(MODALITY_COLUMNS) if held >> bit & 1) or None for held in range(16)],
    pa.string(),
)
_TABLE = "fdf_rows_of_this_batch"
_ROW = "fdf_row_of_this_batch"


def _tokens(sql: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(sql):
        kind, text, at = str(match.lastgroup), match.group(), match.start() + 1
        if kind == "comment":
            raise _refusal(sql, "FDF220", "a comment cannot stand in it", help="use a YAML comment (`# ...`) instead")
        if kind == "mark" and text in "'\"`":
            raise _refusal(sql, "FDF220", f"the quote {text} at character {at} is not closed")
        if kind == "mark" and text in ";$?\\":
            raise _refusal(sql, "FDF220", f"`{text}` at character {at} has no meaning here")
        if kind != "space":
            yield _Token(kind, text)


def _columns(sql: str) -> Iterator[str]:
    """Yield the column names that the SQL mentions; refuse whatever is not row-wise."""
    tokens = list(_tokens(sql))
    if not tokens:
        raise _refusal(sql, "FDF220", "it is empty")
    _check_brackets(sql, tokens)
    for token, called in _names(tokens):
        if token.kind == "quoted":
            mark = token.text[0]
            name = token.text[1:-1].replace(mark * 2, mark)
            if name.startswith("^") and name.endswith("$"):
                raise _refusal(sql, "FDF221", f"{token.text} is a pattern for several columns", help="name one column")
            yield name
        elif token.lower in _FORBIDDEN_WORDS:
            quoted = f'{_ALLOWED}; for a column of this name write "{token.text}"'
            raise _refusal(sql, "FDF221", f"`{token.text}` looks past one row", help=quoted)
        elif token.lower in _VARYING_WORDS or (called and token.lower not in ROW_WISE_FUNCTIONS):
            raise _refused_function(sql, token.lower)
        elif not called:
            yield token.text


def _names(tokens: list[_Token]) -> Iterator[tuple[_Token, bool]]:
    """Yield the words that name a column or, with True, a function: no keywords, types, units, fields of structs."""
    blank = _Token("end", "")
    in_type = False
    for i, token in enumerate(tokens):
        before, after = tokens[i - 1] if i else blank, tokens[i + 1] if i + 1 < len(tokens) else blank
        keyword = token.lower in _KEYWORDS
        in_type = token.text == "::" or before.lower == "as" or (in_type and token.kind == "word" and not keyword)
        if token.kind not in {"word", "quoted"} or in_type or before.text == ".":
            continue
        if token.kind == "word":
            unit = before.text == "(" and i >= 2 and tokens[i - 2].lower == "extract"
            literal = after.kind == "string" or (token.lower == "array" and after.text == "[")
            if keyword or unit or literal:
                continue
        yield token, token.kind == "word" and after.text == "("


def _check_brackets(sql: str, tokens: list[_Token]) -> None:
    # The condition is put between brackets of ours: one that closed them would leave it.
    depth = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if depth < 0:
            break
    if depth:
        raise _refusal(sql, "FDF220", "its brackets do not pair up")


def _parse(sql: str) -> None:
    import polars as pl
    from polars.exceptions import PolarsError, SQLInterfaceError, SQLSyntaxError

    try:
        pl.sql_expr(f"({sql})")
    except (SQLSyntaxError, SQLInterfaceError) as error:
        raise _refusal(sql, "FDF220", " ".join(str(error).split())) from error
    except PolarsError:
        # It parses, but cannot be resolved without the columns' types: `check` and `mask` do that.
        return


def _refused_function(sql: str, name: str) -> RecipeError:
    if name in _VARYING:
        constant = f"{_ALLOWED}; a fixed day is written DATE '2026-01-31'"
        return _refusal(sql, "FDF222", f"`{name}` gives another answer every time", help=constant)
    if name in _AGGREGATES:
        return _refusal(sql, "FDF221", f"`{name}` is an aggregate: it looks at all rows of a batch")
    if name in _WINDOWS:
        return _refusal(sql, "FDF221", f"`{name}` is a window function: it looks at other rows")
    return _refusal(
        sql,
        "FDF223",
        f"`{name}` is not one of the row-wise functions",
        hint=did_you_mean(name, ROW_WISE_FUNCTIONS),
        help="they are " + ", ".join(sorted(ROW_WISE_FUNCTIONS)),
    )


def _refusal(sql: str, code: str, reason: str, *, help: str = _ALLOWED, hint: str | None = None) -> RecipeError:  # noqa: A002 (as Problem names it)
    return RecipeError(Problem(code=code, message=f"in the condition `{sql}`: {reason}", hint=hint, help=help))
