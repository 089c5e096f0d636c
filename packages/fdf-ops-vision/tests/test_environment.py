"""The libraries beneath: torchvision is mended only where it is broken in the one known way, listings load nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fdf.errors import MissingDependency
from fdf.models import libraries


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_listing_and_checking_load_no_model_library():
    code = (
        "import sys, fdf; from fdf import recipe, registry; list(registry.operators());"
        "from fdf_ops_vision.siglip import SigLIPEncoder; from fdf_ops_vision.llava import LLaVACaptioner;"
        "from fdf_ops_vision.clip import CLIPEncoder; SigLIPEncoder(), LLaVACaptioner(), CLIPEncoder();"
        "print([m for m in ('torch', 'torchvision', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    assert python(code).strip() == "[]"


def test_torchvision_imports_and_resizes_beside_this_torch():
    code = (
        "from fdf.models.libraries import require_torchvision;"
        "require_torchvision(operator='x', install='y');"
        "import torch; from torchvision.transforms.v2 import functional as F;"
        "print(tuple(F.resize(torch.zeros(3, 8, 8, dtype=torch.uint8), [4, 4]).shape))"
    )
    assert python(code).strip() == "(3, 4, 4)"


@pytest.mark.parametrize("message", ["operator torchvision::nms does not exist, they say", "CUDA is broken"])
def test_any_other_error_of_torchvision_is_left_alone(monkeypatch, message):
    def fail(*_, **__):
        raise RuntimeError(message)

    monkeypatch.setattr(libraries, "require", fail)
    with pytest.raises(RuntimeError, match=message):
        libraries.require_torchvision(operator="x", install="y")


def test_missing_library_names_what_to_install():
    with pytest.raises(MissingDependency) as caught:
        libraries.require("no_such_module_here", operator="SigLIPEncoder", install="fdf-ops-vision[models]")
    problem = caught.value.problems[0]
    assert problem.help == 'pip install "fdf-ops-vision[models]"'
    assert "`SigLIPEncoder` needs the missing module `no_such_module_here`" in problem.message
