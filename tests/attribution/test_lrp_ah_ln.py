"""Conservation of LRP with the AH and LN rules on whole models: relevance plus absorbed shares is the logit."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from attribution import Explainer
from attribution.model.adapter import align
from attribution.model.attention import Taps, own_attention
from attribution.model.inputs import Inputs
from attribution.relevance.mode import recording
from attribution.relevance.node import Pass
from attribution.relevance.tables import GRADIENT, LRP_AH_LN

IDS = torch.tensor([[2, 17, 45, 8, 91, 33, 5, 60, 21, 3]])
ABSORBING = ("bias", "position_embeddings.weight", "token_type_embeddings.weight", "wpe.weight", "beta")


def absorbed_and_relevance(model, target):
    """Sum of x * g over word embeddings, and of b * g over biases and positions, with the same modified gradient."""
    adapter = Explainer(model).adapter
    inputs, _ = align(Inputs.of(IDS))
    model.requires_grad_(False)
    absorbing = [p.requires_grad_() for name, p in model.named_parameters() if name.endswith(ABSORBING)]
    embeddings = []
    hook = model.get_input_embeddings().register_forward_hook(lambda m, i, o: embeddings.append(o.requires_grad_()))
    current = Pass(GRADIENT)
    with own_attention(model, Taps(current)), recording(model, current, adapter.family.norms):
        logits = adapter.forward(inputs)
    hook.remove()
    current.table = LRP_AH_LN
    taps = [embeddings[0], *absorbing]
    grads = torch.autograd.grad(logits[0, target], taps, allow_unused=True)
    shares = [(x.detach() * g).sum() for x, g in zip(taps, grads, strict=True) if g is not None]
    return logits[0, target].item(), shares[0].item(), sum(shares[1:], torch.zeros(())).item()


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("target", [0, 1])
def test_relevance_and_absorbed_shares_are_the_logit(name, target):
    model = tiny_model(name)
    logit, relevance, absorbed = absorbed_and_relevance(model, target)
    assert relevance + absorbed == pytest.approx(logit, abs=1e-9)
    scores = Explainer(tiny_model(name)).scores(IDS, method="lrp_ah_ln", target=target)
    assert scores.sum().item() == pytest.approx(relevance, abs=1e-9)


def test_llama_has_nothing_that_absorbs():
    model = tiny_model("llama")
    logits = model(IDS).logits[0]
    scores = Explainer(model).scores(IDS, method="lrp_ah_ln", target=[0, 1])[0].sum(1)
    torch.testing.assert_close(scores, logits, rtol=0, atol=1e-6)  # the stock model normalises in float32
