"""Rollouts of token-to-token matrices, and attention times its gradient."""

from __future__ import annotations

import pytest
import torch
from zeroing_loop import IDS, MASK, exact_model

from attribution import Explainer, rollout
from attribution.methods import mixing
from attribution.methods.mixing import MIXING
from attribution.methods.rollout import residual_rollout, residual_rollout_row
from attribution.mixing import value_zeroing

MATRICES = torch.rand(2, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)


def test_rollout_is_the_product_of_the_layers():
    rolled = rollout(MATRICES)
    assert torch.equal(rolled[:, 0], MATRICES[:, 0])
    right_first = MATRICES[:, 3] @ (MATRICES[:, 2] @ (MATRICES[:, 1] @ MATRICES[:, 0]))
    torch.testing.assert_close(rolled[:, 3], right_first, rtol=0, atol=1e-12)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 4, 5).double(), rtol=0, atol=1e-12)


def test_identity_stays_identity_and_uniform_stays_uniform():
    identity = torch.eye(5).expand(1, 3, 5, 5)
    assert torch.equal(rollout(identity), identity)
    uniform = torch.full((1, 3, 5, 5), 0.2)
    torch.testing.assert_close(rollout(uniform), uniform)
    row = residual_rollout_row(list(identity.unbind(1)), torch.tensor([2]))
    assert torch.equal(row, torch.eye(5)[2:3])


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_attention_times_gradient_is_that_of_the_stock_model(name):
    model = exact_model(name)
    model.set_attn_implementation("eager")
    with torch.enable_grad():
        result = model(IDS, attention_mask=MASK, output_attentions=True)
        gradients = torch.autograd.grad(result.logits[:, 1].sum(), result.attentions)
    products = [(a * g).clamp(min=0).mean(1) for a, g in zip(result.attentions, gradients, strict=True)]
    explainer = Explainer(model)
    found = explainer.context_mixing(IDS, MASK, method="grad_rollout", target=1)
    expected = torch.stack(products, 1) * MASK[:, None, :, None]
    # Stock eager attention takes GPT-2's softmax in single precision.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    rows = explainer.context_mixing(IDS, MASK, method="grad_rollout", target=torch.tensor([1, 0]), rows=[2])
    torch.testing.assert_close(rows[0], found[0, :, 2:3], rtol=0, atol=1e-12)


def test_gradient_rollout_multiplies_with_identity_and_normalised_rows(bert):
    explainer = Explainer(bert)
    maps = explainer.context_mixing(IDS, MASK, method="grad_rollout", target=1) + torch.eye(7)
    rolled = rollout(maps / maps.sum(-1, keepdim=True))
    scores = explainer.scores(IDS, MASK, method="grad_rollout", target=1)
    torch.testing.assert_close(scores, rolled[:, -1, 0] * MASK, rtol=0, atol=1e-12)
    assert (scores.sum(1) - 1).abs().max() < 1e-12


def test_both_ends_of_a_span_add_up(bert_qa):
    explainer = Explainer(bert_qa)
    ends = [explainer.context_mixing(IDS, MASK, method="grad_rollout", target=end) for end in ("start", "end")]
    span = explainer.context_mixing(IDS, MASK, method="grad_rollout", target="span")
    torch.testing.assert_close(span, sum(ends), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["value_zeroing", "attention_norm", "globenc", "alti", "raw_attention"])
def test_batches_and_chunks_of_rows_change_nothing(bert, method):
    together = Explainer(bert).context_mixing(IDS, MASK, method=method)
    split = Explainer(bert, max_tokens=7).context_mixing(IDS, MASK, method=method)
    alone = Explainer(bert).context_mixing(IDS[1:, :5], method=method)
    torch.testing.assert_close(split, together, rtol=0, atol=1e-12)
    torch.testing.assert_close(together[1:, :, :5, :5], alone, rtol=0, atol=1e-12)


def test_targets_share_the_matrices_of_lower_layers(bert_qa, monkeypatch):
    made = []
    original = value_zeroing.zeroing_distances
    monkeypatch.setattr(
        mixing, "zeroing_distances", lambda s, **k: (made.append(s.positions.shape[1]), original(s, **k))[1]
    )
    explainer = Explainer(bert_qa)
    together = explainer.scores(IDS, MASK, method="value_zeroing", target=["start", "end", "start"])
    assert sorted(made) == [1, 1, 1, 7, 7]
    for number, end in enumerate(("start", "end", "start")):
        alone = explainer.scores(IDS, MASK, method="value_zeroing", target=end)
        torch.testing.assert_close(together[:, number], alone, rtol=0, atol=1e-12)


def test_rolled_out_with_identities_is_the_row_carried_down():
    generator = torch.Generator().manual_seed(7)
    maps = torch.rand(2, 4, 5, 5, generator=generator, dtype=torch.float64)
    rolled = residual_rollout(maps)
    for layer in range(4):
        for place in range(5):
            below = [maps[:, each] for each in range(layer + 1)]
            row = residual_rollout_row(below, torch.full((2,), place))
            torch.testing.assert_close(rolled[:, layer, place], row, rtol=0, atol=1e-12)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize("method", MIXING)
def test_every_method_rolls_its_maps_out_as_its_scores_are(bert, method):
    explainer, ids = Explainer(bert), torch.tensor([[5, 17, 45, 8, 91, 33]])
    rolled = MIXING[method].rolled_out(explainer.context_mixing(ids, method=method, target=1))
    if method == "raw_attention":
        expected = explainer.scores(ids, method="attention_rollout", target=1)
        torch.testing.assert_close(rolled[0, -1, 0, 1:], expected[0, 1:], rtol=0, atol=1e-12)
    else:
        expected = explainer.scores(ids, method=method, target=1)
        torch.testing.assert_close(rolled[0, -1, 0], expected[0], rtol=0, atol=1e-12)


def test_the_variant_decides_whether_an_identity_is_added():
    maps = torch.full((1, 2, 3, 3), 1 / 3)
    plain, added = (MIXING["attention_norm"].rolled_out(maps, variant=name) for name in ("residual_norm", "heads"))
    assert torch.equal(plain, rollout(maps))
    assert torch.equal(added, residual_rollout(maps))
