"""Which methods are offered in which precision; that they keep to it is for the conformance kit to say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_model

from attribution import METHODS, Explainer, InputError
from attribution.methods import Method, Need
from attribution.precision import READ, Precision

HALF = ("bfloat16", "float16")


@pytest.mark.parametrize("dtype", HALF)
def test_what_is_not_offered_is_refused_in_one_line(dtype):
    explainer = Explainer(tiny_model("bert", getattr(torch, dtype), layers=1))
    with pytest.raises(InputError) as error:
        explainer.scores(torch.tensor([[5, 6]]), method="mask_lrp")
    assert str(error.value).startswith(f"mask_lrp is not offered in {dtype}: ")
    assert str(error.value).endswith("Choose one of float64, float32")
    assert "\n" not in str(error.value)


def test_relevance_that_cancels_is_why():
    """Without its policy full_lrp in bfloat16 would be off by more than its largest score is large."""
    exact = Explainer(tiny_model("roberta", layers=2))
    ids = torch.tensor([[5, 17, 45, 8, 91, 33, 7, 60, 61]])
    reference = exact.scores(ids, method="full_lrp", target=1)
    open_to_all = replace(METHODS["full_lrp"], own_precision=READ)
    half = Explainer(tiny_model("roberta", torch.bfloat16, layers=2))
    scores = half.scores_many(ids, methods={"m": {"method": open_to_all}}, target=1)["m"]
    assert float((scores - reference).abs().max()) > 0.25 * float(reference.abs().max())


def test_policies_follow_from_needs_and_can_be_brought_along():
    own = Precision({"float32": 1e-3}, why="because")
    method = Method("mine", lambda capture: capture.embeddings, Need.EMBEDDING_GRADIENT, "test", {})
    assert method.precision.tolerances == METHODS["saliency"].precision.tolerances
    assert replace(method, own_precision=own).precision.refusal("float64") == (
        "is not offered in float64: because. Choose one of float32"
    )
    assert METHODS["random"].precision.tolerances["bfloat16"] == 1e-6


def test_every_policy_takes_single_precision():
    assert all("float32" in method.precision.tolerances for method in METHODS.values())
