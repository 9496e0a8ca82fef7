"""Projected attention: how it starts and learns, and what explains it."""

from __future__ import annotations

import pytest
import torch
from injected import PREVIOUS, REPEATED, injected, logits
from tiny_models import tiny_model

from attribution import Explainer
from attribution.capture import Need, trace
from attribution.errors import UnruledOperation
from attribution.model.inputs import Inputs
from attribution.patterns import inject, pattern_heads
from attribution.relevance.node import AbsoluteWeights, Kind, Node, Pass
from attribution.relevance.tables import CHEFER, GRADIENT

RULED = ("saliency", "mask_lrp", "attn_lrp", "cp_lrp", "deep_lift", "attention_rollout")


@pytest.mark.parametrize("family", ["bert", "albert", "deberta", "modernbert", "gpt2", "llama"])
def test_projected_attention_starts_unchanged_and_learns(family, texts):
    base = tiny_model(family, torch.float32)
    file = injected({"prev": PREVIOUS, "same": REPEATED}, target="pal", pal={"width": 8, "heads": 4})
    changed = inject(base, None, file)
    assert torch.equal(logits(changed, texts), logits(base, texts))
    own = {name for name, _ in changed.named_parameters()} - {name for name, _ in base.named_parameters()}
    assert own == {name for name, _ in changed.named_parameters() if ".projected." in name}
    assert len(own) == 10 * 3
    trained = _trained(changed, own, texts)
    assert all(value.abs().sum() > 0 for name, value in trained.items() if name.endswith("weight"))
    assert all(
        not torch.equal(value, before) for value, before in zip(trained.values(), _start(changed, own), strict=True)
    )


def test_the_released_start_at_zero_learns_nothing_but_one_bias(texts):
    """What the test above finds out: with all weights at zero the last bias alone ever moves."""
    file = injected({"prev": PREVIOUS, "same": REPEATED}, target="pal", pal={"width": 8, "heads": 4})
    changed = inject(tiny_model("bert", torch.float32), None, file)
    with torch.no_grad():
        for parameter in pattern_heads(changed).projected.parameters():
            parameter.zero_()
    own = {name for name, _ in changed.named_parameters() if ".projected." in name}
    trained = _trained(changed, own, texts)
    assert {name.split(".projected.")[1][2:] for name, value in trained.items() if value.any()} == {"up.bias"}


def test_projected_attention_with_patterns_is_not_that_without(texts):
    base = tiny_model("bert", torch.float32)
    file = injected({"prev": PREVIOUS, "same": REPEATED}, target="pal", pal={"width": 8, "heads": 4})
    torch.manual_seed(1)
    with_patterns = inject(base, None, file)
    free = {"all": {"pred": {"offset": [-99, 99]}}}
    without = inject(base, None, injected(free, target="pal", pal={"width": 8, "heads": 4}))
    pattern_heads(without).projected.load_state_dict(pattern_heads(with_patterns).projected.state_dict())
    own = [name for name, _ in with_patterns.named_parameters() if ".projected." in name]
    _trained(with_patterns, own, texts)
    _trained(without, own, texts)
    assert (logits(with_patterns, texts) - logits(without, texts)).abs().max() > 1e-3


def _start(changed, own):
    return [value for name, value in changed.start.items() if name in own]


def _trained(changed, own, texts):
    """What the parameters named are after a few steps in which nothing else learns."""
    named = {name: value for name, value in changed.named_parameters() if name in own}
    changed.start = {name: value.detach().clone() for name, value in named.items()}
    optimiser = torch.optim.Adam(named.values(), lr=0.01)
    for _ in range(4):
        optimiser.zero_grad()
        changed(**texts, labels=torch.tensor([0, 1, 0])).loss.backward()
        optimiser.step()
    return {name: value.detach() for name, value in named.items()}


def projected(family, *, drawn):
    file = injected({"prev": PREVIOUS, "same": REPEATED}, target="pal", pal={"width": 8, "heads": 4})
    base = tiny_model(family)
    changed = inject(base, None, file)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in pattern_heads(changed).projected.parameters() if drawn else ():
            parameter.normal_(0, 0.3, generator=generator)
    return base, changed


@pytest.mark.parametrize("method", RULED)
def test_at_the_start_explanations_are_those_of_the_model_without(method, texts):
    base, changed = projected("bert", drawn=False)
    own, other = (Explainer(model).scores(**texts, method=method, target=0) for model in (base, changed))
    torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", RULED)
def test_afterwards_they_see_it(method, texts):
    base, changed = projected("bert", drawn=True)
    own, other = (Explainer(model).scores(**texts, method=method, target=0) for model in (base, changed))
    assert other.isfinite().all()
    assert not torch.allclose(own, other)


@pytest.mark.parametrize("method", ["value_zeroing", "alti"])
def test_what_takes_blocks_apart_refuses_it(method, texts):
    _, changed = projected("bert", drawn=True)
    with pytest.raises(UnruledOperation, match="projected attention beside a block"):
        Explainer(changed).scores(**texts, method=method, target=0)


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2"])
def test_gradients_at_a_layer_go_through_what_stands_beside_it(family, texts):
    adapter = Explainer(projected(family, drawn=True)[1]).adapter
    inputs = Inputs.from_mapping(texts)
    found = []
    for needs in (Need.LAYER_GRADIENT, Need.HIDDEN_GRADIENT):
        traced = trace(adapter, inputs, needs, AbsoluteWeights(), lowest=1)
        found += traced.backward(GRADIENT, torch.ones_like(traced.logits), [traced.hidden[1]])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


def test_what_arrives_at_rows_without_content_does_not_go_to_other_heads():
    scores, scaling = torch.randn(1, 2, 3, 3, dtype=torch.float64), torch.ones(1, 2, 1, 1, dtype=torch.float64)
    scaling[:, 0] = 0
    node = Node(Kind.SOFTMAX, lambda x: x, Pass(CHEFER), "softmax", extra={"scaling": scaling}, inputs=(scores,))
    arriving = torch.rand(1, 2, 3, 3, dtype=torch.float64)
    (received,) = CHEFER.rule(node)(node, arriving)
    assert not received[:, 0].any()
    torch.testing.assert_close(received[:, 1], arriving[:, 1], rtol=1e-6, atol=1e-9)
