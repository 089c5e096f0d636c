"""What every test of the monorepo may use, whichever package it stands beside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent

# Packages that tests install as a third party's, broken ones among them: not to be imported while collecting.
collect_ignore_glob = ["tests/plugins/*/*"]


def data_folder() -> Path:
    """Return where real data lies: `$FDF_TEST_DATA`, else beside the checkout."""
    return Path(os.environ.get("FDF_TEST_DATA", ROOT.parent / "shared" / "data"))


def pytest_configure() -> None:
    """Refuse to start where real data is required and absent, so that nothing is skipped silently in CI."""
    if os.environ.get("FDF_REQUIRE_DATA") == "1" and not data_folder().is_dir():
        raise pytest.UsageError(
            f"FDF_REQUIRE_DATA=1, but there is no real data at {data_folder()}: "
            "set FDF_TEST_DATA to its folder, or unset FDF_REQUIRE_DATA to skip the tests that need it"
        )


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Give the folder of real data, or skip."""
    folder = data_folder()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set FDF_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Give the top of the checkout."""
    return ROOT
