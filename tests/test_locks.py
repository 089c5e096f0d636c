"""The committed locks: complete, hashed, without addresses, and in step with what the packages ask for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-dev.lock"]
PYPROJECTS = [ROOT / "pyproject.toml", *sorted(ROOT.glob("packages/*/pyproject.toml"))]
KEPT_OUT = re.compile(r"^(torch|torchvision|torchaudio|triton|nvidia-.*)$")


def blocks(lock: Path) -> list[str]:
    """Return a lock's entries: each one requirement and its hashes."""
    return re.split(r"\n(?=\S)", lock.read_text().strip())


def locked(lock: Path) -> dict[str, list[Requirement]]:
    """Return the pinned requirements by name; several where the version depends on the environment."""
    found: dict[str, list[Requirement]] = {}
    for block in blocks(lock):
        requirement = Requirement(block.partition("\\")[0].strip())
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def asked(pyproject: dict, *, everything: bool) -> list[Requirement]:
    """Return what a project asks for; with its extras and groups too where `everything` is wanted."""
    project = pyproject["project"]
    texts = list(project.get("dependencies", []))
    groups = pyproject.get("dependency-groups", {})
    texts += groups.get("build", [])
    if everything:
        texts += [t for extra in project.get("optional-dependencies", {}).values() for t in extra]
        texts += [t for group in groups.values() for t in group if isinstance(t, str)]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_lock_pins_and_hashes_every_entry(lock):
    for block in blocks(lock):
        assert re.match(r"[a-z0-9.-]+==[^\s\\]+", block), block
        assert "--hash=sha256:" in block, block


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_lock_names_no_address(lock):
    assert not re.search(r"://|--(extra-)?index-url|--find-links|^-e ", lock.read_text(), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_lock_leaves_torch_and_its_company_out(lock):
    assert [name for name in locked(lock) if KEPT_OUT.match(name)] == []


def test_demo_lock_is_part_of_the_development_lock():
    development = set(blocks(LOCKS[1]))
    assert [block for block in blocks(LOCKS[0]) if block not in development] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_lock_satisfies_what_the_packages_ask_for(lock):
    projects = [tomllib.loads(path.read_text()) for path in PYPROJECTS]
    own = {canonicalize_name(p["project"]["name"]) for p in projects}
    pins = locked(lock)
    if lock == LOCKS[0]:
        # The demo installs the meta-package and what it asks for without an extra.
        brought = {"foundation-data-factory", *projects[0]["project"]["dependencies"]}
        projects = [p for p in projects if p["project"]["name"] in brought]
        assert {p["project"]["name"] for p in projects} == brought
    for project in projects:
        for requirement in asked(project, everything=lock == LOCKS[1]):
            name = canonicalize_name(requirement.name)
            if name in own or KEPT_OUT.match(name):
                continue
            assert name in pins, f"{name} is asked for by {project['project']['name']}: run `make lock`"
            for pin in pins[name]:
                (version,) = (s.version for s in pin.specifier)
                assert requirement.specifier.contains(version), f"{pin} does not meet {requirement}: run `make lock`"
