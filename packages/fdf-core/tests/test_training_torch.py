"""PyTorch's own loaders over a MixtureDataset; what needs no PyTorch is in test_training.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest
from training_corpora import WEIGHTS, mixture, write_sources, written

import fdf
from fdf.errors import PlanError
from fdf.schema import ID

data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
SMALL = {"web": 300, "code": 200, "math": 100}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FDF_HOME", str(folder / "home"))
        recipe = mixture(write_sources(folder / "in", SMALL), WEIGHTS)
        return {"finished": fdf.run(written(recipe, folder / "out"), runner="serial"), "recipe": recipe}


@pytest.fixture(params=["finished", "recipe"])
def corpus(request, places):
    return places[request.param]


def opened(of, rank=0, world_size=1, **options):
    return fdf.MixtureDataset(of, **{"rank": rank, "world_size": world_size, "window": 64, "columns": [ID], **options})


def loaded(dataset, **options):
    return [list(b[ID]) for b in data.DataLoader(dataset, **options)]


def test_it_is_an_iterable_dataset(corpus):
    assert isinstance(opened(corpus), data.IterableDataset)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_ranks_batches_do_not_depend_on_its_workers(places, context):
    corpus = places["finished" if context == "fork" else "recipe"]
    alone = loaded(opened(corpus, 1, 2, turn=16), batch_size=16)
    for workers in (1, 2) if context == "fork" else (2,):
        options = {"num_workers": workers, "multiprocessing_context": context}
        assert loaded(opened(corpus, 1, 2, turn=16), batch_size=16, **options) == alone
    in_batches = opened(corpus, 1, 2, batch_size=16)
    assert loaded(in_batches, batch_size=None, num_workers=2, multiprocessing_context=context) == alone


def test_the_main_process_tells_where_workers_stand(places):
    corpus = places["finished"]
    before = [opened(corpus, r, 3, batch_size=16) for r in range(3)]
    options = {"batch_size": None, "num_workers": 2, "multiprocessing_context": "fork"}
    got = [i for d in before for b in islice(iter(data.DataLoader(d, **options)), 5) for i in b[ID]]
    state = before[0].state_at(5 * 16)
    assert all(d.state_at(5 * 16) == state for d in before)
    for rank in range(2):
        dataset = opened(corpus, rank, 2, batch_size=20)
        dataset.load_state_dict(json.loads(json.dumps(state)))
        got += [i for b in data.DataLoader(dataset, batch_size=None, num_workers=1) for i in b[ID]]
    assert Counter(got) == Counter(places["finished"].to_arrow()[ID].to_pylist())


def test_the_state_of_one_worker_is_for_that_worker(places, monkeypatch):
    corpus = places["finished"]

    def as_worker(number, of):
        info = None if of == 0 else type("Info", (), {"id": number, "num_workers": of})()
        monkeypatch.setattr(data, "get_worker_info", lambda: info)

    as_worker(0, 0)
    whole = [d[ID] for d in opened(corpus, turn=4)]
    got = []
    for worker in (0, 1):
        as_worker(worker, 2)
        first = opened(corpus, turn=4)
        part = [d[ID] for d in islice(iter(first), 50 + worker)]
        second = opened(corpus, turn=4)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        part += [d[ID] for d in second]
        assert part == [i for n, i in enumerate(whole) if n // 4 % 2 == worker]
        got += part
    assert Counter(got) == Counter(whole)
    as_worker(0, 0)
    other = opened(corpus, turn=4)
    other.load_state_dict(first.state_dict())
    with pytest.raises(PlanError, match="worker 1 of 2"):
        next(iter(other))


def test_importing_fdf_does_not_import_torch():
    code = "import fdf, sys; fdf.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
