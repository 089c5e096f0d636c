"""Training reads a dataset: each document once per pass, whatever the ranks, and exactly on from a state."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from itertools import islice, zip_longest
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_corpora import EQUAL, ROWS, WEIGHTS, mixture, write_sources, written

import fdf
from fdf.errors import BadFile, PlanError
from fdf.schema import ID, SOURCE

WINDOW = 256
# Upper 0.1 % points of chi-square by degrees of freedom: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4.
CHI_SQUARE_999 = {1: 10.828, 2: 13.816, 5: 20.515, 7: 24.322, 10: 29.588, 14: 36.123}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What was mixed, as a finished run and as the recipe."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FDF_HOME", str(folder / "home"))
        patch.setattr("fdf.mixture.ranges.MOST_ROWS", 400)
        recipe = mixture(write_sources(folder / "in", ROWS), WEIGHTS)
        result = fdf.run(written(recipe, folder / "out"), runner="serial")
    assert len(result.manifest["outputs"]) > 2
    return {"finished": result, "recipe": recipe}


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Read a mixture in blocks of two windows, so that states stand in the middle of its schedule."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fdf.training.online.WINDOW", WINDOW)
        patch.setattr("fdf.training.online._BLOCK_ROWS", 2 * WINDOW)
        yield


@pytest.fixture(params=["finished", "recipe"])
def corpus(request, places):
    return places[request.param]


def everything(places):
    return set(places["finished"].to_arrow()[ID].to_pylist())


def opened(of, rank=0, world_size=1, **options):
    return fdf.MixtureDataset(of, **{"rank": rank, "world_size": world_size, "window": WINDOW, **options})


def ids(documents):
    return [d[ID] for d in documents]


def chi_square(shares):
    """Pearson's statistic and degrees of freedom of a table, {rank: Counter of sources}: is the source independent of
    the rank?"""
    names = sorted({n for counts in shares for n in counts})
    table = np.array([[counts[n] for n in names] for counts in shares], dtype=float)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    return ((table - expected) ** 2 / expected).sum(), (table.shape[0] - 1) * (table.shape[1] - 1)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_every_document_goes_to_one_rank_once_per_pass(places, corpus, ranks):
    by_rank = [list(opened(corpus, r, ranks, epochs=2)) for r in range(ranks)]
    got = Counter(i for documents in by_rank for i in ids(documents))
    assert set(got) == everything(places)
    assert set(got.values()) == {2}
    counts = [len(d) for d in by_rank]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("ranks", [2, 8])
def test_each_rank_gets_its_share_of_every_source(corpus, ranks):
    statistic, freedom = chi_square([Counter(d[SOURCE] for d in opened(corpus, r, ranks)) for r in range(ranks)])
    assert statistic < CHI_SQUARE_999[freedom]


def test_a_change_from_eight_to_six_ranks_in_the_middle_loses_and_repeats_nothing(places, corpus):
    before = [opened(corpus, r, 8) for r in range(8)]
    first = [list(islice(iter(d), 131)) for d in before]
    states = [json.dumps(d.state_dict()) for d in before]
    assert len(set(states)) == 1
    assert json.loads(states[0]) == opened(corpus, 0, 8).state_at(131) or corpus is places["recipe"]
    after = [opened(corpus, r, 6) for r in range(6)]
    for dataset in after:
        dataset.load_state_dict(json.loads(states[0]))
    second = [list(d) for d in after]
    got = Counter(i for documents in first + second for i in ids(documents))
    assert set(got) == everything(places)
    assert set(got.values()) == {1}
    for part in (first, second):
        statistic, freedom = chi_square([Counter(d[SOURCE] for d in documents) for documents in part])
        assert statistic < CHI_SQUARE_999[freedom]


def test_without_a_permutation_two_equal_sources_on_two_ranks_would_alias(home, tmp_path):
    sources = write_sources(tmp_path / "in", {"a": 600, "b": 600})
    recipe = mixture(sources, EQUAL, unit="rows")

    def shares(window):
        return [Counter(d[SOURCE] for d in opened(recipe, r, 2, window=window)) for r in (0, 1)]

    # A window of one document permutes nothing.
    aliased = shares(1)
    assert aliased == [{"a": 600}, {"b": 600}]
    statistic, freedom = chi_square(aliased)
    assert statistic > CHI_SQUARE_999[freedom]
    statistic, freedom = chi_square(shares(WINDOW))
    assert statistic < CHI_SQUARE_999[freedom]


def test_documents_move_only_inside_their_window_and_the_recipe_gives_the_order_of_the_run(places):
    stored = places["finished"].to_arrow()[ID].to_pylist()
    finished, drawn = (ids(opened(places[kind], seed=5)) for kind in ("finished", "recipe"))
    assert finished == drawn
    assert finished != stored
    for start in range(0, len(stored), WINDOW):
        assert sorted(finished[start : start + WINDOW]) == sorted(stored[start : start + WINDOW])


def test_ranks_together_give_the_order_of_one(corpus):
    one = ids(opened(corpus))
    dealt = zip_longest(*(ids(opened(corpus, r, 3)) for r in range(3)))
    assert [i for turn in dealt for i in turn if i is not None] == one


def test_passes_differ_in_order_and_a_pass_can_be_asked_for(corpus):
    dataset = opened(corpus, epochs=2)
    both = ids(dataset)
    half = len(both) // 2
    assert both[:half] != both[half:]
    assert sorted(both[:half]) == sorted(both[half:])
    second = opened(corpus)
    second.set_epoch(1)
    assert ids(second) == both[half:]
    assert ids(second) == both[half:], "iterating again is the same again"
    with pytest.raises(PlanError, match="count from 0"):
        second.set_epoch(-1)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stops=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 90)), max_size=3),
    last=st.integers(1, 9),
    window=st.sampled_from([1, 100, 256, 4096]),
)
def test_any_chain_of_states_and_world_sizes_gives_every_document_once(places, corpus, stops, last, window):
    state, got = None, []
    for ranks, count in stops:
        datasets = [opened(corpus, r, ranks, window=window) for r in range(ranks)]
        for dataset in datasets:
            if state is not None:
                dataset.load_state_dict(state)
            got += ids(islice(iter(dataset), count))
        asked = datasets[0].state_at(count)
        state = json.loads(json.dumps(datasets[-1].state_dict()))
        assert state["position"] == asked["position"] or count == 0
    for rank in range(last):
        dataset = opened(corpus, rank, last, window=window)
        if state is not None:
            dataset.load_state_dict(state)
        got += ids(dataset)
    assert Counter(got) == Counter(everything(places))


def test_a_state_of_the_middle_goes_on_exactly_also_from_the_schedule_alone(places, corpus):
    whole = ids(opened(corpus, 1, 2, epochs=3))
    one_pass = -(-len(everything(places)) // 2)
    for taken in (0, 1, 128, 129, 700, one_pass - 1, one_pass, 2 * one_pass + 400):
        state = opened(corpus, 1, 2, epochs=3).state_at(taken)
        if corpus is places["recipe"]:
            assert state["position"] - state["epoch_began"] - state["cursor"]["first"] < 2 * WINDOW
        dataset = opened(corpus, 1, 2, epochs=3)
        dataset.load_state_dict(json.loads(json.dumps(state)))
        assert ids(dataset) == whole[taken:]
        walked = opened(corpus, 1, 2, epochs=3)
        documents = iter(walked)
        for _ in range(taken):
            next(documents)
        resumed = opened(corpus, 1, 2, epochs=3)
        resumed.load_state_dict(walked.state_dict())
        assert ids(resumed) == whole[taken:]


def test_states_can_be_asked_for_in_any_order(corpus):
    dataset = opened(corpus, 0, 2, epochs=3)
    for taken in (900, 100, 950, 2600, 2600, 0):
        assert dataset.state_at(taken) == opened(corpus, 0, 2, epochs=3).state_at(taken)
    dataset.load_state_dict(dataset.state_at(1000))
    assert dataset.state_at(500)["position"] == 3000


def test_the_state_is_some_numbers_per_source(corpus):
    dataset = opened(corpus)
    documents = iter(dataset)
    sizes = []
    for _ in range(4):
        for _ in range(500):
            next(documents)
        sizes.append(len(json.dumps(dataset.state_dict())))
    assert max(sizes) < 400 + 400 * len(WEIGHTS)
    assert max(sizes) - min(sizes) < 100


def test_a_finished_pass_leaves_every_rank_at_its_end(corpus):
    states = []
    for rank in range(7):
        dataset = opened(corpus, rank, 7)
        list(dataset)
        states.append(dataset.state_dict())
    assert all(s == states[0] for s in states)
    assert (states[0]["position"], states[0]["epoch"]) == (2500, 1)
    again = opened(corpus, 0, 7)
    again.load_state_dict(states[0])
    assert list(again) == []


@pytest.mark.parametrize("tail", ["keep", "drop", "pad"])
@pytest.mark.parametrize(("kind", "ranks"), [("recipe", 8), ("finished", 7), ("finished", 2499), ("finished", 2501)])
def test_the_tail_is_as_asked(places, tail, kind, ranks):
    corpus = places[kind]
    chosen = range(ranks) if ranks < 100 else [0, 1, 2, ranks - 2, ranks - 1]
    by_rank = [ids(opened(corpus, r, ranks, tail=tail, columns=[ID])) for r in chosen]
    counts = [len(d) for d in by_rank]
    total = len(everything(places))
    if tail == "drop":
        assert set(counts) == {total // ranks}
    if tail == "pad":
        assert set(counts) == {-(-total // ranks)}
    if tail == "keep":
        assert counts == [len(range(r, total, ranks)) for r in chosen]
    if tail != "pad":
        assert max(Counter(i for d in by_rank for i in d).values(), default=1) == 1
    elif ranks < 100:
        assert {i for d in by_rank for i in d} == everything(places)


def test_endless_passes_keep_ranks_level(corpus):
    streams = [iter(opened(corpus, r, 7, epochs=None)) for r in range(7)]
    got = Counter(i for s in streams for i in ids(islice(s, 5 * 2500 // 7)))
    assert set(got.values()) <= {4, 5}


def test_batches_hold_the_documents_in_order(corpus):
    plain = list(opened(corpus, 1, 3, columns=["n", ID]))
    for form in ("python", "arrow", "numpy"):
        batches = list(opened(corpus, 1, 3, columns=["n", ID], batch_size=64, format=form))
        rows = [len(b[ID]) if form != "arrow" else b.num_rows for b in batches]
        assert rows == [64] * (len(plain) // 64) + [len(plain) % 64]
        flat = [i for b in batches for i in (b[ID] if form != "arrow" else b.column(ID).to_pylist())]
        assert flat == ids(plain)
        numbers = [n for b in batches for n in (b["n"] if form != "arrow" else b.column("n").to_pylist())]
        assert numbers == [d["n"] for d in plain]
    assert isinstance(batches[0]["n"], np.ndarray)
    assert list(plain[0]) == ["n", ID]


def test_a_state_between_batches_goes_on_with_the_next(corpus):
    options = {"columns": [ID], "batch_size": 50, "format": "arrow"}
    whole = [b.column(ID).to_pylist() for b in opened(corpus, 0, 2, **options)]
    dataset = opened(corpus, 0, 2, **options)
    taken = [b.column(ID).to_pylist() for b in islice(iter(dataset), 7)]
    assert taken == whole[:7]
    resumed = opened(corpus, 0, 2, **options)
    resumed.load_state_dict(dataset.state_dict())
    assert [b.column(ID).to_pylist() for b in resumed] == whole[7:]


def test_columns_are_the_users_with_id_and_source(places, corpus):
    document = next(iter(opened(corpus)))
    assert list(document) == ["text", "n", ID, SOURCE]
    stored = dict(zip(*(places["finished"].to_arrow()[c].to_pylist() for c in (ID, "text")), strict=True))
    assert {d[ID]: d["text"] for d in opened(corpus)} == stored
    with pytest.raises(PlanError, match="did you mean `text`"):
        opened(corpus, columns=["txt"])


def test_the_documents_of_a_finished_dataset_are_counted(places):
    assert opened(places["finished"]).documents == 2500
    assert opened(places["recipe"]).documents is None


def test_to_torch_and_every_name_of_the_dataset_are_the_same(places, monkeypatch):
    result = places["finished"]
    whole = ids(opened(result))
    assert ids(result.to_torch(window=WINDOW)) == whole
    assert ids(opened(result.path)) == whole
    assert ids(opened(Path(result.path))) == whole
    assert ids(opened(f"file://{result.path}")) == whole
    stage = result.stages[0]
    assert set(ids(opened(stage.root))) == set(whole)


def test_a_dataset_is_read_from_a_url(places):
    memory = fsspec.filesystem("memory")
    memory.put(places["finished"].path, "/trained-on", recursive=True)
    try:
        remote = opened("memory://trained-on", 1, 2)
        state = remote.state_at(300)
        assert ids(remote) == ids(opened(places["finished"], 1, 2))
        remote.load_state_dict(state)
        assert ids(remote) == ids(opened(places["finished"], 1, 2))[300:]
    finally:
        memory.rm("/trained-on", recursive=True)


def test_it_works_without_pytorch(places):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import fdf\n"
        f"print(sum(1 for _ in fdf.MixtureDataset({places['finished'].path!r}, rank=0, world_size=2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1250"


def test_ranks_come_from_the_environment(places, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "5")
    found = fdf.MixtureDataset(places["finished"], window=WINDOW)
    assert ids(found) == ids(opened(places["finished"], 3, 5))
    monkeypatch.setenv("RANK", "5")
    with pytest.raises(PlanError, match="rank 5 of 5"):
        list(fdf.MixtureDataset(places["finished"]))
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(PlanError, match="RANK and WORLD_SIZE"):
        list(fdf.MixtureDataset(places["finished"]))


def test_it_travels_by_pickle_with_its_rank_and_state(corpus):
    dataset = opened(corpus, 2, 3)
    dataset.load_state_dict(opened(corpus, 2, 3).state_at(100))
    assert ids(pickle.loads(pickle.dumps(dataset))) == ids(dataset)


def test_a_state_of_another_plan_is_refused(home, tmp_path, places, corpus):
    state = opened(corpus).state_at(10)
    other = mixture(write_sources(tmp_path / "in", ROWS), {**WEIGHTS, "math": 0.4})
    with pytest.raises(PlanError, match="of another plan"):
        opened(other).load_state_dict(state)
    with pytest.raises(PlanError, match="window=256"):
        opened(corpus, window=128).load_state_dict(state)
    with pytest.raises(PlanError, match="seed=0"):
        opened(corpus, seed=1).load_state_dict(state)
    with pytest.raises(PlanError, match="no state of a MixtureDataset"):
        opened(corpus).load_state_dict({"step": 3})


def test_what_cannot_be_read_for_training_is_told(home, tmp_path, places):
    with pytest.raises(PlanError, match="nothing is committed"):
        opened(tmp_path)
    recipe = places["recipe"]
    step = {"name": "s", "operators": [{"id": "x", "kind": "filter", "op": "SampleFilter", "params": {"rate": 0.5}}]}
    with pytest.raises(PlanError, match="stage `s` of `mixed` changes rows"):
        opened({**recipe, "stages": [step]})
    with pytest.raises(PlanError, match="is no mixture"):
        opened({"name": "x", "input": recipe["input"]["datasets"][0]["source"]})
    with pytest.raises(PlanError, match="row groups stay whole"):
        opened({**recipe, "input": {**recipe["input"], "granularity": "block"}})
    lines = written(recipe, tmp_path / "lines")
    lines["output"] = {"type": "jsonl", "path": str(tmp_path / "lines")}
    result = fdf.run(lines, runner="serial")
    with pytest.raises(PlanError, match="is not parquet"):
        result.to_torch()
    for options in ({"tail": "cut"}, {"format": "arrow"}, {"batch_size": 0}, {"batch_size": 4, "turn": 2}, {"rank": 1}):
        with pytest.raises(PlanError):
            fdf.MixtureDataset(places["finished"], **options)


def test_a_row_that_cannot_be_read_is_told_or_skipped(home, tmp_path):
    (tmp_path / "good.jsonl").write_text("".join(json.dumps({"text": f"good {i}"}) + "\n" for i in range(50)))
    lines = [json.dumps({"text": f"bad {i}"}) for i in range(50)]
    lines[20] = '{"text": broken'
    (tmp_path / "bad.jsonl").write_text("\n".join(lines) + "\n")
    datasets = [
        {"name": n, "source": {"type": "jsonl", "path": str(tmp_path / f"{n}.jsonl")}, "weight": 0.5}
        for n in ("good", "bad")
    ]
    recipe = {"name": "x", "input": {"type": "mixture", "on_exhausted": "renormalize", "datasets": datasets}}
    with pytest.raises(BadFile, match=r"row \d+ of .*bad.jsonl"):
        list(opened(recipe))
    texts = [d["text"] for r in (0, 1) for d in opened(recipe, r, 2, bad_rows="skip")]
    assert sorted(texts) == sorted([f"good {i}" for i in range(50)] + [f"bad {i}" for i in range(50) if i != 20])


def test_a_damaged_shard_is_named(home, tmp_path):
    rows = fdf.Pipeline("numbers").read(pa.table({"n": list(range(1000))}))
    result = fdf.run(rows.write("parquet", path=tmp_path / "out"), runner="serial")
    dataset = result.to_torch()
    (shard,) = (tmp_path / "out").glob("part-*.parquet")
    data = shard.read_bytes()
    shard.write_bytes(data[:8] + b"\xff" * 200 + data[208:])
    with pytest.raises(BadFile, match=f"shard {shard.name}"):
        list(dataset)


def test_an_empty_dataset_ends_at_once_also_without_end(home, tmp_path):
    gone = {"id": "none", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "n", "ge": 10}}
    rows = fdf.Pipeline("none").read(pa.table({"n": [1, 2, 3]})).stage("s", [gone])
    result = fdf.run(rows.write("parquet", path=tmp_path / "out"), runner="serial")
    for epochs in (1, None):
        assert list(result.to_torch(epochs=epochs)) == []


def test_only_a_window_and_a_batch_are_held(home, tmp_path, monkeypatch):
    sizes = []
    count, width = 20_000, 4_000
    table = pa.table({"text": [f"{i} ".ljust(width, "x") for i in range(count)]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=1000)
    recipe = fdf.Pipeline("big").read("parquet", path=str(tmp_path / "in.parquet"))
    result = fdf.run(recipe.write("parquet", path=tmp_path / "out", row_group_bytes=4 << 20), runner="serial")
    del table
    before = pa.total_allocated_bytes()
    for batch in result.to_torch(window=500, batch_size=100, format="arrow", columns=["text"]):
        sizes.append(pa.total_allocated_bytes() - before)
        del batch
    # A window of 500 documents is 2 MB, a row group 4 MB, what is decoded at once 8 MB at most, of 80 MB in all.
    assert max(sizes) < 24 << 20
