"""Streams: inputs that can only be read in order, by a process of their own, with a spool and a journal."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fdf
from fdf.errors import Cancelled, PlanError, RecipeError, StageFailed
from fdf.mixture import ranges
from fdf.mixture.sizes import Measure
from fdf.sources.base import Reject, SourceBatch
from fdf.sources.python import PythonSource
from fdf.stage.crashpoints import READER_POINTS, VARIABLE
from fdf.stage.events import CancelToken
from fdf.stage.streaming import chunks
from fdf.stage.streaming.chunks import Chunker, Counting, decoded, encoded
from fdf.storage import open_store
from fdf.testing.s3 import s3_stand_in
from fdf.testing.streams import StreamConformance

SOURCE = Path(__file__).with_name("stream_functions.py")
CHUNK, SPLIT = 100, 250


class TestPythonSourceOfRows(StreamConformance):
    @pytest.fixture
    def source(self):
        return PythonSource(function=f"{SOURCE}:documents", args={"rows": 2500, "bad": [1007, 1008, 1500]})


class TestPythonSourceThatSeeks(StreamConformance):
    @pytest.fixture
    def source(self):
        return PythonSource(function=f"{SOURCE}:seeking", args={"rows": 2500})


class TestPythonSourceOfTables(StreamConformance):
    @pytest.fixture
    def source(self):
        return PythonSource(function=f"{SOURCE}:tables", args={"rows": 2500})


class TestPythonSourceOfFilesInDicts(StreamConformance):
    @pytest.fixture
    def source(self):
        return PythonSource(function=f"{SOURCE}:undecoded", args={"rows": 1200})


class TestPythonSourceOfFilesInTables(StreamConformance):
    @pytest.fixture
    def source(self):
        return PythonSource(function=f"{SOURCE}:undecoded", args={"rows": 1200, "size": 70})


@pytest.fixture(autouse=True)
def small(monkeypatch, home):
    """Cut chunks and splits small, so that small streams have many; wait little between attempts."""
    monkeypatch.setattr(chunks, "MOST_ROWS", CHUNK)
    monkeypatch.setattr(ranges, "MOST_ROWS", SPLIT)


COLUMNS = {"text": "string", "n": "int64"}


def stream(function="documents", **args):
    return {"type": "python", "function": f"{SOURCE}:{function}", "args": args, "schema": COLUMNS}


def recipe(tmp_path, source, *, stages=None, **more):
    one = {"name": "one", "materialize": {"path": str(tmp_path / "one")}, "operators": []}
    return {
        "name": "streamed",
        "input": {"name": "web", **source},
        "stages": [one] if stages is None else stages,
        **more,
    }


def mixture(tmp_path, source, *, stages=None, weights=(0.6, 0.4), **settings):
    folder = tmp_path / "in"
    if not folder.exists():
        folder.mkdir()
        texts = [f"listed {i} ".ljust(40 + i % 90, ".") for i in range(900)]
        for part in range(3):
            rows = slice(part * 300, part * 300 + 300)
            pq.write_table(pa.table({"text": texts[rows], "n": list(range(900))[rows]}), folder / f"{part}.parquet")
    datasets = [
        {"name": "web", "source": source, "weight": weights[0], **settings.pop("web", {})},
        {"name": "listed", "source": {"type": "parquet", "path": str(folder)}, "weight": weights[1]},
    ]
    given = recipe(tmp_path, {}, stages=stages)
    return given | {"input": {"type": "mixture", "datasets": datasets, "unit": "bytes", **settings}}


def run(given, **options):
    return fdf.run(given, runner="serial", **options)


def rows_of(root):
    manifest = json.loads(
        next(p for p in (root / "manifest.json", root / "__fdf__/manifest.json") if p.exists()).read_text()
    )
    return [row for e in manifest["outputs"] for row in pq.read_table(root / e["path"]).to_pylist()]


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("part-*") if p.is_file()}


def spooled(root):
    return sorted(p.name for p in root.rglob("*.arrow"))


def test_a_stream_alone_is_an_input_in_its_own_order(tmp_path):
    result = run(recipe(tmp_path, stream(rows=1030)))
    rows = rows_of(tmp_path / "one")
    assert [r["n"] for r in rows] == list(range(1030))
    assert [r["__fdf__/id"].split(":")[1] for r in rows] == [str(n) for n in range(1030)]
    assert {r["__fdf__/source"] for r in rows} == {"web"}
    manifest = result.manifests["one"]
    assert sum(i["rows"] for i in manifest["inputs"]) == 1030
    assert len(manifest["outputs"]) == -(-1030 // SPLIT)
    assert not (tmp_path / "one" / "_spool").exists()


def test_running_again_after_the_commit_runs_nothing_again(tmp_path):
    first = run(recipe(tmp_path, stream(rows=700)))
    started = []
    again = run(recipe(tmp_path, stream(rows=700)), on_event=lambda e: started.append(e.kind))
    assert "split_started" not in started
    assert again.manifests["one"]["id"] == first.manifests["one"]["id"]
    assert not (tmp_path / "one" / "_spool").exists()


def test_a_changed_function_is_another_dataset(tmp_path):
    file = tmp_path / "mine.py"
    given = recipe(tmp_path, {"type": "python", "function": str(file) + ":rows"})
    file.write_text("def rows():\n    yield from ({'n': n} for n in range(10))\n")
    first = run(given).manifests["one"]
    file.write_text("def rows():\n    yield from ({'n': -n} for n in range(10))\n")
    second = run(given).manifests["one"]
    assert first["fingerprint"] != second["fingerprint"]
    assert [r["n"] for r in rows_of(tmp_path / "one")] == [-n for n in range(10)]


def test_a_function_beside_the_recipe_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def rows(count):\n    yield from ({'n': n} for n in range(count))\n")
    place = f"materialize: {{path: '{tmp_path}/one'}}"
    text = f"""
        name: beside
        input: {{type: python, function: 'mine.py:rows', args: {{count: 5}}}}
        stages: [{{name: one, operators: [], {place}}}]
    """
    (tmp_path / "recipe.yaml").write_text(textwrap.dedent(text))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(tmp_path / "recipe.yaml")
    assert [r["n"] for r in rows_of(tmp_path / "one")] == list(range(5))


def test_a_stream_beside_an_indexed_source_keeps_the_bound(tmp_path):
    manifest = run(mixture(tmp_path, stream(rows=1200), on_exhausted="renormalize")).manifests["one"]
    rows = rows_of(tmp_path / "one")
    assert [r["n"] for r in rows if r["__fdf__/source"] == "web"] == list(range(1200))
    assert sorted(r["n"] for r in rows if r["__fdf__/source"] == "listed") == list(range(900))
    # The distance of the stream from its share, in bytes, over every prefix in which both had rows left.
    sizes = np.array([len(r["text"].encode()) for r in rows])
    of_web = np.array([r["__fdf__/source"] == "web" for r in rows])
    both = min(np.flatnonzero(of_web)[-1], np.flatnonzero(~of_web)[-1])
    away = np.abs(np.cumsum(sizes * of_web) - 0.6 * np.cumsum(sizes))[:both]
    assert away.max() < sizes.max() == manifest["mixture"]["bound"]
    assert {leaf["name"]: leaf["delivered"]["rows"] for leaf in manifest["mixture"]["leaves"]} == {
        "web": 1200,
        "listed": 900,
    }


def test_order_and_bytes_depend_neither_on_the_runner_nor_on_arrival(tmp_path):
    expected = None
    for number, options in enumerate(({"runner": "serial"}, {"runner": "local", "workers": 3})):
        place = tmp_path / str(number)
        given = mixture(tmp_path, stream(rows=1200), on_exhausted="renormalize")
        given["stages"][0]["materialize"]["path"] = str(place / "one")
        fdf.run(given, run_id=str(number), **options)
        found = files(place / "one")
        assert expected in (None, found)
        expected = found


def test_epochs_begin_the_stream_again(tmp_path):
    run(mixture(tmp_path, stream(rows=230), web={"epochs": 2.5}, on_exhausted="renormalize"))
    rows = [r for r in rows_of(tmp_path / "one") if r["__fdf__/source"] == "web"]
    assert [r["n"] for r in rows] == [*range(230), *range(230), *range(115)]
    marks = [r["__fdf__/id"].partition("#")[2] for r in rows]
    assert marks == [""] * 230 + ["1"] * 230 + ["2"] * 115
    assert len({r["__fdf__/id"] for r in rows}) == len(rows)


def test_an_endless_stream_is_read_as_far_as_it_is_asked_for(tmp_path):
    log = tmp_path / "pulled"
    run(recipe(tmp_path, stream("logged", rows=10**9, log=str(log))), limit=330)
    assert [r["n"] for r in rows_of(tmp_path / "one")] == list(range(330))
    # The chunks that were asked for, two ahead of the schedule, two ahead of these, and the one that is begun.
    assert log.stat().st_size <= 400 + 5 * CHUNK


def test_an_empty_stream_is_an_error(tmp_path):
    with pytest.raises(StageFailed, match="`web` has no rows"):
        run(mixture(tmp_path, stream("nothing")))
    with pytest.raises(PlanError, match="has no rows"):
        run(recipe(tmp_path, {**stream("nothing"), "schema": None}))


def test_columns_are_found_in_the_first_rows(tmp_path):
    source = stream(rows=1200)
    del source["schema"]
    run(recipe(tmp_path, source))
    assert [r["n"] for r in rows_of(tmp_path / "one")] == list(range(1200))


def test_a_function_that_fails_at_once_is_told_with_its_line(tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("3")
    source = stream("breaking", rows=10, of="documents", file=str(wrong))
    del source["schema"]
    with pytest.raises(StageFailed, match=r"failed in its first 1000 rows: ValueError: no 3 \(.*stream_functions.py:"):
        run(recipe(tmp_path, source))


def test_rows_that_do_not_fit_are_quarantined_and_charged(tmp_path):
    given = mixture(tmp_path, stream(rows=500, bad=[3, 250, 499]), on_exhausted="renormalize")
    given["stages"][0]["max_error_rate"] = 0.1
    manifest = run(given).manifests["one"]
    assert manifest["counts"]["rows_quarantined"] == 3
    (web, _) = manifest["mixture"]["leaves"]
    assert web["planned"]["rows"] == web["delivered"]["rows"] == 500
    bad = [r for e in manifest["quarantine"] for r in pq.read_table(tmp_path / "one" / e["path"]).to_pylist()]
    assert {r["__fdf__/id"].split(":")[1]: r["__fdf__/source"] for r in bad} == dict.fromkeys(
        ["3", "250", "499"], "web"
    )
    assert all("column `n`" in r["__fdf__/error"] for r in bad)
    kept = [r["n"] for r in rows_of(tmp_path / "one") if r["__fdf__/source"] == "web"]
    assert kept == [n for n in range(500) if n not in (3, 250, 499)]


def test_faults_that_pass_are_waited_for(tmp_path, monkeypatch):
    log = tmp_path / "faults"
    run(recipe(tmp_path, stream("faltering", rows=900, log=str(log), every=170, error="ConnectionError")))
    assert [r["n"] for r in rows_of(tmp_path / "one")] == list(range(900))
    assert len(log.read_text().split()) >= 4


@pytest.mark.parametrize(("function", "reached"), [("documents", 610), ("tables", 560)])
def test_a_fault_that_stays_fails_the_stage_which_can_be_resumed(tmp_path, function, reached):
    wrong = tmp_path / "wrong"
    wrong.write_text("610")
    whole = tmp_path / "whole"
    run(recipe(whole, stream("breaking", rows=1000, of=function, file=str(tmp_path / "none"))), run_id="whole")
    given = recipe(tmp_path, stream("breaking", rows=1000, of=function, file=str(wrong)))
    with pytest.raises(StageFailed, match=rf"stream of `web` failed at record {reached}: ValueError: no 610") as caught:
        run(given)
    assert caught.value.exit_code == 3
    assert "stream_functions.py:" in str(caught.value)
    kept = list((tmp_path / "one" / "_receipts").rglob("*.json"))
    assert kept
    wrong.unlink()
    started = []
    run(given, on_event=lambda e: started.append(e.kind))
    assert started.count("split_skipped") == len(kept)
    assert [r["n"] for r in rows_of(tmp_path / "one")] == list(range(1000))
    # Another `file` is another dataset by name, with the same rows.
    assert [r["n"] for r in rows_of(whole / "one")] == list(range(1000))
    assert len(files(tmp_path / "one")) == len(files(whole / "one"))


@pytest.mark.parametrize(
    ("says", "how"), [("record 599 is another one now", "other"), ("it ends before record", "short")]
)
def test_a_stream_that_comes_back_otherwise_is_an_error(tmp_path, says, how):
    switch = tmp_path / "switch"
    switch.write_text("breaks")
    given = recipe(tmp_path, stream("fickle", rows=1000, file=str(switch)))
    with pytest.raises(StageFailed, match="no more"):
        run(given)
    switch.write_text(how)
    with pytest.raises(StageFailed, match=says):
        run(given)
    switch.write_text("whole")
    run(given)
    assert [r["n"] for r in rows_of(tmp_path / "one")] == list(range(1000))


def test_the_reader_is_never_further_ahead_than_its_credit(tmp_path):
    """With a slow consumer neither memory nor the spool grows: a few chunks, however long the stream."""
    log = tmp_path / "pulled"
    most = []

    def slow(event):
        if event.kind == "split_committed":
            time.sleep(0.3)
            done = sum(
                json.loads(p.read_text())["counts"]["rows_in"] for p in (tmp_path / "one/_receipts").rglob("*.json")
            )
            most.append((log.stat().st_size - done, len(spooled(tmp_path / "one"))))

    run(recipe(tmp_path, stream("logged", rows=4000, log=str(log))), on_event=slow)
    assert len(most) == 4000 // SPLIT
    # Ahead of what is committed: a split that is drawn, 2 chunks of the schedule, 2 of the reader, the one it is at.
    assert max(rows for rows, _ in most) <= SPLIT + 5 * CHUNK
    assert max(count for _, count in most) <= 5 + SPLIT // CHUNK


@pytest.mark.parametrize("point", READER_POINTS)
@pytest.mark.parametrize("nth", [1, 4])
def test_a_reader_killed_at_any_point_costs_no_row(tmp_path, monkeypatch, point, nth):
    monkeypatch.setenv(VARIABLE, f"{point}:{tmp_path}/count#{nth}")
    run(recipe(tmp_path, stream(rows=1000)))
    assert (tmp_path / "count").stat().st_size >= 10
    assert [r["n"] for r in rows_of(tmp_path / "one")] == list(range(1000))


def test_a_reader_that_keeps_dying_fails_the_stage(tmp_path):
    with pytest.raises(StageFailed, match="ended 5 times at record 0, last with exit code 9"):
        run(recipe(tmp_path, stream("exiting")))


def test_a_chunk_that_is_lost_is_read_from_the_stream_again(tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("900")
    given = recipe(tmp_path, stream("breaking", rows=1000, of="documents", file=str(wrong)))
    with pytest.raises(StageFailed):
        run(given)
    wrong.unlink()
    for path in (tmp_path / "one").rglob("part-*"):
        path.unlink()  # Its split must run again, and the chunks that it read are gone.
    run(given)
    assert [r["n"] for r in rows_of(tmp_path / "one")] == list(range(1000))


def test_a_driver_that_waits_for_a_stream_can_be_interrupted(tmp_path):
    cancel = CancelToken()
    given = recipe(tmp_path, stream("stuck"))
    threading.Timer(1.0, cancel.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run(given, cancel=cancel)
    assert time.monotonic() - began < 20


def test_readers_of_the_dataset_never_see_the_spool(tmp_path):
    """Neither before the commit, when it is there, nor after it, when it is gone."""
    wrong = tmp_path / "wrong"
    wrong.write_text("900")
    source = stream("breaking", rows=1000, of="documents", file=str(wrong))
    out = tmp_path / "out"
    given = recipe(tmp_path, source, stages=[], output={"type": "parquet", "path": str(out)})
    with pytest.raises(StageFailed):
        run(given)
    assert spooled(out / "__fdf__" / "_spool")
    seen = pads.dataset(out, format="parquet").to_table().num_rows
    assert seen == sum(pq.read_metadata(p).num_rows for p in out.glob("part-*"))
    wrong.unlink()
    run(given)
    assert pads.dataset(out, format="parquet").to_table()["n"].to_pylist() == list(range(1000))
    assert not (out / "__fdf__" / "_spool").exists()


def test_the_spool_of_a_stage_on_s3_is_there(tmp_path):
    """Resumed from there, and cleared there."""
    wrong = tmp_path / "wrong"
    wrong.write_text("700")
    given = recipe(tmp_path, stream("breaking", rows=1000, of="documents", file=str(wrong)))
    given["stages"][0]["materialize"]["path"] = "s3://fdf-streams/one"
    with s3_stand_in("fdf-streams"):
        with pytest.raises(StageFailed, match="record 700"):
            run(given)
        store = open_store("s3://fdf-streams/one")
        assert [e for e in store.list("_spool/") if e.path.endswith(".journal")]
        wrong.unlink()
        manifest = run(given).manifests["one"]
        assert manifest["resumed_splits"] == 700 // SPLIT
        tables = [pq.read_table(pa.BufferReader(store.read(e["path"]))) for e in manifest["outputs"]]
        assert pa.concat_tables(tables)["n"].to_pylist() == list(range(1000))
        assert list(store.list("_spool/")) == []


def test_gc_leaves_the_spool_of_an_unfinished_run_and_removes_others(tmp_path, home):
    from fdf.runner.garbage import claims_of_runs
    from fdf.stage.garbage import find_garbage, remove_garbage

    run(recipe(tmp_path, stream(rows=300)), run_id="done")
    wrong = tmp_path / "wrong"
    wrong.write_text("700")
    given = recipe(tmp_path, stream("breaking", rows=1000, of="documents", file=str(wrong)))
    with pytest.raises(StageFailed):
        run(given, run_id="broken")
    there = spooled(tmp_path / "one")
    assert there
    later = time.time() + 10

    def garbage():
        found = find_garbage(str(tmp_path / "one"), claims=claims_of_runs(home), grace=0, now=later)
        return found, {x.path for x in found.leftovers if x.what == "spool"}

    assert garbage()[1] == set()
    (home / "runs" / "broken" / "run.json").unlink()
    (home / "runs" / "broken" / "recipe.json").unlink()
    found, spool = garbage()
    assert {Path(p).name for p in spool if p.endswith(".arrow")} == set(there)
    assert remove_garbage(found)
    assert spooled(tmp_path / "one") == []


def test_a_stream_has_no_share_by_its_size(tmp_path):
    given = mixture(tmp_path, stream(rows=100), temperature=2.0)
    del given["input"]["datasets"][0]["weight"]
    with pytest.raises(PlanError, match=r"`web` is a stream.* no share by its size"):
        run(given)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("absent.py:rows", "cannot read the file"),
        (f"{SOURCE}:documentz", "no function `documentz`"),
        (f"{SOURCE}:words", "yields str, which holds no rows"),
        (f"{SOURCE}:number", "returns int, which holds no rows"),
        ("nonsense", "names no function"),
    ],
)
def test_a_function_that_gives_no_rows_is_told(tmp_path, function, says):
    with pytest.raises((PlanError, StageFailed, RecipeError), match=says):
        run(recipe(tmp_path, {"type": "python", "function": function}))


def test_extra_columns_may_be_an_error(tmp_path):
    source = {**stream(rows=50), "schema": {"n": "int64"}, "extra_columns": "error"}
    with pytest.raises(StageFailed, match=r"has the columns \['text'\]"):
        run(recipe(tmp_path, source))


COUNTING = Counting(
    measure=Measure(unit="bytes", method="utf-8 bytes", columns=("text",)),
    columns=("text",),
    schema=pa.schema([("text", pa.string()), ("tags", pa.list_(pa.int16())), ("flag", pa.bool_())]),
)


def sourced(records, start):
    """Records as a source gives them: None stands for one that cannot be read."""
    rows = [(n, r) for n, r in enumerate(records, start) if r is not None]
    batch = pa.RecordBatch.from_pylist([r for _, r in rows], schema=COUNTING.schema)
    rejects = tuple(Reject(position=n, error="bad", raw=b"x") for n, r in enumerate(records, start) if r is None)
    return SourceBatch(batch, pa.array([n for n, _ in rows], pa.int64()), rejects)


record = st.none() | st.fixed_dictionaries(
    {
        "text": st.none() | st.text(max_size=30),
        "tags": st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=4),
        "flag": st.none() | st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(record, min_size=1, max_size=60), st.data())
def test_chunks_depend_on_the_records_alone(records, data):
    """However batches are cut, and wherever at the border of a chunk the stream is taken up."""

    def chunked(start, cuts):
        chunker = Chunker(COUNTING, start=start, most_rows=9, most_bytes=400)
        made = []
        for a, b in zip([start, *cuts], [*cuts, len(records)], strict=True):
            # Views into larger buffers, as readers give them.
            whole = sourced(records, 0).after(a - 1)
            count = sum(r is not None for r in records[a:b])
            rejects = tuple(r for r in whole.rejects if r.position < b)
            part = SourceBatch(whole.rows.slice(0, count), whole.positions.slice(0, count), rejects)
            made += chunker.add(part)
        return [encoded(c) for c in (*made, *chunker.rest())]

    whole = chunked(0, [])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=6)))
    assert chunked(0, cuts) == whole
    batches = [decoded(pa.BufferReader(d), COUNTING.schema) for d in whole]
    at = data.draw(st.integers(0, len(whole) - 1))
    start = sum(len(b.positions) + len(b.rejects) for b in batches[:at])
    assert chunked(start, sorted(max(start, c) for c in cuts)) == whole[at:]
    found = {p: r for b in batches for p, r in zip(b.positions.to_pylist(), b.rows.to_pylist(), strict=True)}
    assert found == {n: r for n, r in enumerate(records) if r is not None}
    assert [r.position for b in batches for r in b.rejects] == [n for n, r in enumerate(records) if r is None]
