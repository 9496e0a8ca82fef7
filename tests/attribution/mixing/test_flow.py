"""Attention flow against networkx and what can be said of it by hand."""

from __future__ import annotations

import networkx
import pytest
import torch
from zeroing_loop import IDS, MASK

from attribution import Explainer
from attribution.mixing.flow import attention_flows


@pytest.fixture
def explainer(bert):
    return Explainer(bert)


def test_one_layer_lets_through_its_capacities():
    attention = torch.rand(2, 1, 4, 4, dtype=torch.float64).softmax(-1)
    flows = attention_flows(attention, torch.ones(2, 4).bool(), torch.tensor([[0, 2], [1, 3]]))
    capacities = (attention[:, 0] + torch.eye(4)) / 2
    expected = torch.stack([capacities[0, [0, 2]], capacities[1, [1, 3]]])
    torch.testing.assert_close(flows, expected, rtol=0, atol=1e-8)


def test_flows_are_those_of_networkx(explainer):
    attention = explainer.context_mixing(IDS, MASK, method="raw_attention")[1]
    capacities = (attention + torch.eye(7)) / 2
    graph = networkx.DiGraph()
    for layer, upper, lower in (capacities > 0).nonzero().tolist():
        graph.add_edge((layer + 1, upper), (layer, lower), capacity=capacities[layer, upper, lower].item())
    flows = explainer.context_mixing(IDS, MASK, method="attention_flow")[1]
    for layer, position in ((2, 0), (2, 3), (1, 4)):
        values = [networkx.maximum_flow_value(graph, (layer + 1, position), (0, token)) for token in range(5)]
        expected = torch.tensor([*values, 0, 0]).double()
        torch.testing.assert_close(flows[layer, position], expected / expected.sum(), rtol=0, atol=1e-7)


def test_rows_of_flows_are_shares_and_padding_has_none(explainer):
    flows = explainer.context_mixing(IDS, MASK, method="attention_flow")
    torch.testing.assert_close(flows.sum(-1), MASK[:, None].expand(2, 3, 7).double(), rtol=0, atol=1e-12)
    assert not flows[1, :, :, 5:].any()
    assert torch.equal(explainer.context_mixing(IDS, MASK, method="attention_flow", rows=[4]), flows[:, :, 4:5])
    torch.testing.assert_close(explainer.scores(IDS, MASK, method="attention_flow"), flows[:, -1, 0])
    torch.testing.assert_close(explainer.scores(IDS, MASK, method="attention_flow", layer=0), flows[:, 0, 0])


def test_a_hidden_token_in_the_middle_lets_nothing_through(explainer):
    hidden = MASK.clone()
    hidden[0, 3] = 0
    flows = explainer.context_mixing(IDS, hidden, method="attention_flow")
    assert not flows[0, :, :, 3].any()
    assert not flows[0, :, 3].any()
    assert flows[0, :, 0, 6].all()
