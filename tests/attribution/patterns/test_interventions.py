"""Heads that a person switches off, turns down or gives a pattern: what a model with changed weights says."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import tiny_model

from attribution import Explainer, InputError, list_methods
from attribution.methods.registry import method_of
from attribution.patterns import Pattern
from attribution.patterns.blocks import Offset
from attribution.patterns.interventions import gated_heads, patterned, sees_gates

IDS = torch.tensor([[5, 17, 17, 40, 9, 61, 23]])
GATES = {(0, 1): 0.0, (1, 2): 0.3}
ONE_PASS = [
    each.id for each in list_methods()
    if not each.asks and not each.control and sees_gates(each) and each.id != "decoded_layer"
]  # fmt: skip


def scaled(explainer):
    """The same model with the columns of its output projections times the gates."""
    made = Explainer(copy.deepcopy(explainer.model))
    adapter = made.adapter
    for (layer, head), gate in GATES.items():
        projection = adapter.layers()[layer].get_submodule(adapter.family.block.output)
        inputs_first = type(projection).__name__ == "Conv1D"
        weight = projection.weight.data if inputs_first else projection.weight.data.T
        size = weight.shape[0] // adapter.n_heads
        weight[head * size : (head + 1) * size] *= gate
    return made


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "modernbert"])
def test_gates_are_output_weights_turned_down(family):
    explainer = Explainer(tiny_model(family))
    other = scaled(explainer)
    for method in ("attn_lrp", "mask_lrp", "gradcam", "input_x_gradient", "raw_attention"):
        with gated_heads(explainer.adapter, GATES):
            found = explainer.scores(IDS, method=method, target=0)
        assert torch.allclose(found, other.scores(IDS, method=method, target=0), atol=1e-9), method


@pytest.mark.parametrize("method", ONE_PASS)
def test_every_method_of_one_pass_sees_gates(method):
    explainer = Explainer(tiny_model("bert"))
    with gated_heads(explainer.adapter, GATES):
        found = explainer.scores(IDS, method=method, target=0)
    assert torch.allclose(found, scaled(explainer).scores(IDS, method=method, target=0), atol=1e-9)


def test_methods_that_read_the_weights_of_blocks_do_not():
    assert [each.id for each in list_methods() if not sees_gates(each)] == [
        "value_zeroing", "attention_norm", "globenc", "alti",
    ]  # fmt: skip
    explainer = Explainer(tiny_model("bert"))
    with gated_heads(explainer.adapter, GATES):
        found = explainer.scores(IDS, method="value_zeroing", target=0)
    assert not torch.allclose(found, scaled(explainer).scores(IDS, method="value_zeroing", target=0), atol=1e-4)
    assert not sees_gates(method_of("alti"))


def test_outside_all_heads_are_as_they_were():
    explainer = Explainer(tiny_model("bert"))
    before = explainer.model(IDS).logits
    with gated_heads(explainer.adapter, GATES):
        assert not torch.equal(explainer.model(IDS).logits, before)
    assert torch.equal(explainer.model(IDS).logits, before)


def test_a_shared_block_is_gated_in_one_layer_alone():
    """ALBERT runs one block several times."""
    explainer = Explainer(tiny_model("albert"))
    with gated_heads(explainer.adapter, {(0, 0): 0.0}):
        one = explainer.model(IDS).logits
    with gated_heads(explainer.adapter, {(layer, 0): 0.0 for layer in range(3)}):
        assert not torch.allclose(explainer.model(IDS).logits, one)


def test_a_head_with_a_pattern_attends_where_it_says():
    explainer = Explainer(tiny_model("bert"))
    changed = patterned(explainer, {(1, 3): Pattern(Offset(-1, -1), "fix")})
    from attribution.model.inputs import Inputs

    own, other = (each.adapter.attentions(Inputs.of(IDS)) for each in (explainer, changed))
    assert torch.equal(other[1][0, 3].diagonal(-1), torch.ones(6, dtype=torch.float64))
    assert torch.equal(other[1][0, :3], own[1][0, :3])
    assert patterned(explainer, {}) is explainer


@pytest.mark.parametrize(("gates", "why"), [
    ({(3, 0): 0.5}, "no head 3.0"), ({(0, 4): 0.5}, "no head 0.4"), ({(-1, 0): 0.5}, "no head -1.0"),
    ({(0, 0): 1.5}, "0.0=1.5"), ({(0, 0): -0.1}, "0.0=-0.1"), ({(0, 0): float("nan")}, "0.0=nan"),
])  # fmt: skip
def test_heads_and_gates_that_are_none(gates, why):
    explainer = Explainer(tiny_model("bert"))
    with pytest.raises(InputError, match=why), gated_heads(explainer.adapter, gates):
        pass


def test_a_pattern_for_a_head_that_is_not_there():
    with pytest.raises(InputError, match=r"no head 0\.9"):
        patterned(Explainer(tiny_model("bert")), {(0, 9): Pattern(Offset(-1, -1))})
