from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from fdf.errors import PlanError, RecipeError
from fdf.predicate import ROW_WISE_FUNCTIONS, Predicate, modality

ROWS = pa.record_batch(
    {
        "a": pa.array([1, 2, None, 4]),
        "b": pa.array([1.5, -0.5, None, 0.25]),
        "text": ["one", "two words", None, "xxx"],
        "eval.x": pa.array([0.1, 0.9, None, 0.5]),
        "__fdf__/id": ["a:0", "a:1", "b:0", "b:1"],
        "tags": [["p"], ["q", "p"], None, []],
        "day": pa.array(["2020-01-31", "2021-01-01", None, "1999-12-31"]).cast(pa.date32()),
        "meta": [{"lang": "en"}, {"lang": "de"}, None, {"lang": None}],
        "order": [1, 2, 3, 4],
    }
)

# One true use of every function, with what it gives by the SQL standard or the function's own definition.
USES = {
    "abs": ("abs(b) = 0.5", [1]),
    "acos": ("acos(cos(b)) > 1.4", [0]),
    "acosd": ("acosd(b) between 100 and 180", [1]),
    "array_contains": ("array_contains(tags, 'q')", [1]),
    "array_get": ("array_get(tags, 2) = 'p'", [1]),
    "array_length": ("array_length(tags) = 1", [0]),
    "array_mean": ("array_mean(tags) is null", [0, 1, 2, 3]),
    "array_reverse": ("array_get(array_reverse(tags), 1) = 'p'", [0, 1]),
    "array_sum": None,
    "array_to_string": ("array_to_string(tags, '+') = 'q+p'", [1]),
    "array_unique": ("array_length(array_unique(tags)) = 2", [1]),
    "asin": ("asin(b) < 0", [1]),
    "asind": ("asind(b) < -29", [1]),
    "atan": ("atan(b) < 0", [1]),
    "atan2": ("atan2(b, 1.0) < 0", [1]),
    "atan2d": ("atan2d(b, 1.0) < 0", [1]),
    "atand": ("atand(b) < 0", [1]),
    "bit_and": ("bit_and(a, 2) = 2", [1]),
    "bit_count": ("bit_count(a) = 1", [0, 1, 3]),
    "bit_length": ("bit_length(text) = 24", [0, 3]),
    "bit_not": ("bit_not(a) = -2", [0]),
    "bit_or": ("bit_or(a, 1) = 5", [3]),
    "bit_xor": ("bit_xor(a, 1) = 0", [0]),
    "cast": ("cast(a as double precision) > 1.5", [1, 3]),
    "cbrt": ("cbrt(a) = 1", [0]),
    "ceil": ("ceil(b) = 1", [3]),
    "ceiling": ("ceiling(b) = 1", [3]),
    "char_length": ("char_length(text) = 3", [0, 3]),
    "character_length": ("character_length(text) = 3", [0, 3]),
    "coalesce": ("coalesce(a, 9) = 9", [2]),
    "concat": ("concat(text, '!') = 'one!'", [0]),
    "concat_ws": ("concat_ws('-', text, text) = 'one-one'", [0]),
    "cos": ("cos(b) < 0.1", [0]),
    "cosd": ("cosd(a) > 0.9998", [0]),
    "cot": ("cot(b) < 0", [1]),
    "cotd": ("cotd(b) < 0", [1]),
    "date": ("date('2020-01-31') = day", [0]),
    "date_part": ("date_part('year', day) = 2020", [0]),
    "degrees": ("degrees(b) > 80", [0]),
    "div": ("div(a, 2) = 1", [1]),
    "ends_with": ("ends_with(text, 's')", [1]),
    "exp": ("exp(b) > 4", [0]),
    "extract": ("extract(year from day) = 2020", [0]),
    "floor": ("floor(b) = 1", [0]),
    "greatest": ("greatest(a, 2) = 2", [0, 1, 2]),
    "if": ("if(a > 1, true, false)", [1, 3]),
    "ifnull": ("ifnull(a, 9) = 9", [2]),
    "initcap": ("initcap(text) = 'Two Words'", [1]),
    "least": ("least(a, 2) = 1", [0]),
    "left": ("left(text, 1) = 'o'", [0]),
    "length": ("length(text) > 3", [1]),
    "ln": ("ln(a) = 0", [0]),
    "log": ("log(a, 2) = 2", [3]),
    "log10": ("log10(a) = 0", [0]),
    "log1p": ("log1p(a) > 1.5", [3]),
    "log2": ("log2(a) = 2", [3]),
    "lower": ("lower(upper(text)) = 'one'", [0]),
    "ltrim": ("ltrim(text, 'o') = 'ne'", [0]),
    "mod": ("mod(a, 2) = 0", [1, 3]),
    "normalize": ("normalize(text, NFC) = 'one'", [0]),
    "nullif": ("nullif(a, 1) is null", [0, 2]),
    "octet_length": ("octet_length(text) = 3", [0, 3]),
    "pi": ("a > pi()", [3]),
    "position": ("position('w' in text) = 2", [1]),
    "pow": ("pow(a, 2) = 16", [3]),
    "power": ("power(a, 2) = 16", [3]),
    "radians": ("radians(a) > 0.06", [3]),
    "regexp_like": ("regexp_like(text, '^o.e$')", [0]),
    "replace": ("replace(text, 'o', 'a') = 'ane'", [0]),
    "reverse": ("reverse(text) = 'eno'", [0]),
    "right": ("right(text, 1) = 'e'", [0]),
    "round": ("round(b, 1) = 1.5", [0]),
    "rtrim": ("rtrim(text, 'e') = 'on'", [0]),
    "sign": ("sign(b) = -1", [1]),
    "sin": ("sin(b) < 0", [1]),
    "sind": ("sind(b) < 0", [1]),
    "sqrt": ("sqrt(a) = 2", [3]),
    "starts_with": ("starts_with(text, 'tw')", [1]),
    "strftime": ("strftime(day, '%Y') = '2020'", [0]),
    "strpos": ("strpos(text, 'n') = 2", [0]),
    "strptime": ("strptime('2020-01-31', '%Y-%m-%d') = day", [0]),
    "substr": ("substr(text, 2) = 'ne'", [0]),
    "substring": ("substring(text from 2 for 1) = 'n'", [0]),
    "tan": ("tan(b) < 0", [1]),
    "tand": ("tand(b) < 0", [1]),
    "trim": ("trim(both 'o' from text) = 'ne'", [0]),
    "try_cast": ("try_cast(text as int) is null", [0, 1, 2, 3]),
    "upper": ("upper(text) = 'ONE'", [0]),
}


def test_every_row_wise_function_has_a_use_here():
    assert set(USES) == set(ROW_WISE_FUNCTIONS)


@pytest.mark.parametrize(("sql", "selected"), [use for use in USES.values() if use])
def test_function_selects_the_same_rows_in_any_batch(sql, selected):
    predicate = Predicate.compile(sql)
    mask = predicate.mask(ROWS).to_pylist()
    assert [i for i, chosen in enumerate(mask) if chosen] == selected
    one_by_one = [predicate.mask(ROWS.slice(i, 1))[0].as_py() for i in range(4)]
    assert one_by_one == mask
    assert predicate.mask(ROWS.slice(0, 0)).to_pylist() == []


@pytest.mark.parametrize(
    ("sql", "columns", "selected"),
    [
        ("true", (), [0, 1, 2, 3]),
        ("null", (), []),
        ('"eval.x" > 0.3', ("eval.x",), [1, 3]),
        ("\"__fdf__/id\" like 'a:%'", ("__fdf__/id",), [0, 1]),
        ("`eval.x` > 0.3", ("eval.x",), [1, 3]),
        ('"order" > 3', ("order",), [3]),
        ("a in (1, 4) and not text = 'xxx'", ("a", "text"), [0]),
        ("a not between 2 and 3", ("a",), [0, 3]),
        ("a is distinct from 1", ("a",), [1, 2, 3]),
        ("case when a > 1 then b > 0 else false end", ("a", "b"), [3]),
        ("a::double precision > 1.5 and b > 0", ("a", "b"), [3]),
        ("meta.lang = 'de'", ("meta",), [1]),
        ("day > date '2020-12-31'", ("day",), [1]),
        ("text = 'it''s' or text = 'now() select over'", ("text",), []),
        ("text ~ '^o' or text ilike 'XX%'", ("text",), [0, 3]),
        ("tags[1] = 'q'", ("tags",), [1]),
        ("(a + 1) * 2 > 9 -- no\n", None, None),
        ("extract(year from day) = 1999", ("day",), [3]),
    ],
)
def test_condition_names_its_columns_and_selects(sql, columns, selected):
    if columns is None:
        with pytest.raises(RecipeError, match="comment"):
            Predicate.compile(sql)
        return
    predicate = Predicate.compile(sql)
    assert predicate.columns == columns
    assert [i for i, chosen in enumerate(predicate.mask(ROWS).to_pylist()) if chosen] == selected


@pytest.mark.parametrize(
    ("sql", "code", "says"),
    [
        ("", "FDF220", "empty"),
        ("a >", "FDF220", "unable to parse"),
        ("a > 1; drop table x", "FDF220", "`;`"),
        ("text = 'open", "FDF220", "not closed"),
        ("a > 1) or (b > 1", "FDF220", "brackets"),
        ("a > 1 /* why */", "FDF220", "comment"),
        ("a as b", "FDF220", ""),
        ("sum(a) > 3", "FDF221", "aggregate"),
        ("a > avg(a)", "FDF221", "aggregate"),
        ("MAX (a) > 1", "FDF221", "aggregate"),
        ("count(*) > 1", "FDF221", "aggregate"),
        ("first(a) = 1", "FDF221", "aggregate"),
        ("a > max(b) over (partition by text)", "FDF221", "max"),
        ("row_number() over (order by a) < 3", "FDF221", "window"),
        ("lag(a) over (order by a) < 3", "FDF221", "window"),
        ("a in (select 1)", "FDF221", "select"),
        ("exists (select 1)", "FDF221", "exists"),
        ('"^.*$" > 1', "FDF221", "pattern"),
        ("order_ > 1 and over > 2", "FDF221", '"over"'),
        ("now() > day", "FDF222", "another answer"),
        ("day < CURRENT_DATE", "FDF222", "DATE '2026-01-31'"),
        ("random() < 0.5", "FDF222", "random"),
        ("uuid() = 'x'", "FDF222", "uuid"),
        ("lenght(text) > 3", "FDF223", "did you mean `length`?"),
    ],
)
def test_what_is_not_row_wise_is_refused_with_what_is_allowed(sql, code, says):
    with pytest.raises(RecipeError) as caught:
        Predicate.compile(sql)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert says in problem.render()
    assert problem.help


def test_null_is_not_selected():
    assert Predicate.compile("a > 1").mask(ROWS).to_pylist() == [False, True, False, True]
    assert Predicate.compile("not a > 1").mask(ROWS).to_pylist() == [True, False, False, False]
    assert Predicate.compile("a > 1").truth(ROWS).to_pylist() == [False, True, None, True]


def test_predicate_pickles_as_its_text():
    predicate = Predicate.compile("a > 1")
    predicate.mask(ROWS)
    received = pickle.loads(pickle.dumps(predicate))
    assert received == predicate
    assert received.mask(ROWS) == predicate.mask(ROWS)


def test_types_that_do_not_fit_are_a_plan_error_without_data():
    with pytest.raises(PlanError, match="text: string"):
        Predicate.compile("text > 3").check(ROWS.schema)
    with pytest.raises(PlanError, match="not true or false"):
        Predicate.compile("a + 1").check(ROWS.schema)
    with pytest.raises(PlanError, match="did you mean `text`"):
        Predicate.compile("texd = 'x'").check(ROWS.schema)
    Predicate.compile("length(text) > 3").check(ROWS.schema)


def test_modality_is_a_function_of_the_columns_a_row_has():
    rows = pa.record_batch({"text": ["t", None, "t", None], "image": [None, b"i", b"i", None], "audio": pa.nulls(4)})
    assert modality(rows).to_pylist() == ["text", "image", "image_text", None]
    predicate = Predicate.compile("modality in ('image', 'image_text')")
    assert predicate.columns == ("modality",)
    assert predicate.columns_in(rows.schema) == ("image", "audio", "text")
    assert predicate.mask(rows).to_pylist() == [False, True, True, False]


def test_own_column_named_modality_is_taken_as_it_is():
    rows = pa.record_batch({"text": ["t"], "modality": ["mine"]})
    predicate = Predicate.compile("modality = 'mine'")
    assert predicate.columns_in(rows.schema) == ("modality",)
    assert predicate.mask(rows).to_pylist() == [True]


def test_sliced_batches_are_judged_by_their_own_rows():
    assert Predicate.compile("a = 4").mask(ROWS.slice(2)).to_pylist() == [False, True]
