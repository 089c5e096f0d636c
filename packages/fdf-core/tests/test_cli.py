"""The command line as a person or a script meets it: exit codes, messages, JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import jsonschema
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from fdf.cli.main import main
from fdf.cli.progress import PlainLines, RunProgress
from fdf.registry import entries
from fdf.stage.events import Event

CLEAN = {
    "id": "short",
    "kind": "filter",
    "op": "ExpressionFilter",
    "params": {"keep": "length(text) < 6"},
}


@pytest.fixture
def fdf(home, tmp_path, monkeypatch):
    """Give a function that calls the command line in this process, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*words):
        return CliRunner().invoke(main, [str(w) for w in words])

    return call


@pytest.fixture
def recipe(tmp_path, words):
    """Give a function that writes a recipe of two stages and an output over twelve texts."""
    words("a", ["one", "two", "three", "a long text", "four", "five"], n=[1, 2, 3, 4, 5, 6])
    words("b", ["six", "seven", "eight", "another long text", "nine", "ten"], n=[7, 8, 9, 10, 11, 12])

    def write(name="recipe", **changes):
        value = {
            "name": "tiny",
            "input": {"type": "parquet", "path": str(tmp_path / "in")},
            "stages": [
                {"name": "clean", "operators": [CLEAN]},
                {
                    "name": "pick",
                    "operators": [
                        {"id": "late", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "n", "lt": 11}}
                    ],
                },
            ],
            "output": {"type": "parquet", "path": str(tmp_path / "out")},
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(value, sort_keys=False))
        return path

    return write


@pytest.fixture
def call(fdf, recipe):
    """Call the command line where a valid recipe.yaml is at hand."""
    recipe()
    return fdf


def run_id_of(done):
    return json.loads(done.stdout.splitlines()[-1])["run_id"]


def test_run_ends_with_the_funnel_and_where_everything_is(fdf, recipe, tmp_path):
    done = fdf("run", recipe(), "--runner", "serial")
    assert done.exit_code == 0, done.output
    funnel = [line.split()[:6] for line in done.stdout.splitlines()]
    assert ["clean", "short", "12", "10", "83.3", "%"] in funnel
    assert ["pick", "late", "10", "8", "80.0", "%"] in funnel
    assert ["output", "(write)", "8", "8", "100.0", "%"] in funnel
    assert str(tmp_path / "out" / "__fdf__" / "manifest.json") in done.stderr
    assert "clean: started" in done.stderr
    assert "\x1b" not in done.output


def test_run_json_streams_events_and_ends_with_the_result(fdf, recipe):
    done = fdf("run", recipe(), "--runner", "serial", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["event"] == "run_started"
    assert [line["event"] for line in lines].count("split_committed") == 5
    last = lines[-1]
    assert (last["event"], last["status"], last["exit_code"]) == ("result", "finished", 0)
    assert [line["rows_out"] for line in last["funnel"]] == [10, 8, 8]
    assert done.stderr == ""


def test_running_again_runs_nothing_again(fdf, recipe):
    path = recipe()
    fdf("run", path, "--runner", "serial")
    lines = fdf("run", path, "--runner", "serial", "--json").stdout.splitlines()
    kinds = [json.loads(line)["event"] for line in lines]
    assert kinds.count("split_skipped") == 5
    assert "split_started" not in kinds


def test_fresh_run_gets_a_run_id_of_its_own(fdf, recipe):
    path = recipe()
    first = run_id_of(fdf("run", path, "--runner", "serial", "--json"))
    assert run_id_of(fdf("run", path, "--runner", "serial", "--json", "--fresh")) == f"{first}-2"


@pytest.mark.parametrize(
    ("words_", "code", "said"),
    [
        (["run", "absent.yaml"], 2, "absent.yaml"),
        (["run", "absent"], 2, "neither a file nor a bundled recipe"),
        (["run"], 2, "Missing argument 'RECIPE'"),
        (["run", "recipe.yaml", "--limit", "0"], 2, "--limit"),
        (["run", "recipe.yaml", "--runner", "nowhere"], 2, "nowhere"),
        (["run", "recipe.yaml", "--until", "nowhere"], 2, "nowhere"),
        (["run", "recipe.yaml", "--set", "stages=5"], 2, "stages"),
        (["runs", "show", "absent"], 2, "absent"),
        (["verify", "absent/"], 2, "absent/"),
        (["trace", "absent:0"], 2, "has committed anything"),
        (["ops", "show", "Absent"], 2, "Absent"),
        (["ops", "index", "absent"], 4, "absent"),
        (["bogus"], 2, "bogus"),
    ],
)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_mistakes_have_their_exit_code_and_no_traceback(call, words_, code, said, as_json):
    done = call(*words_, *as_json)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    assert done.stdout == ""
    if as_json:
        problems = json.loads(done.stderr)
        assert any(said in problem["message"] for problem in problems)
        assert all(problem["code"].startswith("FDF") for problem in problems)
    else:
        assert done.stderr.startswith("error[FDF")
        assert said in done.stderr


FIVE_MISTAKES = """\
name: "five"
input: { type: "parquet", path: "in", colums: { a: b } }
stages:
  - name: "clean"
    operators:
      - { id: "a", kind: "filter", op: "TresholdFilter", params: { field: "n", ge: 1 } }
      - { id: "b", kind: "filter", op: "SampleFilter", params: { rat: 0.5, rate: 0.5 } }
      - { id: "b", kind: "filter", op: "SampleFilter", params: { rate: 0.5 } }
  - name: "next"
    operators: []
    materialise: { mode: "overwrite" }
output: { type: "parquet", path: "out" }
"""
PLACES = ["2:", "6:", "7:", "8:", "11:"]


@pytest.mark.parametrize("command", ["run", "validate", "plan", "preview"])
def test_five_mistakes_are_told_at_once(fdf, tmp_path, command):
    (tmp_path / "five.yaml").write_text(FIVE_MISTAKES)
    done = fdf(command, "five.yaml")
    assert done.exit_code == 2
    assert [p for p in PLACES if f"--> five.yaml:{p}" not in done.stderr] == []
    assert "did you mean `ThresholdFilter`?" in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_validate_reads_no_input(fdf, recipe):
    path = recipe(input={"type": "parquet", "path": "s3://no-such-bucket/in/*.parquet"})
    done = fdf("validate", path)
    assert done.exit_code == 0
    assert "2 stages, 2 operators" in done.stdout
    said = json.loads(fdf("validate", path, "--json").stdout)
    assert said["valid"] is True
    assert said["stages"] == ["clean", "pick"]


def test_validate_json_lists_the_problems_as_data(fdf, tmp_path):
    (tmp_path / "five.yaml").write_text(FIVE_MISTAKES)
    said = json.loads(fdf("validate", "five.yaml", "--json").stdout)
    assert said["valid"] is False
    assert {problem["line"] for problem in said["problems"]} >= {2, 6, 7, 8, 11}


def test_plan_tells_stages_columns_and_places_and_writes_nothing(fdf, recipe, tmp_path, home):
    path = recipe()
    done = fdf("plan", path)
    assert done.exit_code == 0
    assert "input: 2 files" in done.stdout
    assert "text: string, n: int64" in done.stdout
    assert str(tmp_path / "out") in done.stdout
    said = json.loads(fdf("plan", path, "--json", "--until", "clean").stdout)
    assert [stage["stage"] for stage in said["stages"]] == ["clean"]
    assert said["inputs"]["files"] == 2
    assert not home.exists()
    assert not (tmp_path / "out").exists()


def test_failed_run_ends_with_what_failed_what_is_safe_and_how_to_go_on(fdf, recipe, op):
    stage = {
        "name": "break",
        "operators": [op("score", "Lengths", poison="nine", around={"on_error": "fail"})],
    }
    path = recipe(stages=[{"name": "clean", "operators": [CLEAN]}, stage])
    done = fdf("run", path, "--runner", "serial", "--set", "description=b c")
    assert done.exit_code == 3, done.output
    last = done.stderr.splitlines()[-3:]
    assert last[0].startswith("failed: stage `break` of run tiny-")
    assert last[1] == "safe: all of `clean`, 1 split (5 rows read) of `break`"
    assert last[2] == f"to go on: fdf run {path} --runner serial --set 'description=b c'"
    assert "error[FDF" in done.stderr
    assert "Traceback" not in done.output
    result = json.loads(fdf("run", path, "--runner", "serial", "--json").stdout.splitlines()[-1])
    assert (result["status"], result["exit_code"]) == ("failed", 3)
    assert result["go_on"] == f"fdf run {path} --runner serial"


def test_fresh_run_that_failed_goes_on_under_its_own_run_id(fdf, recipe, op):
    path = recipe(
        stages=[{"name": "break", "operators": [op("score", "Lengths", poison="nine", around={"on_error": "fail"})]}]
    )
    for fresh in ([], ["--fresh"]):
        done = fdf("run", path, "--runner", "serial", "--json", *fresh)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["run_id"].endswith("-2")
    assert result["go_on"] == f"fdf run {path} --run-id {result['run_id']} --runner serial"


def test_failed_gate_exits_with_one_and_says_which(fdf, recipe):
    stats = {
        "id": "stats",
        "kind": "evaluator",
        "op": "ColumnStats",
        "params": {"columns": ["n"]},
        "require": ["max.n <= 3"],
    }
    path = recipe(stages=[{"name": "check", "operators": [stats]}])
    done = fdf("run", path, "--runner", "serial")
    assert done.exit_code == 1
    assert "gate failed: stats: max.n <= 3" in done.stderr


def test_unexpected_error_is_kept_in_a_file_and_exits_with_70(fdf, recipe, home, monkeypatch):
    def fail(*_, **__):
        raise KeyError("something odd")

    monkeypatch.setattr("fdf.plan.compile.compile_plan", fail)
    done = fdf("plan", recipe())
    assert done.exit_code == 70
    assert "something odd" in done.stderr
    assert "Traceback" not in done.output
    (kept,) = (home / "crashes").iterdir()
    assert str(kept) in done.stderr
    assert "Traceback" in kept.read_text()


def test_debug_shows_the_traceback(fdf, recipe, monkeypatch):
    monkeypatch.setattr("fdf.plan.compile.compile_plan", lambda *_, **__: 1 / 0)
    monkeypatch.setenv("FDF_DEBUG", "1")
    assert isinstance(fdf("plan", recipe()).exception, ZeroDivisionError)


SLOW = """
import time

def slowly(batch):
    if {text!r} in batch["text"].to_pylist():
        print("here", flush=True)
        time.sleep({seconds})
    return batch["text"].is_valid()
"""


@pytest.fixture
def slow_run(recipe, words, home, tmp_path):
    """Give a function that starts a run in a process of its own, and returns when it is in the middle of a batch."""
    words("c", ["last"])
    command = [sys.executable, "-c", "from fdf.cli.main import main; main(prog_name='fdf')"]

    def start(text, seconds):
        code = tmp_path / "slow.py"
        code.write_text(SLOW.format(text=text, seconds=seconds))
        operator = {"id": "slow", "kind": "filter", "op": f"{code}:slowly"}
        path = recipe(stages=[{"name": "wait", "operators": [operator]}])
        words_ = [*command, "run", str(path), "--runner", "serial"]
        child = subprocess.Popen(words_, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        assert child.stdout.readline() == "here\n"
        return child, path, words_

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_exits_130_and_resumes(slow_run, tmp_path, number):
    child, path, command = slow_run("six", 1)
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    *_, first, second, third = said.splitlines()
    assert first.startswith("interrupted: stage `wait`")
    assert second == "safe: 2 splits (12 rows read) of `wait`"
    assert third == f"to go on: fdf run {path} --runner serial"
    assert "Traceback" not in said
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=tmp_path, check=True)
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert [e["name"] for e in events if e["event"] == "split_skipped"] == ["a.parquet", "b.parquet"]
    assert events[-1]["exit_code"] == 0


def test_second_interrupt_leaves_at_once(slow_run):
    child, *_ = slow_run("one", 60)
    child.send_signal(signal.SIGINT)
    while "stopping" not in child.stderr.readline():
        pass
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130
    assert time.monotonic() - started < 20


def test_runs_are_listed_the_latest_first(fdf, recipe):
    path = recipe()
    assert fdf("runs", "list").stdout == ""
    for number in ("one", "two"):
        fdf("run", path, "--runner", "serial", "--run-id", number)
    assert [r["run_id"] for r in json.loads(fdf("runs", "list", "--json").stdout)] == ["two", "one"]
    table = fdf("runs", "list").stdout
    assert table.index("two ") < table.index("one ")
    assert "3/3" in table


def test_run_is_shown_from_its_manifests_with_dropped_rows(fdf, recipe):
    path = recipe()
    run_id = run_id_of(fdf("run", path, "--runner", "serial", "--json"))
    text = fdf("runs", "show", run_id, "--dropped", "3")
    assert text.exit_code == 0
    assert '"a long text"' in text.stdout
    said = json.loads(fdf("runs", "show", run_id, "--dropped", "100", "--json").stdout)
    examples = {(d["operator"], d["row"]["text"]) for d in said["dropped_examples"]}
    assert examples == {
        ("short", "a long text"),
        ("short", "another long text"),
        ("late", "nine"),
        ("late", "ten"),
    }
    assert sum(sum(line["dropped"].values()) for line in said["funnel"]) == 4
    assert set(said["manifests"]) == {"clean", "pick", "output"}


def test_ops_are_listed_and_shown(fdf):
    listed = json.loads(fdf("ops", "list", "--json").stdout)
    assert {o["op"] for o in listed} >= {"ThresholdFilter", "ColumnStats"}
    filters = fdf("ops", "list", "--kind", "filter").stdout
    assert "ThresholdFilter" in filters
    assert "ColumnStats" not in filters
    shown = json.loads(fdf("ops", "show", "ThresholdFilter", "--json").stdout)
    assert shown["kind"] == "filter"
    assert "ge" in shown["params"]["properties"]
    assert shown["reasons"]
    assert "drops for:" in fdf("ops", "show", "ThresholdFilter").stdout


def test_nothing_of_ours_is_broken(fdf):
    done = fdf("ops", "list", "--broken", "--json")
    ours = [b for b in json.loads(done.stdout) if not b["distribution"].startswith("fdf-example")]
    assert ours == []


@pytest.mark.skipif(not entries("fdf.pipelines"), reason="no installed package brings a recipe")
def test_bundled_recipes_are_listed_shown_and_copied_but_never_over_a_file(fdf, tmp_path):
    listed = json.loads(fdf("pipelines", "list", "--json").stdout)
    name = listed[0]["name"]
    text = fdf("pipelines", "show", name).stdout
    assert yaml.safe_load(text)["name"]
    assert fdf("pipelines", "copy", name).exit_code == 0
    (copied,) = tmp_path.glob("*.yaml")
    assert copied.read_text() == text
    copied.write_text("mine")
    again = fdf("pipelines", "copy", name)
    assert again.exit_code == 2
    assert copied.read_text() == "mine"
    assert fdf("validate", name).exit_code == 0


def test_doctor_never_shows_a_credential(fdf, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAVERYSECRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "alsosecret")
    done = fdf("doctor")
    assert "AWS_ACCESS_KEY_ID" in done.stdout
    assert "AKIAVERYSECRET" not in done.output
    assert "alsosecret" not in done.output
    said = json.loads(fdf("doctor", "--json").stdout)
    assert {"python", "FDF_HOME", "fdf-core", "S3", "GPU"} <= {f["what"] for f in said["findings"]}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs /proc, which nobody can write to")
def test_doctor_finds_a_home_that_cannot_be_written(fdf, monkeypatch):
    monkeypatch.setenv("FDF_HOME", "/proc/fdf")
    done = fdf("doctor", "--json")
    home = next(f for f in json.loads(done.stdout)["findings"] if f["what"] == "FDF_HOME")
    assert home["status"] == "problem"
    assert done.exit_code == 4


@pytest.mark.parametrize("name", ["recipe", "manifest", "receipt", "event"])
def test_schemas_are_draft_07(fdf, name):
    schema = json.loads(fdf("schema", name).stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_what_a_run_writes_is_valid_under_the_published_schemas(fdf, recipe, op, home, tmp_path):
    from fdf.stage.manifest import DETERMINISTIC

    stats = {"id": "stats", "kind": "evaluator", "op": "ColumnStats", "params": {"columns": ["n"]}}
    scored = {"name": "score", "operators": [op("score", "Lengths", poison="nine"), CLEAN, stats]}
    path = recipe(stages=[scored])
    done = fdf("run", path, "--runner", "serial", "--json")
    assert done.exit_code == 0, done.output
    check = {
        n: jsonschema.Draft7Validator(json.loads(fdf("schema", n).stdout)) for n in ("manifest", "receipt", "event")
    }
    for line in done.stdout.splitlines():
        check["event"].validate(json.loads(line))
    manifests = [*home.rglob("manifest.json"), tmp_path / "out" / "__fdf__" / "manifest.json"]
    receipts = [p for top in (home, tmp_path / "out") for p in top.glob("**/_receipts/*/*.json")]
    assert len(manifests) == 2
    assert len(receipts) == 3
    for receipt in receipts:
        check["receipt"].validate(json.loads(receipt.read_text()))
    described = check["manifest"].schema["properties"]
    for file in manifests:
        manifest = json.loads(file.read_text())
        check["manifest"].validate(manifest)
        assert set(manifest) <= set(described), "a key that the published schema does not describe"
    assert {k for k, v in described.items() if v["x-fdf-part"] == "deterministic"} == set(DETERMINISTIC)
    broken = {**manifest, "counts": {**manifest["counts"], "rows_in": -1}}
    assert not check["manifest"].is_valid(broken)


def test_plain_progress_writes_a_line_per_stage_and_one_per_30_seconds(capsys):
    seconds = [0.0]
    lines = PlainLines(RunProgress(), clock=lambda: seconds[0])

    def at(time_, kind, stage=None, split=None, **data):
        seconds[0] = time_
        lines.take(Event(kind=kind, stage=stage, split=split, time=time_, data=data))

    committed = {"rows_in": 1000, "rows_out": 250, "bytes_in": 2_000_000}
    at(0, "run_started", run_id="r", stages=["clean"])
    at(0, "stage_started", "clean", root="x")
    for number in range(40):
        at(number * 2, "split_started", "clean", str(number), name=str(number), attempt=1)
        at(number * 2 + 2, "split_committed", "clean", str(number), name=str(number), **committed)
    at(80, "stage_committed", "clean", id="0", counts={"rows_out": 10_000}, gates_failed=[])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    assert "15/15 splits, 15,000 rows in, kept 25.0 %, 500 rows/s, 1.0 MB/s" in said[2]
    assert "committed. 40/40 splits, 40,000 rows in" in said[4]


def test_time_left_follows_from_rows_of_the_stage_before():
    progress = RunProgress()
    for event in (
        Event(kind="stage_started", stage="a", time=0),
        Event(kind="stage_committed", stage="a", time=1, data={"counts": {"rows_out": 400}}),
        Event(kind="stage_started", stage="b", time=1),
        Event(kind="split_skipped", stage="b", split="0", time=1, data={"rows_in": 100}),
        Event(
            kind="split_committed", stage="b", split="1", time=11, data={"rows_in": 100, "rows_out": 1, "bytes_in": 1}
        ),
    ):
        progress.take(event)
    # 100 rows in 10 s, 200 rows to go.
    assert progress.current.left(11) == pytest.approx(20)


def test_dataset_of_a_limited_run_holds_the_first_rows(fdf, recipe, tmp_path):
    assert fdf("run", recipe(stages=[]), "--runner", "serial", "--limit", "7").exit_code == 0
    rows = [r for p in sorted((tmp_path / "out").glob("*.parquet")) for r in pq.read_table(p)["n"].to_pylist()]
    assert sorted(rows) == [1, 2, 3, 4, 5, 6, 7]
