"""The Makefile, continuous integration and the commit hooks say the same thing, and the Makefile explains itself."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
README_COMMANDS = ("demo", "test")


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    # MAKEFLAGS and its kin would make this make a part of the make that runs the tests.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)


def test_plain_make_lists_every_phony_target():
    phony = set(re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split())
    listed = set(re.findall(r"^  make (\S+) +\S", run("make").stdout, re.MULTILINE))
    assert listed == phony
    assert {"demo", "test", "check", "lock", "install", "help"} <= listed


def test_demo_and_tests_need_no_step_before_them():
    for target in README_COMMANDS:
        # In a checkout without an environment, the first thing either does is to make one.
        plan = run("make", "--dry-run", target, "VENV=.venv-that-is-not-there").stdout
        assert "-m venv .venv-that-is-not-there" in plan
        assert "--require-hashes --no-deps -r requirements" in plan
        assert "--no-build-isolation" in plan


def test_demo_installs_from_the_small_lock_alone():
    plan = run("make", "--dry-run", "demo", "VENV=.venv-that-is-not-there").stdout
    assert "requirements.lock" in plan
    assert "requirements-dev.lock" not in plan


def test_demo_installs_the_packages_that_its_lock_is_for():
    plan = run("make", "--dry-run", "demo", "VENV=.venv-that-is-not-there").stdout
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(re.findall(r"-e \./packages/(\S+)/", plan)) == set(wanted)
    assert "torch" not in plan
    assert "constraints.txt" not in plan


def test_torch_is_installed_first_and_by_itself():
    plan = run("make", "--dry-run", "install", "VENV=.venv-that-is-not-there").stdout
    installs = re.findall(r"pip .*install (.*)", plan)
    assert "--no-deps -r constraints.txt" in installs[0]
    assert all("--no-deps" in line for line in installs)


def test_second_call_installs_nothing(tmp_path):
    for stamp in (".made", ".ready-demo", ".ready-dev"):
        (tmp_path / stamp).touch()
    plan = run("make", "--dry-run", "install", f"VENV={tmp_path}").stdout
    assert "pip" not in plan


def test_changed_lock_installs_again(tmp_path):
    for stamp in (".made", ".ready-demo", ".ready-dev"):
        (tmp_path / stamp).touch()
        os.utime(tmp_path / stamp, (0, 0))
    plan = run("make", "--dry-run", "install", f"VENV={tmp_path}").stdout
    assert "requirements-dev.lock" in plan
    assert "-m venv" not in plan


def test_python_that_is_asked_for_must_be_new_enough(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    asked = run(".ci/find-python", str(old))
    assert asked.returncode == 1
    assert "is not a Python 3.11 or newer" in asked.stderr


def fake_python(folder: Path, name: str, minor: int) -> None:
    # Answers the two questions that .ci/find-python asks as that version would.
    script = folder / name
    script.write_text(
        "#!/bin/sh\n"
        f'case "$2" in *executable*) echo {script} ;;'
        f" *'< (3, 11)'*) test {minor} -ge 11 ;;"
        f" *'>= (3, 12)'*) test {minor} -lt 12 ;; esac\n"
    )
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("there", "chosen", "noted"),
    [
        ({"python3.11": 11, "python3.12": 12, "python3": 12}, "python3.11", False),
        ({"python3.12": 12, "python3": 9}, "python3.12", True),
        ({"python3": 11}, "python3", False),
        ({"python3.12": 9, "python3": 14}, "python3", True),
    ],
)
def test_python_3_11_is_picked_and_its_absence_said(tmp_path, there, chosen, noted):
    for name, minor in there.items():
        fake_python(tmp_path, name, minor)
    found = run("/bin/sh", ".ci/find-python", PATH=str(tmp_path))
    assert found.stdout.strip() == str(tmp_path / chosen)
    assert ("python3.11 is not on the PATH" in found.stderr) is noted


def test_no_python_is_said_with_what_to_install(tmp_path):
    found = run("/bin/sh", ".ci/find-python", PATH=str(tmp_path))
    assert found.returncode == 1
    assert "install python3.11" in found.stderr


def test_continuous_integration_calls_make_and_nothing_else():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    assert all(re.fullmatch(r"make [a-z]+", command) for command in commands)
    script = (ROOT / ".ci/run").read_text()
    assert re.findall(r"^make .*$", script, re.MULTILINE) == ["make check", "make test"]
    assert "FDF_REQUIRE_DATA=1" in script


def test_commit_hooks_call_only_tools_of_the_environment():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    for hook in hooks["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
