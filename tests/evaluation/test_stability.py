"""Sanity and robustness: values by hand, and explanations of other models, classes, inputs and seeds."""

from __future__ import annotations

import math

import pytest
import torch
from test_curves import random_texts, tiny
from tiny_models import tiny_model

from attribution import InputError
from attribution.model.inputs import Inputs
from evaluation import evaluate
from evaluation.randomised import (
    neighbour_scores,
    other_class_scores,
    randomisable,
    randomise,
    randomised_scores,
    reseeded_scores,
    smoothed_scores,
)

SCORES = torch.tensor([[9.0, 3, 0, 4, 1], [7, 0, 0, 0, 0]])
TOKENS = torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 1, 0]]).bool()
OTHERS = torch.tensor([[[0.0, 3, 0, 4, 1], [0, -3, 0, -4, -1]], [[0, 1, 2, 3, 0]] * 2])
H = -(3 / 8 * math.log(3 / 8) + 4 / 8 * math.log(4 / 8) + 1 / 8 * math.log(1 / 8))


@pytest.mark.parametrize(
    ("metric", "argument", "other", "expected"),
    [
        ("mprt", "randomised", OTHERS, [0.0, math.nan]),
        ("efficient_mprt", "randomised", torch.ones(2, 1, 5), [math.log(4) / H - 1, math.nan]),
        ("random_logit", "other_class", OTHERS[:, 1], [-1, math.nan]),
        ("random_logit", "other_class", SCORES, [math.nan, math.nan]),
        ("max_sensitivity", "neighbours", OTHERS, [2.0, math.nan]),
        ("avg_sensitivity", "neighbours", OTHERS, [1.0, math.nan]),
        ("top_k_stability", "neighbours", OTHERS, [1.0, 1.0]),
        ("seed_stability", "reruns", OTHERS, [-1 / 3, math.nan]),
        ("dtype_stability", "other_dtype", OTHERS[:, 1], [-1, math.nan]),
    ],
)
def test_values_by_hand(metric, argument, other, expected):
    found = evaluate(metric, scores=SCORES, tokens=TOKENS, **{argument: other})
    assert found.tolist() == pytest.approx(expected, nan_ok=True)


@pytest.fixture
def texts():
    ids, mask, _ = random_texts(lengths=(6, 9))
    return Inputs.of(ids, mask)


@pytest.mark.parametrize("name", ["bert", "distilbert", "albert", "gpt2", "llama"])
def test_every_weight_is_in_one_group_and_is_drawn_anew(name):
    explainer = tiny(tiny_model(name, layers=2))
    groups, model = randomisable(explainer), explainer.model
    members = [module for group in groups for module in group]
    assert len(members) == len(set(members))
    before = {key: value.clone() for key, value in model.named_parameters()}
    randomise(model, groups, seed=3)
    same = [key for key, value in model.named_parameters() if torch.equal(value, before[key])]
    assert same == []
    after = {key: value.clone() for key, value in model.named_parameters()}
    randomise(model, groups, seed=3)
    assert all(torch.equal(value, after[key]) for key, value in model.named_parameters())


def test_a_cascade_goes_from_the_top_and_leaves_the_model_alone(texts):
    explainer = tiny(tiny_model("bert", layers=2))
    plain = explainer.scores(texts.input_ids, texts.attention_mask, method="raw_attention", target=1)
    found = randomised_scores(explainer, texts, "raw_attention", target=1)
    assert found.shape == (2, 4, 9)
    assert torch.equal(found[:, 0], plain)  # attention does not read the head
    assert not torch.allclose(found[:, 1], plain)
    assert torch.equal(explainer.scores(texts.input_ids, texts.attention_mask, method="raw_attention", target=1), plain)
    last = randomised_scores(explainer, texts, "raw_attention", target=1, order="all")
    assert torch.equal(last[:, 0], found[:, -1])
    alone = randomised_scores(explainer, texts, "raw_attention", target=1, order="independent")
    assert torch.equal(alone[:, 0], plain)
    with pytest.raises(InputError, match="order=upwards"):
        randomised_scores(explainer, texts, "raw_attention", target=1, order="upwards")


def test_noise_follows_from_the_text_alone_and_grows_with_its_size(texts):
    explainer = tiny(tiny_model("bert", layers=1))
    method = "input_x_gradient"
    plain = explainer.scores(texts.input_ids, texts.attention_mask, method=method, target=1)
    near, far = (neighbour_scores(explainer, texts, method, target=1, n=3, radius=r) for r in (1e-6, 0.05))
    assert near.shape == (2, 3, 9)
    torch.testing.assert_close(near, plain[:, None].expand_as(near), rtol=1e-3, atol=1e-4)
    tokens = texts.attention_mask.bool()
    changes = [evaluate("max_sensitivity", scores=plain, neighbours=each, tokens=tokens) for each in (near, far)]
    assert bool((changes[1] > 100 * changes[0]).all())
    alone = neighbour_scores(explainer, texts.rows(slice(1, 2)), method, target=1, n=3, radius=0.05)
    assert torch.equal(alone, far[1:])
    smooth = smoothed_scores(explainer, texts, method, target=1, n_samples=2, stdev=1e-6, seed=0)
    torch.testing.assert_close(smooth, plain, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="take one that reads a single pass"):
        neighbour_scores(explainer, texts, "occlusion", target=1)


def test_other_classes_and_other_seeds(texts):
    explainer = tiny(tiny_model("bert", layers=1))
    present = {"input_ids": texts.input_ids, "attention_mask": texts.attention_mask}
    target = torch.tensor([0, 1])
    other = other_class_scores(explainer, texts, "input_x_gradient", target=target)
    assert torch.equal(other, explainer.scores(**present, method="input_x_gradient", target=1 - target))
    blind = other_class_scores(explainer, texts, "raw_attention", target=target)
    own = explainer.scores(**present, method="raw_attention", target=target)
    assert evaluate("random_logit", scores=own, other_class=blind, tokens=texts.attention_mask.bool()).isnan().all()
    reruns = reseeded_scores(explainer, texts, {"method": "lime", "n_samples": 4}, target=1, seeds=(1, 2))
    assert torch.equal(reruns[:, 1], explainer.scores(**present, method="lime", n_samples=4, seed=2, target=1))
    assert not torch.equal(reruns[:, 0], reruns[:, 1])
    with pytest.raises(InputError, match="method=gradcam has no seed"):
        reseeded_scores(explainer, texts, "gradcam", target=1)
