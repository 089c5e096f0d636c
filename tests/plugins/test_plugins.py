"""Two packages by a third party, built and installed as they would be: one works, one raises when it is imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fdf.testing.operators import OperatorConformance

HERE = Path(__file__).parent


def python(script: str, *, path: Path, **environment: str) -> dict:
    """Run a script in a fresh interpreter that sees `path`; what it prints is JSON."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FDF_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**inherited, "PYTHONPATH": str(path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A directory with both packages installed: built as wheels, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("fdf-example-good", "fdf-example-broken"):
        out = tmp_path_factory.mktemp(name)
        build = f"from hatchling.build import build_wheel; build_wheel({str(out)!r})"
        subprocess.run([sys.executable, "-c", build], cwd=HERE / name, check=True, capture_output=True)
        with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
    return folder


LIST = """
import json, sys
from fdf import registry
found = {o.name: [o.distribution, o.distribution_version, o.summary.kind, o.summary.modality, o.summary.summary]
         for o in registry.operators() if o.distribution.startswith("fdf-example")}
heavy = {"pyarrow", "polars", "numpy", "jsonschema", "pydantic", "datasets", "torch"}
print(json.dumps({"found": found, "imported": sorted(m for m in sys.modules if m.startswith("fdf_example")),
                  "heavy": sorted(heavy & set(sys.modules))}))
"""


def test_both_packages_are_listed_and_neither_is_imported(site):
    said = python(LIST, path=site)
    assert said["found"] == {
        "ShoutFilter": ["fdf-example-good", "0.3.0", "filter", "text", "Drop rows whose text is nothing but capitals."],
        "Exploding": ["fdf-example-broken", "0.0.1", "", "", ""],
        "Missing": ["fdf-example-broken", "0.0.1", "", "", ""],
    }
    assert said["imported"] == []
    assert said["heavy"] == []


@pytest.mark.parametrize(
    ("restrict", "left"),
    [("none", set()), ("fdf-example-good", {"ShoutFilter"}), ("Fdf.Example_Broken, x", {"Exploding", "Missing"})],
)
def test_fdf_plugins_restricts_what_is_seen(site, restrict, left):
    assert set(python(LIST, path=site, FDF_PLUGINS=restrict)["found"]) == left


RECIPE = """
import json
import pyarrow as pa
from fdf import recipe
loaded = recipe.load({
    "name": "shout", "input": {"type": "parquet", "path": "x.parquet"},
    "stages": [{"name": "s", "operators": [
        {"id": "f", "kind": "filter", "op": "ShoutFilter", "params": {"min_letters": 2}}]}]})
use = loaded.stages[0].operators[0]
batch = pa.record_batch({"text": ["HELLO", "hello", "A", None]})
described = recipe.recipe_schema()["definitions"]["params.ShoutFilter"]["properties"]["min_letters"]["description"]
print(json.dumps({"codes": use.operator.verdict(batch).codes.tolist(), "from": use.distribution,
                  "version": use.distribution_version, "described": described}))
"""


def test_a_third_party_operator_works_in_a_recipe_beside_a_broken_package(site):
    assert python(RECIPE, path=site) == {
        "codes": [1, 0, 0, 0],
        "from": "fdf-example-good",
        "version": "0.3.0",
        "described": "Shorter texts are kept: they may be abbreviations.",
    }


BROKEN = """
import json
from fdf import registry
print(json.dumps([[b.entry.group, b.entry.name, b.problem.message, b.problem.help] for b in registry.broken()
                  if b.entry.distribution.startswith("fdf-example")]))
"""


def test_a_broken_package_is_listed_with_its_error_and_what_to_install(site):
    exploding, missing, plugin = python(BROKEN, path=site)
    assert exploding[:2] == ["fdf.operators", "Exploding"]
    assert "RuntimeError: this package was built for another planet" in exploding[2]
    assert exploding[3] == "pip install --upgrade --force-reinstall fdf-example-broken"
    assert missing[1] == "Missing"
    assert "`not_on_this_machine`" in missing[2]
    assert missing[3] == 'pip install "fdf-example-broken[tpu]"'
    assert plugin[:2] == ["fdf", "broken"]


HOOKS = """
import json, logging
from fdf import hooks
warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("fdf.hooks").addHandler(handler)
loaded = hooks.installed()
loaded.call("fdf_stage_committed", run_id="r", stage="clean", manifest={})
from fdf_example_good.listener import heard
print(json.dumps({"heard": heard, "plugins": loaded.names(), "warnings": warnings}))
"""


def test_a_broken_hook_plugin_is_warned_of_and_the_good_one_still_hears(site):
    said = python(HOOKS, path=site)
    assert said["heard"] == ["clean"]
    assert "fdf-example-good:example" in said["plugins"]
    assert [w for w in said["warnings"] if "fdf-example-broken:broken" in w and "another planet" in w]


INDEX = """
import json
from fdf import registry
print(json.dumps([text for text in registry.build_index("fdf-example-good").values()]))
"""


def test_the_shipped_index_is_what_the_package_says_today(site):
    shipped = (HERE / "fdf-example-good/src/fdf_example_good/fdf-operators.json").read_text("utf-8")
    assert python(INDEX, path=site) == [shipped]


def test_the_good_package_passes_the_suite_of_operators_with_its_own_few_lines(site, tmp_path):
    # Away from this repository and its settings, as a third party's would be.
    tests = shutil.copytree(HERE / "fdf-example-good" / "tests", tmp_path / "tests")
    assert len((tests / "test_shout.py").read_text().splitlines()) <= 12
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FDF_", "PYTHON", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", tests, tests],
        env={**inherited, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    checks = sum(name.startswith("test_") for name in vars(OperatorConformance))
    assert f"{checks} passed" in done.stdout
