"""Attributions, confidence and entropy of attention, and relevance of heads: what they must add up to."""

from __future__ import annotations

import math

import pytest
import torch
from importance_inputs import batch
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.capture import Need, trace
from attribution.heads import head_importance, head_importances
from attribution.heads.attention_importance import attention_maps, confidence, entropy, normalized_entropy
from attribution.heads.head_pass import HeadPass, head_pass
from attribution.heads.outputs import gated, head_outputs, kept
from attribution.heads.relevance import head_relevance
from attribution.heads.rows import rows_of
from attribution.relevance.node import AbsoluteWeights
from attribution.relevance.tables import CP_LRP


def only_rows(explainer, given):
    (rows,) = rows_of(explainer, [given])
    return rows


def probabilities(explainer, given, gates):
    """[B] probabilities of the labels with gates on the heads."""
    with torch.no_grad(), head_outputs(explainer.adapter, gated(gates)):
        logits = explainer.model(given["input_ids"], attention_mask=given["attention_mask"]).logits
    return logits.softmax(1).gather(1, given["labels"][:, None])[:, 0]


@pytest.mark.parametrize("layer", [0, 2])
def test_attributions_of_a_layer_add_up_to_what_its_attention_adds(bert, layer):
    explainer, given = Explainer(bert), batch()
    found = head_pass(only_rows(explainer, given))
    closed = torch.ones(3, 4)
    closed[layer] = 0
    expected = probabilities(explainer, given, torch.ones(3, 4)) - probabilities(explainer, given, closed)
    error = {
        (rule, steps): (attention_maps(found, layer, steps=steps, rule=rule).sum((1, 2, 3)) - expected).abs().max()
        for rule, steps in [("left", 8), ("left", 32), ("midpoint", 8), ("midpoint", 32)]
    }
    assert expected.abs().min() > 1e-4
    assert error["left", 32] < error["left", 8] / 3  # O(1 / m)
    assert error["midpoint", 32] < error["midpoint", 8] / 8  # O(1 / m^2)
    assert error["midpoint", 8] < error["left", 8]
    assert error["midpoint", 32] < 1e-4


def test_attributions_of_heads_are_the_largest_of_their_maps(bert):
    explainer, given = Explainer(bert), batch(3)
    found = head_pass(only_rows(explainer, given))
    maps = torch.stack([attention_maps(found, layer, steps=3) for layer in range(3)], 1)
    largest = head_importance(explainer, [given], method="attention_attribution", steps=3)
    torch.testing.assert_close(largest, maps.amax((3, 4)).mean(0))
    hidden = ~given["attention_mask"].bool()[:, None, None, None, :].expand_as(maps)
    assert maps[hidden].abs().max() == 0


def with_attention(attention, mask, *, causal=False, special=None):
    """A pass whose attention is given, [B, H, N, N] in one layer."""
    explainer = Explainer(tiny_model("gpt2" if causal else "bert"))
    ids = torch.full(mask.shape, 7)
    given = {"input_ids": ids, "attention_mask": mask}
    if special is not None:
        given["special_tokens_mask"] = special
    return HeadPass(only_rows(explainer, given), torch.zeros(len(ids), 2), [], [attention], [])


def test_confidence_and_entropy_by_hand():
    even, sure = torch.zeros(2, 4), torch.zeros(2, 4)
    mask = torch.tensor([[1, 1, 1, 0]])
    even = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]).expand(4, 4)
    sure = torch.tensor([0.0, 1, 0, 0]).expand(4, 4)
    closing = torch.tensor([0.1, 0.2, 0.7, 0]).expand(4, 4)
    attention = torch.stack([even, sure, closing])[None].double()
    found = with_attention(attention, mask)
    torch.testing.assert_close(confidence(found)[0, 0], torch.tensor([1 / 3, 1, 0.7]).double(), atol=1e-7, rtol=0)
    special = with_attention(attention, mask, special=torch.tensor([[1, 0, 1, 0]]))
    torch.testing.assert_close(confidence(special)[0, 0], torch.tensor([1 / 3, 1, 0.2]).double(), atol=1e-7, rtol=0)
    assert entropy(found)[0, 0, 0].item() == pytest.approx(math.log(3), abs=1e-6)
    assert entropy(found)[0, 0, 1].item() == pytest.approx(0, abs=1e-3)
    assert normalized_entropy(found)[0, 0, 0].item() == pytest.approx(1, abs=1e-6)


def test_rows_of_decoders_are_normalised_by_what_they_see():
    even = torch.ones(4, 4).tril()
    attention = (even / even.sum(1, keepdim=True))[None, None].double()
    found = with_attention(attention, torch.ones(1, 4, dtype=torch.long), causal=True)
    assert normalized_entropy(found).item() == pytest.approx(1, abs=1e-6)
    assert entropy(found).item() == pytest.approx(sum(math.log(n) for n in (1, 2, 3, 4)) / 4, abs=1e-6)


def without_biases(name):
    model = tiny_model(name)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.zero_()
    return model


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "llama"])
def test_heads_and_the_residual_path_share_the_logit(name):
    """At each layer: what heads receive and what goes around them is the logit, where nothing has a bias."""
    explainer = Explainer(without_biases(name))
    rows = only_rows(explainer, batch(3, labels=None))
    heads = []
    with head_outputs(explainer.adapter, kept(heads)):
        run = trace(explainer.adapter, rows.inputs, Need.MODIFIED_GRADIENT, AbsoluteWeights())
    seed = rows.parts(run.logits, "logit")[0].gradient
    found, logit = head_relevance(rows), run.logits.detach().max(1).values
    for layer in range(3):
        to_heads, to_block = run.backward(CP_LRP, seed, [heads[layer], run.hidden[layer]])
        (through,) = torch.autograd.grad(heads[layer], run.hidden[layer], to_heads, retain_graph=True)
        around = ((to_block - through) * run.hidden[layer].detach()).sum((1, 2))
        assert found[:, layer].abs().max() > 1e-3
        torch.testing.assert_close(found[:, layer].sum(1) + around, logit, rtol=0, atol=1e-6)


def test_relevance_of_heads_is_given_in_parts_of_the_layer(bert):
    explainer, given = Explainer(bert), batch()
    found = head_importances(explainer, [given], methods=["lrp_head"])["lrp_head"]
    raw = found.per_example.mean(0)
    torch.testing.assert_close(found.scores, raw / raw.abs().sum(1, keepdim=True))
    assert (found.scores < 0).any()


def test_intervals_hold_the_scores_and_narrow_with_more_examples(bert):
    explainer = Explainer(bert)
    few, many = (head_importances(explainer, [batch(rows)], methods=["gate_grad"])["gate_grad"] for rows in (8, 64))
    for each in (few, many):
        low, high = each.interval.unbind(-1)
        assert ((low < each.scores) & (each.scores < high)).all()
    width = [(each.interval[..., 1] - each.interval[..., 0]).mean() for each in (few, many)]
    assert width[1] < width[0] / 1.5
    assert head_importances(explainer, [batch(1)], methods=["gate_grad"])["gate_grad"].interval.isnan().all()


def test_interval_of_a_mean_is_that_of_the_normal_distribution(bert):
    found = head_importances(Explainer(bert), [batch(64)], methods=["leave_one_out"])["leave_one_out"]
    error = found.per_example.std(0, correction=0) / 8
    half = (found.interval[..., 1] - found.interval[..., 0]) / 2
    assert ((half / (1.96 * error) - 1).abs() < 0.25).all()


def test_errors_name_what_is_wrong(bert):
    explainer = Explainer(bert)
    with pytest.raises(InputError, match=r"importance=taylor is not a method. Choose one of: gate_grad, "):
        head_importance(explainer, [batch()], method="taylor")
    with pytest.raises(InputError, match=r"importance.ablation=half is not known; choose zero, mean, resample"):
        head_importance(explainer, [batch()], method="leave_one_out", ablation="half")
    with pytest.raises(InputError, match=r"gate_grad has no such parameter; it has: none"):
        head_importance(explainer, [batch()], method="gate_grad", steps=3)
    with pytest.raises(InputError, match=r"importance.steps=0 is not a number of steps"):
        head_importance(explainer, [batch()], method="attention_attribution", steps=0)
    with pytest.raises(InputError, match="at least one batch"):
        head_importance(explainer, [])
    with pytest.raises(InputError, match="needs at least two examples"):
        head_importance(explainer, [batch(1)], method="leave_one_out", ablation="resample")
    with pytest.raises(InputError, match=r"labels have shape \[5, 2\]"):
        head_importance(explainer, [{**batch(), "labels": torch.zeros(5, 2)}])


@pytest.mark.parametrize("name", ["bert_qa", "llama_qa", "gpt2_lm", "bert_multi"])
def test_other_tasks_have_losses_too(name):
    explainer = Explainer(tiny_model(name))
    predicted = head_importances(explainer, [batch(3, labels=None)], methods=["gate_grad", "leave_one_out", "lrp_head"])
    assert all((each.scores != 0).any() and each.scores.isfinite().all() for each in predicted.values())


def test_loss_of_answers_is_of_the_positions_given(bert_qa):
    explainer, given = Explainer(bert_qa), batch(3, labels=None)
    positions = {"start_positions": torch.tensor([1, 2, 3]), "end_positions": torch.tensor([4, 5, 5])}
    loss = head_pass(only_rows(explainer, {**given, **positions})).loss
    output = bert_qa(**given)
    hidden = given["attention_mask"] == 0
    expected = sum(
        -logits.masked_fill(hidden, -torch.inf).log_softmax(1).gather(1, at[:, None])[:, 0]
        for logits, at in zip((output.start_logits, output.end_logits), positions.values(), strict=True)
    )
    torch.testing.assert_close(loss, expected.detach())
    with pytest.raises(InputError, match="needs both of start_positions, end_positions"):
        head_importance(explainer, [{**given, "start_positions": positions["start_positions"]}])
