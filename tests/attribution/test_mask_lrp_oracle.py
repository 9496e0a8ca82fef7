"""The nine methods of the Mask-LRP paper against values of its reference implementation, in float64 to 1e-9."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attribution import Explainer, Inputs

ORACLE = json.loads((Path(__file__).parent / "mask_lrp_oracle.json").read_text())
IDS = torch.tensor([ORACLE["input_ids"]])
MASK = torch.tensor(ORACLE["head_mask"])
METHODS = {
    "transformer_attribution": "transformer_attribution",
    "attcat": "attcat",
    "partial_lrp": "partial_lrp",
    "full_lrp": "full_lrp",
    "raw_attention": "raw_attention",
    "attention_rollout": "attention_rollout",
    "attention_gradcam": "attention_gradcam",
    "gradcam": "gradcam",
    "mask_lrp_reference_masked": {"method": "mask_lrp", "head_mask": MASK, "variant": "reference"},
    "mask_lrp_reference_ones": {"method": "mask_lrp", "head_mask": torch.ones_like(MASK), "variant": "reference"},
    "mask_lrp_reference_zeros": {"method": "mask_lrp", "head_mask": torch.zeros_like(MASK), "variant": "reference"},
}


def test_the_model_is_the_reference_model(bert):
    total = sum(p.sum().item() for p in bert.parameters())
    absolute = sum(p.abs().sum().item() for p in bert.parameters())
    assert (total, absolute) == (pytest.approx(259.696064, abs=1e-5), pytest.approx(5231.128120, abs=1e-4))
    torch.testing.assert_close(
        Explainer(bert).adapter.logits(Inputs.of(IDS))[0],
        torch.tensor(ORACLE["logits"], dtype=torch.float64),
        rtol=0,
        atol=1e-9,
    )


@pytest.mark.parametrize("target", [0, 1])
def test_values_of_the_reference(bert, target):
    expected = ORACLE["targets"][str(target)]
    found = Explainer(bert).scores_many(IDS, methods=METHODS, target=target)
    assert found.keys() == expected.keys()
    for label, scores in found.items():
        torch.testing.assert_close(
            scores[0],
            torch.tensor(expected[label], dtype=torch.float64),
            rtol=0,
            atol=1e-9,
            msg=lambda m, name=label: f"{name}: {m}",
        )


@pytest.mark.parametrize("label", METHODS)
def test_alone_and_together_are_the_same_bytes(bert, label):
    explainer = Explainer(bert)
    together = explainer.scores_many(IDS, methods=METHODS, target=1)[label]
    alone = explainer.scores_many(IDS, methods={label: METHODS[label]}, target=1)[label]
    assert torch.equal(alone, together)
