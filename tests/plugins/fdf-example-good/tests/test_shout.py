"""All that a third party's operator needs to be held to the contract."""

import pyarrow as pa
from fdf_example_good import ShoutFilter

from fdf.testing.operators import OperatorConformance


class TestShoutFilter(OperatorConformance):
    operator = ShoutFilter(min_letters=2)
    batch = pa.record_batch({"text": ["HELLO", "hello", "A", None, "", "ÄÖÜ"]})
