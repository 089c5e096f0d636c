"""What a worker says when an operator cannot be set up, or a fault does not pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

import fdf
from fdf.errors import FdfError, MissingDependency, StageFailed, TransientError
from fdf.stage import attempts


@dataclass(frozen=True, kw_only=True)
class Uncertain(fdf.Filter):
    """Fails in the way that it is told to."""

    field: str = "n"
    way: str = "none"
    version = "1.0.0"
    torn_down = []  # noqa: RUF012 (shared on purpose: the instance is pickled on its way)

    def setup(self, context: fdf.Context) -> None:
        if self.way == "module":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        if self.way == "setup":
            raise OSError("no weights here")

    def teardown(self) -> None:
        type(self).torn_down.append(self.way)

    def verdict(self, batch: pa.RecordBatch) -> fdf.Verdict:
        if self.way == "transient":
            raise TransientError("the service is away")
        return fdf.Verdict.keep_all(batch.num_rows)


def run(tmp_path: Any, way: str) -> fdf.RunResult:
    rows = pa.table({"n": [1, 2, 3]})
    pipeline = fdf.Pipeline("setup").read(rows).stage("s", [Uncertain(way=way)], path=str(tmp_path / "s"))
    return fdf.run(pipeline, runner="serial")


@pytest.fixture(autouse=True)
def home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.001)
    Uncertain.torn_down.clear()


@pytest.mark.parametrize(
    ("way", "kind", "words"),
    [
        ("module", MissingDependency, "pip install torch"),
        ("setup", StageFailed, "no weights here"),
        ("transient", StageFailed, "the service is away"),
    ],
)
def test_the_error_names_the_operator_and_the_next_step(tmp_path: Any, way: str, kind: type, words: str) -> None:
    with pytest.raises(FdfError, match=words) as caught:
        run(tmp_path, way)
    assert type(caught.value) is kind
    assert not (tmp_path / "s" / "manifest.json").exists()


@pytest.mark.parametrize("way", ["none", "setup", "transient"])
def test_what_was_set_up_is_torn_down_once_whatever_happens(tmp_path: Any, way: str) -> None:
    try:
        run(tmp_path, way)
    except FdfError:
        assert way != "none"
    assert Uncertain.torn_down == [way]
