"""Every package builds, and the first three install and work on their own, outside the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT, *sorted(p.parent for p in ROOT.glob("packages/*/pyproject.toml"))]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # Nothing of the checkout may leak into what is tested: no PYTHONPATH, no virtual environment, no FDF settings.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "FDF_", "COVERAGE"))}
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """Build each project's sdist, and from that its wheel: so the sdist is whole too."""
    out = tmp_path_factory.mktemp("wheels")
    for project in PROJECTS:
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, project, cwd=out)
    return {path.name.partition("-")[0].replace("_", "-"): path for path in sorted(out.glob("*.whl"))}


@pytest.fixture(scope="module")
def python(wheels, tmp_path_factory) -> Path:
    """A fresh environment that holds the three packages and what their metadata asks for."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    # The metadata alone decides what is installed; the lock only says in which version, so that tomorrow's release of
    # a dependency is no failure of today's change.
    pins = re.findall(r"^([\w.-]+==\S+(?: ; [^\\\n]+)?)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins))
    three = [wheels["fdf-core"], wheels["fdf-ops-text"], wheels["fdf-runner-local"]]
    run(python, "-m", "pip", "install", "-qq", "--constraint", constraints, *three, cwd=folder)
    run(python, "-m", "pip", "check", cwd=folder)
    return python


def test_every_project_builds_a_wheel(wheels):
    names = {re.search(r'^name = "(.+)"', (p / "pyproject.toml").read_text(), re.MULTILINE)[1] for p in PROJECTS}
    assert set(wheels) == names


@pytest.mark.parametrize("project", PROJECTS, ids=lambda p: p.name)
def test_wheel_carries_licence_readme_and_types(wheels, project):
    name = re.search(r'^name = "(.+)"', (project / "pyproject.toml").read_text(), re.MULTILINE)[1]
    with zipfile.ZipFile(wheels[name]) as wheel:
        files = wheel.namelist()
        licence = next(f for f in files if f.endswith("licenses/LICENSE"))
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
        metadata = HeaderParser().parsestr(wheel.read(next(f for f in files if f.endswith("/METADATA"))).decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert len(metadata.get_payload()) > 200, "the README is the package's page; it should say what the package is"
    if project != ROOT:
        assert any(f.endswith("/py.typed") for f in files)
        assert not [f for f in files if f.startswith("tests/") or "__pycache__" in f]


def test_installed_packages_do_not_come_from_the_checkout(python):
    script = "import fdf, fdf_ops_text, fdf_runner_local as r; print(fdf.__file__, fdf_ops_text.__file__, r.__file__)"
    origins = run(python, "-c", script, cwd=python.parents[2]).stdout.split()
    assert len(origins) == 3
    assert all(Path(origin).is_relative_to(python.parents[1]) for origin in origins)


def test_command_line_tells_its_version(python):
    said = run(python.parent / "fdf", "--version", cwd=python.parents[2]).stdout
    assert re.search(r"\b0\.1\.0\b", said)


def test_bundled_recipe_runs_outside_the_checkout(python, tmp_path):
    fdf = python.parent / "fdf"
    listed = json.loads(run(fdf, "pipelines", "list", "--json", cwd=tmp_path).stdout)
    assert "quickstart" in json.dumps(listed)
    run(fdf, "pipelines", "copy", "quickstart", cwd=tmp_path)
    prose = "The committee met on the first day of the month and agreed that the report should be published. " * 4
    rows = [{"id": str(n), "text": f"Report number {n}. {prose}"} for n in range(20)] + [{"id": "short", "text": "No."}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["--set", "vars.input=in.jsonl", "--set", "vars.output=out", "--runner", "local", "--workers", "2"]
    run(fdf, "run", "quickstart.yaml", *settings, cwd=tmp_path)
    counts = json.loads((tmp_path / "out" / "__fdf__" / "manifest.json").read_text())["counts"]
    assert counts["rows_out"] == 20
    script = "import polars as pl; print(pl.read_parquet('out/*.parquet')['id'].to_list())"
    assert "'short'" not in run(python, "-c", script, cwd=tmp_path).stdout


@pytest.fixture(scope="module")
def python_with_images(python, wheels) -> Path:
    """The same environment with the image operators, without the libraries of models."""
    folder = python.parents[2]
    pins = re.findall(r"^([\w.-]+==\S+(?: ; [^\\\n]+)?)", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE)
    constraints = folder / "constraints-dev.txt"
    constraints.write_text("\n".join(pins))
    run(python, "-m", "pip", "install", "-qq", "--constraint", constraints, wheels["fdf-ops-vision"], cwd=folder)
    run(python, "-m", "pip", "check", cwd=folder)
    return python


def test_image_facts_need_no_model_library(python_with_images, tmp_path):
    script = (
        "import io, sys, fdf; from PIL import Image; from fdf_ops_vision.image_info import ImageInfo;"
        "out = io.BytesIO(); Image.new('RGB', (30, 20)).save(out, 'JPEG');"
        "result = fdf.run(fdf.Pipeline('facts').read([{'image': out.getvalue()}]).stage('s', [ImageInfo()]));"
        "print(result.to_arrow()['image_width'].to_pylist(), 'torch' in sys.modules)"
    )
    assert run(python_with_images, "-c", script, cwd=tmp_path).stdout.split("\n")[-2] == "[30] False"


def test_model_without_its_libraries_says_what_to_install(python_with_images, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "siglip", "vision_config": {"hidden_size": 8}}')
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    script = (
        "import fdf; from fdf_ops_vision.siglip import SigLIPEncoder\n"
        "pipeline = fdf.Pipeline('e').read([{'image': b'x'}]).stage('s', [SigLIPEncoder(model='model')])\n"
        "try: fdf.run(pipeline, runner='serial')\n"
        "except fdf.FdfError as error: print(error.exit_code, error.problems[0].help)"
    )
    said = run(python_with_images, "-c", script, cwd=tmp_path).stdout.split("\n")[-2]
    assert said == '4 pip install "fdf-ops-vision[models]"'
