"""Every row of the table of families says where things really are: blocks rebuilt from its paths are the model's."""

from __future__ import annotations

from operator import attrgetter

import pytest
import torch
from tiny_models import CONFIGURATIONS, TINY_MODELS, tiny_model
from transformers.pytorch_utils import Conv1D

from attribution import Explainer, InputError, Inputs, Target
from attribution.capture import Need, trace
from attribution.model.families import FAMILIES, family_of
from attribution.relevance.node import AbsoluteWeights

IDS = torch.tensor([[5, 17, 45, 8, 91, 33, 5, 60, 21], [6, 7, 8, 9, 10, 11, 0, 0, 0]])
MASK = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
CAST = 1e-6  # the stock models cast rotary embeddings, RMS norms and DeBERTa's scales to float32; a capture does not


def tokens(model):
    return IDS.masked_fill(MASK == 0, model.config.pad_token_id or 0)


def test_every_family_has_a_tiny_model():
    assert {tiny_model(name).config.model_type for name in CONFIGURATIONS} == set(FAMILIES)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_own_attention_gives_the_models_logits(name):
    model = tiny_model(name)
    adapter, inputs = Explainer(model).adapter, Inputs.of(tokens(model), MASK)
    columns = torch.tensor([[8, 3], [5, 0]]) if adapter.is_generative else None
    run = trace(adapter, inputs, Need.NOTHING, AbsoluteWeights(), columns=columns)
    stock = model(tokens(model), attention_mask=MASK)
    if adapter.is_qa:
        expected = torch.stack((stock.start_logits, stock.end_logits), -1)[MASK == 1]
        found = run.logits[MASK == 1]
    elif columns is None:
        expected, found = stock.logits, run.logits
    else:
        expected, found = stock.logits[torch.arange(2)[:, None], columns], run.logits
    torch.testing.assert_close(found, expected, rtol=0, atol=CAST)
    assert len(run.attention) == len(run.hidden) == adapter.n_layers


def linear(module, x):
    weight = module.weight.T if isinstance(module, Conv1D) else module.weight
    return torch.nn.functional.linear(x, weight, module.bias)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@torch.no_grad()
def test_blocks_rebuilt_from_their_paths_are_the_models(name):
    model = tiny_model(name)
    adapter = Explainer(model).adapter
    run = trace(adapter, Inputs.of(tokens(model), MASK), Need.NOTHING, AbsoluteWeights())
    paths = adapter.family.block
    for number, module in enumerate(adapter.layers()[:-1]):
        part = {field: attrgetter(getattr(paths, field))(module) for field in ("value", "output")}
        part |= {field: attrgetter(getattr(paths, field))(module) for field in ("attention_norm", "mlp_norm")}
        branch = paths.feed_forward
        part |= {field: attrgetter(getattr(branch, field))(module) for field in ("activation", "outward")}
        entering, attention = run.hidden[number], run.attention[number]
        values = linear(part["value"], part["attention_norm"](entering) if paths.norm_first else entering)
        values = values.chunk(3, -1)[2] if paths.fused else values
        size = linear_width(part["output"]) // adapter.n_heads
        values = values.unflatten(-1, (-1, size)).transpose(1, 2)
        values = values.repeat_interleave(adapter.n_heads // values.shape[1], 1)
        z = linear(part["output"], (attention @ values).transpose(1, 2).flatten(2)) + entering
        middle = part["mlp_norm"](z) if paths.norm_first else part["attention_norm"](z)
        inner = torch.cat([linear(attrgetter(path)(module), middle) for path in branch.inward], -1)
        hidden, *gate = inner.split(linear_width(part["outward"]), -1)
        hidden = part["activation"](hidden) * (gate[0] if gate else 1)
        fed = linear(part["outward"], hidden)
        leaving = fed + (z if paths.norm_first else middle)
        leaving = leaving if paths.norm_first else part["mlp_norm"](leaving)
        for path in paths.mlp:
            middle = attrgetter(path)(module)(middle)
        torch.testing.assert_close(middle, fed, rtol=0, atol=CAST)
        torch.testing.assert_close(leaving[MASK == 1], run.hidden[number + 1][MASK == 1], rtol=0, atol=CAST)


def linear_width(module):
    return module.weight.shape[0 if isinstance(module, Conv1D) else 1]


def test_shared_blocks_run_as_often_as_the_model_is_deep():
    adapter = Explainer(tiny_model("albert")).adapter
    first, second, third = adapter.layers()
    assert first is second
    assert first is not third


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_attention_rows_sum_to_one_on_either_side_of_padding(name):
    adapter = Explainer(tiny_model(name)).adapter
    ids = tokens(adapter.model)
    right = adapter.attentions(Inputs.of(ids, MASK))
    left = adapter.attentions(Inputs.of(ids.roll(3, 1), MASK.roll(3, 1)))
    assert [a.shape for a in right] == [(2, adapter.n_heads, 9, 9)] * adapter.n_layers
    for a, b in zip(right, left, strict=True):
        torch.testing.assert_close(a[1, :, :6].sum(-1), torch.ones(adapter.n_heads, 6).double(), rtol=0, atol=1e-6)
        torch.testing.assert_close(b[1, :, 3:, 3:], a[1, :, :6, :6], rtol=0, atol=1e-9)


def test_local_attention_is_local():
    model = tiny_model("modernbert")
    layers = Explainer(model).adapter.attentions(Inputs.of(IDS[:1]))
    apart = (torch.arange(9)[:, None] - torch.arange(9)).abs() > 3
    kinds = [bool(attention[0, :, apart].any()) for attention in layers]
    assert kinds == [kind == "full_attention" for kind in model.config.layer_types]
    assert len(set(kinds)) == 2


def test_where_a_head_pools_all_tokens_rows_are_averaged():
    explainer = Explainer(tiny_model("modernbert"))
    ids = tokens(explainer.model)
    found = explainer.scores(ids, MASK, method="raw_attention")
    last = explainer.adapter.attentions(Inputs.of(ids, MASK))[-1].mean(1)
    expected = torch.stack([last[0].mean(0), last[1][:6].mean(0)])
    torch.testing.assert_close(found, expected, rtol=0, atol=CAST)


def test_relevance_through_mean_pooling_goes_to_who_contributed():
    from attribution.relevance.node import Kind, Node, Pass
    from attribution.relevance.rules import pool_relevance
    from attribution.relevance.tables import CHEFER

    x = torch.tensor([[[0.76], [0.93], [-0.30], [-1.50]]], dtype=torch.float64)
    node = Node(Kind.POOL, lambda x: x.sum(1), Pass(CHEFER), "sum", extra={"dim": 1})
    node.inputs, node.output = (x,), x.sum(1)
    (found,) = pool_relevance(node, x.sum(1))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["deberta", "deberta_v2"])
def test_relevance_through_relative_positions_is_refused_by_name(name):
    from attribution import UnruledOperation

    explainer = Explainer(tiny_model(name))
    assert explainer.scores(tokens(explainer.model), MASK, method="partial_lrp").isfinite().all()
    with pytest.raises(UnruledOperation, match=r"bias of attention scores .* DisentangledSelfAttention of layer"):
        explainer.scores(tokens(explainer.model), MASK, method="full_lrp")
    assert all("forward" not in module.__dict__ for module in explainer.model.modules())


def test_an_unknown_family_is_named():
    with pytest.raises(InputError, match=r"type t5 is not supported; known types: bert, .*qwen3"):
        family_of("t5")


def test_token_types_reach_only_families_that_have_them():
    kinds = torch.ones_like(IDS)
    for name in ("bert", "albert", "deberta_v2", "distilbert", "gpt2"):
        explainer = Explainer(tiny_model(name))
        inputs = Inputs.of(tokens(explainer.model), MASK)
        plain = explainer.adapter.logits(inputs)
        typed = explainer.adapter.logits(Inputs.of(inputs.input_ids, MASK, token_type_ids=kinds))
        assert torch.equal(plain, typed) != explainer.adapter.family.token_types


def test_probabilities_of_independent_labels_are_sigmoids():
    explainer = Explainer(tiny_model("bert_multi"))
    logit, probability = (
        explainer.scores(IDS, MASK, method="attcat", target=[0, 2], output=output)
        for output in ("logit", "probability")
    )
    p = explainer.adapter.logits(Inputs.of(IDS, MASK)).sigmoid()[:, [0, 2], None]
    torch.testing.assert_close(probability, p * (1 - p) * logit, rtol=0, atol=1e-12)


def test_a_given_answer_moves_along_with_left_padding():
    explainer = Explainer(tiny_model("bert_qa"))
    plain = explainer.scores(IDS[1:, :6], method="attcat", target=Target("span", position=torch.tensor([[2, 4]])))
    left = torch.cat((torch.zeros(1, 3, dtype=torch.long), IDS[1:, :6]), 1)
    goal = Target("span", position=torch.tensor([[5, 7]]))
    shifted = explainer.scores(left, (left != 0).long(), method="attcat", target=goal)
    torch.testing.assert_close(shifted[:, 3:], plain, rtol=0, atol=1e-12)
