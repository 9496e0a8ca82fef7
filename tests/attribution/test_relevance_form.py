"""The rules of AttnLRP and of AH and LN as relevance that is handed on, against input times modified gradient."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor

from attribution import Explainer
from attribution.capture import Capture, Need, trace
from attribution.model.inputs import Inputs
from attribution.relevance.node import AbsoluteWeights, Kind, Node, RuleTable
from attribution.relevance.tables import ATTN_LRP, CP_LRP, LRP_AH_LN
from attribution.targets import parts

IDS = torch.tensor([[2, 17, 45, 8, 91, 33, 5, 60, 21, 3], [2, 9, 14, 70, 3, 0, 0, 0, 0, 0]])
MASK = (IDS != 0).long()


def share(relevance: Tensor, z: Tensor) -> Tensor:
    """R / z; 0 where z is 0."""
    return torch.where(z == 0, 0, relevance / torch.where(z == 0, 1, z))


def linear(node: Node, relevance: Tensor):
    return (node.inputs[0] * (share(relevance, node.output) @ node.inputs[1]),)


def add(node: Node, relevance: Tensor):
    """In proportion to what each side adds; a constant side keeps its part."""
    return tuple(x * share(relevance, node.output) for x in node.inputs)


def product(node: Node, relevance: Tensor):
    return relevance / 2, relevance / 2


def product_to_value(node: Node, relevance: Tensor):
    return tuple(None if place in node.extra["gates"] else relevance for place in (0, 1))


def norm(node: Node, relevance: Tensor):
    """The mean by the epsilon rule, 1/std hands everything on, the bias keeps its part."""
    x, weight, eps = node.inputs[0], node.extra["weight"], node.extra["eps"]
    centred = x - x.mean(-1, keepdim=True) if node.extra["centred"] else x
    normal = weight * centred * (centred.pow(2).mean(-1, keepdim=True) + eps).rsqrt()
    inner = share(normal * share(relevance, node.output), centred)
    return (x * (inner - inner.mean(-1, keepdim=True) if node.extra["centred"] else inner),)


def hand_on(node: Node, relevance: Tensor):
    return (relevance,)


def softmax(node: Node, relevance: Tensor):
    """Taylor expansion: x (R - s sum R)."""
    scores = node.inputs[0] * node.extra["scaling"]
    return (scores * (relevance - node.output * relevance.sum(-1, keepdim=True)),)


def scores(node: Node, relevance: Tensor):
    query, key = node.inputs
    part = share(relevance, node.output) / 2
    return query * (part @ key), key * (part.transpose(-1, -2) @ query)


def mix(node: Node, relevance: Tensor):
    attention, value = node.inputs
    part = share(relevance, node.output) / 2
    return attention * (part @ value.transpose(-1, -2)), value * (attention.transpose(-1, -2) @ part)


def mix_to_value(node: Node, relevance: Tensor):
    attention, value = node.inputs
    return None, value * (attention.transpose(-1, -2) @ share(relevance, node.output))


def stop(node: Node, relevance: Tensor):
    return tuple(None for _ in node.inputs)


# Every kind that these models have, and no entry for UNRULED: what is not listed is refused.
COMMON = {
    Kind.LINEAR: linear,
    Kind.ADD: add,
    Kind.SHIFT: add,
    Kind.SCALE: hand_on,
    Kind.ACTIVATION: hand_on,
    Kind.NORM: norm,
    Kind.FORK: hand_on,
    Kind.GATE: hand_on,
}
HEADS = {Kind.SCORES: stop, Kind.SOFTMAX: stop, Kind.MIX: mix_to_value}
FORMS = {
    "attn_lrp": (
        ATTN_LRP,
        {**COMMON, Kind.PRODUCT: product, Kind.SCORES: scores, Kind.SOFTMAX: softmax, Kind.MIX: mix},
    ),
    "lrp_ah_ln": (LRP_AH_LN, {**COMMON, **HEADS, Kind.PRODUCT: product}),
    "cp_lrp": (CP_LRP, {**COMMON, **HEADS, Kind.PRODUCT: product_to_value}),
}


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("form", FORMS)
def test_the_two_forms_agree_at_every_layer(name, form):
    model = tiny_model(name)
    model.config.pad_token_id = 0
    adapter = Explainer(model).adapter
    run = trace(adapter, Inputs.of(IDS, MASK), Need.MODIFIED_GRADIENT, AbsoluteWeights())
    (part,) = parts(1, run.logits.detach(), run.visible, adapter.read_out(run.inputs))
    capture = Capture(run, part, Need.MODIFIED_GRADIENT)
    table, rules = FORMS[form]
    seed = part.gradient * run.logits.detach()
    handed = run.backward(RuleTable("the relevance form", rules), seed, [run.embeddings, *run.hidden])
    for layer, relevance in zip([None, 0, 1, 2], handed, strict=True):
        expected = capture.modified.conserved(part, table, layer).relevance
        scale = expected.abs().max()
        assert scale > 1e-3
        assert ((relevance - expected).abs().max() / scale).item() < 1e-9
