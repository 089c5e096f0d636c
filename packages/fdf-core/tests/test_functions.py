from __future__ import annotations

import subprocess
import sys

import cloudpickle
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fdf
from fdf.errors import RecipeError, StageFailed
from fdf.fingerprint import sha256_hex
from fdf.functions import load_operator
from fdf.operator import Expansion, Filter

ROWS = pa.record_batch({"text": ["long enough", "no", None], "n": [1, 2, 3]})

FILE = """
from dataclasses import dataclass
import pyarrow.compute as pc
import fdf

LIMIT = 3

def is_long(batch, *, min_chars: int = LIMIT):
    return pc.greater(pc.utf8_length(batch["text"]), min_chars)

def length(row) -> int:
    return None if row["text"] is None else len(row["text"])

@fdf.refiner(writes=["text"])
def shout(batch):
    return pc.utf8_upper(batch["text"])

@dataclass(frozen=True, kw_only=True)
class TooShort(fdf.Filter):
    "Drop short texts."
    field: str = "text"
    reasons = ("short",)

    def verdict(self, batch):
        return fdf.Verdict.first(short=fdf.below(pc.utf8_length(batch[self.field]), LIMIT))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_ops.py"
    path.write_text(FILE)
    return path


def test_decorated_function_is_an_operator_class_and_still_a_function():
    @fdf.filter(reads=("text",), reason="too_short")
    def is_long(batch, *, min_chars: int = 3):
        """Keep long texts."""
        return pc.greater(pc.utf8_length(batch["text"]), min_chars)

    assert issubclass(is_long, Filter)
    assert is_long.__doc__ == "Keep long texts."
    operator = is_long(min_chars=1)
    assert operator.params() == {"min_chars": 1}
    assert operator.reads(ROWS.schema) == ("text",)
    assert is_long(ROWS).to_pylist() == [True, False, None]
    assert is_long(ROWS, min_chars=1).to_pylist() == [True, True, None]


def test_true_keeps_and_everything_else_drops():
    @fdf.filter(reason="not_wanted")
    def wanted(batch):
        return pa.array([True, False, None])

    verdict = wanted().verdict(ROWS)
    assert verdict.codes.tolist() == [0, 1, 1]
    assert verdict.reasons == ("not_wanted",)


def test_reason_is_named_after_the_function_where_none_is_given():
    @fdf.filter
    def is_fine(batch):
        return pa.array([False] * batch.num_rows)

    assert is_fine().verdict(ROWS).reasons == ("not_is_fine",)


def test_score_without_types_is_one_column_of_its_name():
    @fdf.score
    def half(batch):
        return pc.divide(pc.cast(batch["n"], pa.float64()), 2)

    assert half().writes(ROWS.schema) == {"half": pa.float64()}
    assert half().score(ROWS)["half"].to_pylist() == [0.5, 1.0, 1.5]


def test_evaluator_reports_on_its_columns():
    @fdf.evaluator
    def big(batch) -> bool:
        return pc.greater(batch["n"], 1)

    operator = big()
    assert operator.writes(ROWS.schema) == {"eval.big": pa.bool_()}
    report = operator.report(operator.merge(operator.state(ROWS), operator.state(ROWS.slice(0, 1))))
    assert report["mean"] == {"eval.big": 0.5}


def test_row_function_sees_dicts():
    @fdf.score(rows=True)
    def label(row) -> str:
        return f"{row['n']}:{row['text']}"

    assert label().score(ROWS)["label"].to_pylist() == ["1:long enough", "2:no", "3:None"]


def test_row_function_of_several_columns_returns_dicts():
    @fdf.score(writes={"a": "int8", "b": "string"}, rows=True)
    def both(row):
        return {"a": row["n"], "b": str(row["n"])}

    told = both().score(ROWS)
    assert (told["a"].type, told["a"].to_pylist(), told["b"].to_pylist()) == (pa.int8(), [1, 2, 3], ["1", "2", "3"])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda b: b["n"], "int64"),
        (lambda b: pa.array([True]), "1 values"),
        (lambda b: fdf.Verdict.first(x=pc.is_null(b["n"])), "the reason `x`"),
    ],
)
def test_answer_that_is_no_mask_is_told(answer, says):
    @fdf.filter(reason="r")
    def judge(batch):
        return answer(batch)

    with pytest.raises(StageFailed, match=says):
        judge().verdict(ROWS)


def test_score_of_other_columns_than_declared_is_told():
    @fdf.score(writes={"a": "int64", "b": "int64"})
    def lopsided(batch):
        return {"a": batch["n"]}

    with pytest.raises(StageFailed, match="the columns a, b"):
        lopsided().score(ROWS)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: True, "takes no batch"),
        (lambda batch, limit: True, "`limit` has no default"),
        (lambda batch, *rest: True, r"`\*rest`"),
        (lambda batch, **rest: True, r"`\*\*rest`"),
    ],
)
def test_signature_that_no_recipe_could_fill_is_refused(function, says):
    with pytest.raises(RecipeError, match=says):
        fdf.filter(function)


def test_refiner_has_to_say_what_it_writes():
    with pytest.raises(RecipeError, match="which columns it replaces"):
        fdf.refiner(lambda batch: batch["text"])


def test_operator_of_a_file_has_the_files_checksum_as_version(file):
    made = load_operator(file, "is_long", kind="filter")
    assert made.version == sha256_hex(FILE)
    assert made(min_chars=1).verdict(ROWS).codes.tolist() == [0, 0, 1]
    assert load_operator(file, "TooShort").version == sha256_hex(FILE)


def test_edited_file_is_another_operator(file):
    before = load_operator(file, "is_long", kind="filter")()
    file.write_text(FILE.replace("LIMIT = 3", "LIMIT = 1"))
    after = load_operator(file, "is_long", kind="filter")()
    assert before.version != after.version
    assert (before.params(), after.params()) == ({"min_chars": 3}, {"min_chars": 1})


@pytest.mark.parametrize(
    ("name", "kind"), [("is_long", "filter"), ("length", "score"), ("shout", "refiner"), ("TooShort", "filter")]
)
def test_operator_of_a_file_works_in_another_process(file, name, kind):
    operator = load_operator(file, name, kind=kind)()
    script = "import pickle, sys; o = pickle.load(sys.stdin.buffer); print(o.kind, o.version, sorted(o.params()))"
    child = subprocess.run(
        [sys.executable, "-c", script], input=cloudpickle.dumps(operator), capture_output=True, check=True
    )
    assert child.stdout.decode().strip() == f"{kind} {operator.version} {sorted(operator.params())}"


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_run_goes_on_with_the_file_as_it_was_read(file, change):
    operator = load_operator(file, "is_long", kind="filter")(min_chars=1)
    sent = cloudpickle.dumps(operator)
    if change == "edited":
        file.write_text(FILE.replace("pc.greater", "pc.less"))
    else:
        file.unlink()
    script = (
        "import pickle, sys, pyarrow as pa\n"
        "o = pickle.load(sys.stdin.buffer)\n"
        "print(o.version, o.verdict(pa.record_batch({'text': ['long', None]})).codes.tolist())"
    )
    child = subprocess.run([sys.executable, "-c", script], input=sent, capture_output=True, check=True)
    assert child.stdout.decode().split(maxsplit=1) == [operator.version, "[0, 1]\n"]


def test_what_is_wrong_with_a_file_is_told(file):
    for name, kind, code, says in (
        ("is_lng", "filter", "FDF232", "did you mean `is_long`?"),
        ("is_long", None, "FDF234", "@fdf.filter"),
        ("shout", "filter", "FDF234", "write kind: refiner"),
        ("LIMIT", "filter", "FDF233", "neither a function nor an operator class"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_operator(file, name, kind=kind)
        assert caught.value.problems[0].code == code
        assert says in str(caught.value)
    with pytest.raises(RecipeError, match=r"did you mean `my_ops\.py`"):
        load_operator(file.with_name("my_op.py"), "x")


def test_file_that_does_not_load_is_told_with_its_error(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import a_module_that_is_nowhere\n")
    with pytest.raises(RecipeError, match="ModuleNotFoundError: No module named 'a_module_that_is_nowhere'"):
        load_operator(broken, "x")
    assert not [name for name in sys.modules if sha256_hex(str(broken))[:8] in name]


def run_over_texts(step, tmp_path, monkeypatch):
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    rows = [{"text": t} for t in ("a", "bb", "ccc", "dddd")]
    return fdf.run(fdf.Pipeline("texts").read(rows).stage("s", [step]), runner="serial")


def test_answer_of_the_wrong_length_stops_the_run_and_is_not_halved_until_it_fits(tmp_path, monkeypatch):
    @fdf.score(writes={"n": "int64"})
    def lazy(batch):
        return {"n": pa.array([1])}

    with pytest.raises(StageFailed, match="1 values"):
        run_over_texts(lazy(), tmp_path, monkeypatch)


def test_row_function_with_one_bad_answer_costs_one_row(tmp_path, monkeypatch):
    @fdf.filter(rows=True)
    def judge(row):
        return "yes" if row["text"] == "bb" else True

    told = run_over_texts(judge(), tmp_path, monkeypatch).manifest["counts"]
    assert (told["rows_out"], told["rows_quarantined"]) == (3, 1)


def test_generator_function_makes_rows_with_other_values_in_columns_of_their_parent(tmp_path, monkeypatch):
    @fdf.generator(reads=("text",), writes={"text": "string"}, expands=True)
    def letters(batch):
        parts = [(letter, row) for row, text in enumerate(batch["text"].to_pylist()) for letter in text[1:]]
        rows = pa.record_batch({"text": pa.array([p[0] for p in parts])})
        return Expansion(rows, pa.array([p[1] for p in parts]))

    result = run_over_texts(letters(), tmp_path, monkeypatch)
    assert result.to_arrow()["text"].to_pylist() == ["b", "c", "c", "d", "d", "d"]
    assert (result.manifest["counts"]["rows_generated"], result.manifest["counts"]["rows_expanded"]) == (6, 4)


def test_function_made_on_the_spot_can_be_used_again_after_a_run(tmp_path, monkeypatch):
    @fdf.filter(reads=("text",))
    def is_long(batch, *, least: int = 2):
        return pc.greater_equal(pc.utf8_length(batch["text"]), least)

    for least, kept in ((2, 3), (3, 2)):
        assert run_over_texts(is_long(least=least), tmp_path, monkeypatch).manifest["counts"]["rows_out"] == kept
