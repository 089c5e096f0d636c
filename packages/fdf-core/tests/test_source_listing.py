"""Input is listed whole or not at all: a folder that cannot be listed is no empty folder."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.errors import MissingDependency, PlanError, TransientError
from fdf.sources.listing import list_files

FILES = ("a/1.x", "a/2.x", "a/deep/3.x", "b/4.x", "b/5.y", "b/deep/6.x", "c1/deep/7.x", "8.x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("listed")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def listed(root: Path, pattern: str) -> list[str]:
    return [Path(f.uri).relative_to(root).as_posix() for f in list_files(f"{root}/{pattern}", extensions=("x",))]


@pytest.fixture
def failing(monkeypatch):
    """Give a function that makes listing the folders `b` fail, for so many times."""
    monkeypatch.setattr("fdf.storage.retry.FIRST_WAIT", 0.001)
    real = LocalFileSystem.ls

    def fail(error: Exception, *, times: int) -> None:
        left = times

        def ls(fs, path, *args, **kwargs):
            nonlocal left
            if str(path).rstrip("/").endswith("/b") and left:
                left -= 1
                raise error
            return real(fs, path, *args, **kwargs)

        monkeypatch.setattr(LocalFileSystem, "ls", ls)

    return fail


@pytest.mark.parametrize("pattern", ["*/*.x", "**/*.x", "?/deep/*.x", "*/deep/*.x", ""])
@pytest.mark.parametrize(
    ("error", "raised"),
    [(PermissionError(13, "denied"), MissingDependency), (OSError(5, "i/o"), PlanError), (ConnectionError(), None)],
)
def test_folder_that_cannot_be_listed_fails_the_listing(folder, failing, pattern, error, raised):
    failing(error, times=10**3)
    with pytest.raises(raised or TransientError):
        listed(folder, pattern)


@pytest.mark.parametrize("pattern", ["*/*.x", "**/*.x", ""])
def test_fault_that_passes_leaves_no_file_out(folder, failing, pattern):
    expected = listed(folder, pattern)
    assert any(name.startswith("b/") for name in expected)
    failing(ConnectionResetError(), times=2)
    assert listed(folder, pattern) == expected


PARTS = st.sampled_from(["*", "a", "b", "deep", "?", "c*", "[ab]", "[!a]", "**", "*.x", "[0-9].x", "*.?", "4.x"])


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(lambda p: set(p) & set("*?[")))
def test_globs_match_what_fsspec_says_they_match(folder, pattern):
    there = fsspec.filesystem("file").glob(f"{folder}/{pattern}", detail=True)
    expected = sorted(name for name, info in there.items() if info["type"] == "file")
    try:
        found = [f.uri for f in list_files(f"{folder}/{pattern}", extensions=("x",))]
    except PlanError:
        found = []
    assert found == expected
