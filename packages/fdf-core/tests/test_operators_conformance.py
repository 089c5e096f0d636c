from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import fdf
from fdf.functions import load_operator
from fdf.operators.cast_columns import CastColumns
from fdf.operators.column_stats import ColumnStats
from fdf.operators.expression import ExpressionFilter
from fdf.operators.passthrough import PassthroughRefiner
from fdf.operators.rename_columns import RenameColumns
from fdf.operators.sample import SampleFilter
from fdf.operators.select_columns import SelectColumns
from fdf.operators.threshold import ThresholdFilter
from fdf.testing.operators import OperatorConformance

ROWS = pa.record_batch(
    {
        "__fdf__/id": [f"0123456789abcdef:{i}" for i in range(6)],
        "score": pa.array([0.1, float("nan"), None, 0.6, float("inf"), -3.0]),
        "n": pa.array([1, 2, None, 2**62, -5, 2**62], pa.int64()),
        "lang": ["en", None, "de", 'a "quoted" one', "en", "\u00e9"],
        "digits": ["1", "22", None, "-3", "0", "7"],
        "ok": [True, False, None, True, True, False],
        "day": pa.array([date(2020, 1, 1), None, date(1999, 12, 31), date(2030, 1, 1), None, None]),
        "at": pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * 5 + [None], pa.timestamp("us", "Europe/Berlin")),
        "blob": pa.array([b"\x00", None, b"", b"abc", b"\xff", b"abc"]),
        "tags": [["a"], None, [], ["b", "c"], ["a"], ["a"]],
        "kind": pa.array(["x", "y", None, "x", "x", "y"]).dictionary_encode(),
    }
)


class TestThresholdFilter(OperatorConformance):
    operator = ThresholdFilter(field="score", ge=0.2, le=0.9)
    batch = ROWS


class TestThresholdFilterOnText(OperatorConformance):
    operator = ThresholdFilter(field="lang", in_=("en", "de"), nulls="keep")
    batch = ROWS


class TestThresholdFilterOnDictionary(OperatorConformance):
    operator = ThresholdFilter(field="kind", eq="x")
    batch = ROWS


class TestExpressionFilter(OperatorConformance):
    operator = ExpressionFilter(keep="score > 0.2 or lang = 'en'")
    batch = ROWS


class TestExpressionFilterOnOneNumber(OperatorConformance):
    operator = ExpressionFilter(keep="n % 2 = 0", nulls="keep")
    batch = ROWS


class TestSampleFilter(OperatorConformance):
    operator = SampleFilter(rate=0.5, seed=3)
    batch = ROWS


class TestSampleFilterOfField(OperatorConformance):
    operator = SampleFilter(rate=0.5, field="n")
    batch = ROWS


class TestSelectColumns(OperatorConformance):
    operator = SelectColumns(columns=("lang", "score"))
    batch = ROWS


class TestSelectColumnsByDropping(OperatorConformance):
    operator = SelectColumns(drop=("blob", "absent"))
    batch = ROWS


class TestRenameColumns(OperatorConformance):
    operator = RenameColumns(columns={"language": "lang", "n": "score", "score": "n"})
    batch = ROWS


class TestCastColumns(OperatorConformance):
    operator = CastColumns(types={"digits": "int16", "ok": "string", "tags": "list<large_string>"})
    batch = ROWS


class TestColumnStats(OperatorConformance):
    operator = ColumnStats()
    batch = ROWS


class TestPassthroughRefiner(OperatorConformance):
    operator = PassthroughRefiner()
    batch = ROWS


@fdf.filter(reads=("lang",), reason="too_long")
def is_short(batch, *, most: int = 2):
    """Keep short texts."""
    return pc.less_equal(pc.utf8_length(batch["lang"]), most)


@fdf.filter(reads=("n",), reason=("small", "large"))
def in_range(batch):
    """Keep numbers in range."""
    return fdf.Verdict.first(small=fdf.below(batch["n"], 0), large=fdf.above(batch["n"], 10))


@fdf.score(reads=["n"], writes={"twice": "float64", "thrice": pa.float64()})
def multiples(batch):
    """Multiply."""
    n = pc.cast(batch["n"], pa.float64(), safe=False)
    return {"twice": pc.multiply(n, 2), "thrice": pc.multiply(n, 3)}


@fdf.evaluator(reads=["ok"], writes={"eval.ok": "bool"})
def is_ok(batch):
    """Look whether all is well."""
    return batch["ok"]


@fdf.refiner(reads=["lang"], writes={"lang": "string", "blob": None})
def shout(batch):
    """Write in capitals."""
    return {"lang": pc.utf8_upper(batch["lang"]), "blob": None}


@fdf.generator(reads=("tags",))
def one_row_per_tag(batch):
    """Make a row of each tag."""
    rows = pc.list_parent_indices(batch["tags"])
    made = pa.record_batch({"lang": batch["tags"].flatten()})
    return fdf.Expansion(made, rows)


FILE = '''
def twice(row, *, factor: int = 2) -> int:
    """Multiply one row at a time."""
    return None if row["n"] is None else row["n"] // 4 * factor
'''


def _from_file():
    import tempfile

    path = Path(tempfile.mkdtemp()) / "my_ops.py"
    path.write_text(FILE)
    return load_operator(path, "twice", kind="score")(factor=3)


class TestFilterFunction(OperatorConformance):
    operator = is_short(most=3)
    batch = ROWS


class TestFilterFunctionWithVerdict(OperatorConformance):
    operator = in_range()
    batch = ROWS


class TestScoreFunction(OperatorConformance):
    operator = multiples()
    batch = ROWS


class TestEvaluatorFunction(OperatorConformance):
    operator = is_ok()
    batch = ROWS


class TestRefinerFunction(OperatorConformance):
    operator = shout()
    batch = ROWS


class TestGeneratorFunction(OperatorConformance):
    operator = one_row_per_tag()
    batch = ROWS


class TestRowFunctionFromFile(OperatorConformance):
    operator = _from_file()
    batch = ROWS
