"""Decoders: what made the next token likely, per generated token, against another token, at several positions."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from attribution import Explainer, InputError, Target
from attribution.asking import Surroundings, conduct
from attribution.capture import Capture, Need, trace
from attribution.model.inputs import Inputs
from attribution.perturb import Perturbation
from attribution.relevance.node import AbsoluteWeights
from attribution.targets import following_tokens, parts
from evaluation import perturbation_curves

IDS = torch.tensor([[5, 17, 45, 8, 91, 33, 5], [6, 7, 8, 9, 10, 11, 12]])
DECODERS = ("gpt2_lm", "llama_lm", "qwen3_lm")
CAST = 1e-6  # stock Llama normalises in float32 even in a float64 model; a capture does not


@pytest.fixture(params=DECODERS)
def explainer(request):
    return Explainer(tiny_model(request.param))


@pytest.fixture
def gpt2():
    return Explainer(tiny_model("gpt2_lm"))


def shapes_at_the_head(explainer):
    seen = []
    explainer.model.get_output_embeddings().register_forward_hook(lambda m, args, out: seen.append(tuple(out.shape)))
    return seen


def test_the_default_is_the_predicted_token_after_the_last(explainer):
    predicted = explainer.model(IDS).logits[:, -1].argmax(-1)
    for target in ("next_token", predicted, Target("next_token", index=predicted, position=6)):
        assert torch.equal(
            explainer.scores(IDS, method="attcat", target=target), explainer.scores(IDS, method="attcat")
        )


def test_relevance_of_a_model_without_biases_is_the_logit():
    explainer = Explainer(tiny_model("llama_lm"))
    logits = explainer.model(IDS).logits
    targets = [Target("next_token", index=9, position=p) for p in (2, 5)]
    scores = explainer.scores(IDS, method="lrp_ah_ln", target=targets)
    torch.testing.assert_close(scores.sum(-1), logits[:, [2, 5], 9], rtol=0, atol=1e-5)


def test_all_positions_come_from_one_forward_and_are_the_single_ones(explainer):
    seen = shapes_at_the_head(explainer)
    targets = following_tokens(IDS, 3)
    together = explainer.scores(IDS, method="attcat", target=targets)
    assert seen == [(2, 4, 100)]
    assert together.shape == (2, 4, 7)
    for number, target in enumerate(targets):
        alone = explainer.scores(IDS, method="attcat", target=target)
        torch.testing.assert_close(together[:, number], alone, rtol=0, atol=1e-12)
        assert not together[:, number, target.position + 1 :].any()  # a decoder does not look ahead


def test_several_tokens_of_one_position_share_its_logits(gpt2):
    seen = shapes_at_the_head(gpt2)
    first, second, difference = gpt2.scores(
        IDS, method="attcat", target=[9, 4, Target("next_token", index=9, contrast=4)]
    ).unbind(1)
    assert seen == [(2, 1, 100)]
    torch.testing.assert_close(difference, first - second, rtol=0, atol=1e-12)


def test_generation_padded_on_the_left_is_that_without_padding(explainer):
    padded = torch.cat((torch.zeros(2, 3, dtype=torch.long), IDS), 1)
    mask = (torch.arange(10) >= 3).long().expand(2, -1)
    found = explainer.scores(padded, mask, method="attcat", target=following_tokens(padded, 8))
    plain = explainer.scores(IDS, method="attcat", target=following_tokens(IDS, 5))
    torch.testing.assert_close(found[..., 3:], plain, rtol=0, atol=1e-9)


def test_probability_gradients_are_those_of_the_vocabulary(gpt2):
    p = gpt2.model(IDS).logits[:, -1].softmax(-1)[:, 9].detach()
    found = gpt2.scores(IDS, method="attcat", target=9, output="probability")
    every = gpt2.scores(IDS, method="attcat", target=list(range(100)))
    weights = gpt2.model(IDS).logits[:, -1].softmax(-1).detach()
    expected = p[:, None] * (every[:, 9] - (weights[..., None] * every).sum(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("touched", "left"), [(1, [0, 2, 3, 4]), (4, [0, 1, 2, 3]), (6, [0, 1, 2, 3, 4])])
def test_copies_are_read_where_the_explained_position_went(gpt2, touched, left):
    seen = shapes_at_the_head(gpt2)
    inputs = Inputs.of(IDS)
    run = trace(gpt2.adapter, inputs, Need.NOTHING, AbsoluteWeights(), columns=torch.tensor([[4], [4]]))
    goal = Target("next_token", index=9, position=4)
    (part,) = parts(goal, run.logits.detach(), run.visible, torch.tensor([6, 6]), columns=run.columns)
    mask = torch.zeros_like(IDS, dtype=torch.bool)
    mask[:, touched] = True

    def deleted(capture):
        return (yield Perturbation(torch.arange(2), mask, "delete"))

    capture = Capture(run, part, Need.NOTHING)
    ((values,), _) = conduct(Surroundings(gpt2.adapter, inputs, 8192, run.columns), [(part, deleted(capture))])
    expected = gpt2.model(IDS[:, left]).logits[:, -1, 9]
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)
    assert {shape[1:] for shape in seen[:-1]} == {(1, 100)}


@pytest.mark.parametrize("side", ["left", "right"])
def test_curves_follow_the_explained_token(gpt2, side):
    pad = torch.zeros(2, 2, dtype=torch.long)
    ids = torch.cat((pad, IDS) if side == "left" else (IDS, pad), 1)
    scores = torch.arange(9.0).expand(2, -1)
    first = 2 if side == "left" else 0
    target = Target("next_token", index=torch.tensor([9, 4]), position=first + 5)
    curves = perturbation_curves(gpt2, ids, (ids != 0).long(), scores, target=target, levels=[1, 2], operator="delete")
    for column, keep in enumerate(([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4])):
        logits = gpt2.model(IDS[:, keep]).logits[:, -1].detach()
        explained = logits.log_softmax(-1)[torch.arange(2), torch.tensor([9, 4])]
        torch.testing.assert_close(curves.log_probabilities[:, column, 0], explained, rtol=0, atol=1e-12)
    assert curves.target.tolist() == [[9], [4]]


def test_curves_without_a_target_follow_the_predicted_token(gpt2):
    curves = perturbation_curves(gpt2, IDS, None, torch.rand(2, 7), levels=[1])
    assert torch.equal(curves.target[:, 0], gpt2.model(IDS).logits[:, -1].argmax(-1))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target("next_token", index=100), "100 tokens"),
        (Target("next_token", position=6), "padding or outside"),
        (Target("next_token", position=9), "padding or outside"),
        ("class", "does not fit next token"),
    ],
)
def test_wrong_targets_are_named(gpt2, target, words):
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0]] * 2)
    with pytest.raises(InputError, match=words):
        gpt2.scores(IDS, mask, method="attcat", target=target)
    with pytest.raises(InputError, match="start=7"):
        following_tokens(IDS, 7)


def test_the_model_keeps_its_head_and_tied_embeddings(gpt2):
    head = gpt2.model.get_output_embeddings()
    gpt2.scores(IDS, method="mask_lrp", head_mask=torch.ones(3, 4))
    assert not head._forward_pre_hooks
    assert head.weight is gpt2.model.get_input_embeddings().weight
