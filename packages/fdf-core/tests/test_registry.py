"""Discovery by entry points: what is listed, what is loaded, and what is said when that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fdf import registry
from fdf.errors import MissingDependency, RecipeError


def test_listing_imports_no_operator_and_nothing_heavy():
    script = (
        "import sys, json; from fdf import registry; "
        "names = [o.name for o in registry.operators()]; "
        "[registry.entries(g) for g in registry.GROUPS]; "
        "print(json.dumps([names, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names, modules = json.loads(done.stdout)
    assert "ThresholdFilter" in names
    assert not {"pyarrow", "polars", "numpy", "jsonschema", "pydantic", "datasets"} & set(modules)
    assert not [m for m in modules if m.startswith(("fdf.operators", "fdf_ops", "fdf_runner"))]


def test_one_name_claimed_by_two_distributions_is_listed_twice_and_must_be_qualified(install):
    point = {"fdf.operators": ["Twin = twin_mod:Twin"]}
    install("twin-a", point, {"twin_mod.py": "class Twin: pass\n"})
    install("twin-b", {"fdf.operators": ["Twin = twin_b_mod:Twin"]}, {"twin_b_mod.py": "class Twin: pass\n"})
    listed = [o for o in registry.operators() if o.name == "Twin"]
    assert [(o.op, o.ambiguous) for o in listed] == [("twin-a:Twin", True), ("twin-b:Twin", True)]
    with pytest.raises(RecipeError, match="announced by `twin-a` and `twin-b`") as caught:
        registry.load("fdf.operators", "Twin")
    assert caught.value.problems[0].hint == "write `twin-a:Twin` or `twin-b:Twin`"
    assert registry.load("fdf.operators", "twin-b:Twin").__module__ == "twin_b_mod"
    assert registry.load("fdf.operators", "Twin_A:Twin").__module__ == "twin_mod"


def test_an_unknown_operator_of_an_official_package_says_what_to_install(install, monkeypatch):
    known = {"SpectrogramEncoder": "fdf-ops-that-is-not-installed"}
    monkeypatch.setattr(sys.modules["fdf.registry.entries"], "known_package", known.get)
    with pytest.raises(RecipeError) as caught:
        registry.find("fdf.operators", "SpectrogramEncoder")
    problem = caught.value.problems[0]
    assert "`fdf-ops-that-is-not-installed`, which is not installed" in problem.message
    assert problem.help == "pip install fdf-ops-that-is-not-installed"


def test_a_misspelt_operator_is_answered_with_the_closest_name(install):
    with pytest.raises(RecipeError) as caught:
        registry.find("fdf.operators", "TresholdFilter")
    assert caught.value.problems[0].hint == "did you mean `ThresholdFilter`?"


@pytest.mark.parametrize(
    ("requires", "command"),
    [
        (['opencv-python>=4; extra == "models"'], 'pip install "needy[models]"'),
        (["opencv-python>=4"], 'pip install "opencv-python>=4"'),
        ([], "pip install opencv-python"),
    ],
)
def test_a_missing_module_is_named_with_the_line_that_installs_it(install, monkeypatch, requires, command):
    monkeypatch.setitem(sys.modules, "cv2", None)  # as if it were not installed, where it is
    install(
        "needy", {"fdf.operators": ["Needy = needy:Needy"]}, {"needy/__init__.py": "import cv2\n"}, requires=requires
    )
    with pytest.raises(MissingDependency) as caught:
        registry.load("fdf.operators", "Needy")
    problem = caught.value.problems[0]
    assert "`Needy`" in problem.message
    assert "`needy`" in problem.message
    assert "`cv2`" in problem.message
    assert problem.help == command


def test_a_package_that_raises_on_import_is_broken_and_the_rest_still_loads(install):
    install("bad-one", {"fdf.operators": ["Bad = bad_one:Bad"]}, {"bad_one/__init__.py": "1 / 0\n"})
    assert "ThresholdFilter" in [o.name for o in registry.operators()]
    assert registry.load("fdf.operators", "ThresholdFilter").kind == "filter"
    found = {b.entry.name: b.problem for b in registry.broken()}
    assert "ZeroDivisionError" in found["Bad"].message
    assert found["Bad"].help == "pip install --upgrade --force-reinstall bad-one"
    assert "ThresholdFilter" not in found


def test_a_class_that_its_module_does_not_have_is_broken(install):
    install("hollow", {"fdf.operators": ["Gone = hollow:Gone"]}, {"hollow/__init__.py": ""})
    assert any(b.entry.name == "Gone" and "AttributeError" in b.problem.message for b in registry.broken())


@pytest.mark.parametrize("restrict", ["none", "other"])
def test_fdf_plugins_hides_all_but_what_it_names_and_core(install, monkeypatch, restrict):
    install("hid", {"fdf.operators": ["Hidden = hid:Hidden"]}, {"hid/__init__.py": ""})
    assert registry.find("fdf.operators", "Hidden").distribution == "hid"
    monkeypatch.setenv("FDF_PLUGINS", restrict)
    assert registry.find("fdf.operators", "ThresholdFilter").distribution == "fdf-core"
    assert {e.distribution for e in registry.entries("fdf.operators")} == {"fdf-core"}
    with pytest.raises(RecipeError) as caught:
        registry.find("fdf.operators", "Hidden")
    assert "`hid`, which FDF_PLUGINS switches off" in caught.value.problems[0].message


OPERATOR = '''
from dataclasses import dataclass
import fdf

@dataclass(frozen=True, kw_only=True)
class Upper(fdf.Refiner):
    """Write every text
    in capitals.

    More follows."""
    version = "2.1"
    modality = "text"
    extras = ("models",)
    field: str = "text"
    def refine(self, batch):
        return {}
'''


def test_the_index_is_written_beside_the_package_and_read_without_importing_it(install):
    folder = install("indexed", {"fdf.operators": ["Upper = indexed.ops:Upper"]},
                     {"indexed/__init__.py": "", "indexed/ops.py": OPERATOR})  # fmt: skip
    assert registry.write_index("indexed") == [folder / "indexed" / "fdf-operators.json"]
    script = (
        "import sys, json, dataclasses; from fdf import registry; "
        "said = [dataclasses.asdict(o.summary) for o in registry.operators() if o.name == 'Upper']; "
        "print(json.dumps([said, 'indexed' in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    summary = {"kind": "refiner", "modality": "text", "summary": "Write every text in capitals.", "version": "2.1"}
    assert json.loads(done.stdout) == [[{**summary, "extras": ["models"]}], False]


def test_a_damaged_index_costs_its_summaries_and_nothing_else(install):
    install("torn", {"fdf.operators": ["Torn = torn:Torn"]},
            {"torn/__init__.py": "", "torn/fdf-operators.json": "{not json"})  # fmt: skip
    torn = next(o for o in registry.operators() if o.name == "Torn")
    assert torn.summary == registry.OperatorSummary()


def test_an_index_for_a_package_without_operators_says_how_they_are_announced(install):
    with pytest.raises(MissingDependency, match="announces operators"):
        registry.write_index("pip")


def test_a_bundled_pipeline_is_found_as_a_file_without_importing_its_package(install):
    files = {"bundle/__init__.py": "raise SystemError", "bundle/recipes/demo.yaml": "name: demo\n"}
    folder = install("bundle", {"fdf.pipelines": ["demo = bundle.recipes:demo.yaml"]}, files)
    assert registry.find("fdf.pipelines", "demo").resource() == folder / "bundle" / "recipes" / "demo.yaml"
