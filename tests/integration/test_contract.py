"""The API keeps what /openapi.json promises, for many hundreds of requests made from it, in front of a real Triton."""

from contextlib import suppress

import numpy as np
import pytest

schemathesis = pytest.importorskip("schemathesis", reason="its versions for Python 3.10 cannot send every form")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.support import medical
from tests.support.site import encoded
from webapp import create_app

CASES = settings(max_examples=250, derandomize=True, database=None, deadline=None,
                 suppress_health_check=list(HealthCheck))
PICTURES = [encoded("L", "PNG"), encoded("RGB", "JPEG"), encoded("CMYK", "JPEG"), encoded("L", "PNG")[:-30],
            medical.dicom(np.zeros((20, 20), np.uint16)), medical.nifti(np.zeros((20, 20, 3), np.int16), np.eye(4))]
schemathesis.openapi.format("binary", st.one_of(st.binary(), st.sampled_from(PICTURES)))
# Bytes that are no image fit the description of a file, and are refused all the same.
NOT_CHECKED = [schemathesis.checks.positive_data_acceptance]
LEAST = {GenerationMode.POSITIVE: 500, GenerationMode.NEGATIVE: 500}


@pytest.fixture(scope="module")
def api(server):
    """The application's own description of itself."""
    return schemathesis.openapi.from_wsgi("/openapi.json", create_app({"TRITON_URL": server.url}))


@pytest.mark.parametrize("mode", GenerationMode)
def test_what_is_promised_is_kept(api, mode):
    asked = []
    for operation in (result.ok() for result in api.get_all_operations()):

        @CASES
        @given(operation.as_strategy(generation_mode=mode))
        def check(case):
            response = case.call()
            # schemathesis does not count 413 as a refusal; a field may be too large before it is read.
            # An empty list has no part in a form: what arrives is a right one.
            empty = isinstance(case.body, dict) and any(value in ([], {}) for value in case.body.values())
            refused = [schemathesis.checks.negative_data_rejection] * (response.status_code == 413 or empty)
            case.validate_response(response, excluded_checks=NOT_CHECKED + refused)
            asked.append(response.status_code)

        with suppress(Unsatisfiable):  # nothing can be wrong in a question without parameters
            check()
    print(f"{mode}: {len(asked)} requests, {asked.count(200)} answered with 200")
    assert len(asked) >= LEAST[mode] and 15 < asked.count(200) < len(asked)
