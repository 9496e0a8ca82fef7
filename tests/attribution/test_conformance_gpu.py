"""The conformance kit on a GPU, in single precision and in bfloat16."""

from __future__ import annotations

import pytest
import torch
from conformance_results import spec
from tiny_models import TINY_MODELS, tiny_head, tiny_model

from attribution import METHODS
from attribution.conformance import check_methods

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_method_conforms_or_says_why_not(name, dtype):
    model = tiny_model(name, dtype, layers=2).to("cuda")
    found = check_methods({method: spec(method) for method in METHODS}, model, lm_head=tiny_head(model))
    assert {method: verdict.problems for method, verdict in found.items() if verdict.problems} == {}
    assert sum(verdict.conforms for verdict in found.values()) > len(found) / 2
