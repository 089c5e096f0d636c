"""SigLIPEncoder gives what transformers gives, whatever the batch, and fails row by row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from direct_encoding import asked, embedded

from fdf.operator import Partial
from fdf.testing.operators import OperatorConformance
from fdf_ops_vision.siglip import SigLIPEncoder


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("model", "model_class"), [("siglip", "SiglipModel"), ("siglip2", "Siglip2Model")])
def test_embeddings_are_those_of_transformers(request, tmp_path, transformers, photos, model, model_class, normalize):
    folder = request.getfixturevalue(model)
    wanted = asked(transformers, folder, model_class, photos, normalize=normalize)
    operator = SigLIPEncoder(model=str(folder), normalize=normalize)
    column = embedded(operator, pa.record_batch({"image": photos}), tmp_path)["siglip_emb"]
    got = np.array(column.to_pylist(), dtype=np.float32)
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4)
    # Pictures differ, so that equal embeddings for all of them would be no agreement.
    assert np.abs(got[0] - got[1]).max() > 1e-3


class _Conformance(OperatorConformance):
    tolerance = 1e-4
    operator = SigLIPEncoder()  # of tiny weights, once they are made
    batch = pa.record_batch({"image": [b"", None, b"", b""]})

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _model(cls, request, photos):
        cls.operator = SigLIPEncoder(model=str(request.getfixturevalue(cls.model)))
        cls.batch = pa.record_batch({"image": [*photos[:3], None, photos[3]], "other": range(5)})


class TestSigLIP(_Conformance):
    model = "siglip"


class TestSigLIP2(_Conformance):
    model = "siglip2"


def test_images_that_cannot_be_decoded_fail_alone(siglip, photos, tmp_path):
    batch = pa.record_batch({"image": [b"no image", photos[0], None, b"", photos[1]]})
    made = embedded(SigLIPEncoder(model=str(siglip)), batch, tmp_path)
    assert isinstance(made, Partial)
    assert made["siglip_emb"].is_valid().to_pylist() == [False, True, False, False, True]
    errors = made.errors.to_pylist()
    assert errors[1:3] + errors[4:] == [None, None, None]
    assert "not an image" in errors[0]
    assert errors[3] == "there are no bytes"
