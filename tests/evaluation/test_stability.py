"""Sanity and robustness: values by hand, and explanations of other models, classes, inputs and seeds."""

from __future__ import annotations

import math

import pytest
import torch
from test_curves import random_texts, tiny
from tiny_models import tiny_model

from attribution import InputError
from attribution.model.inputs import Inputs
from evaluation import METRICS, evaluate
from evaluation.neighbourhood import neighbourhood
from evaluation.randomised import (
    added,
    evenly,
    neighbour_scores,
    noise_of,
    other_class_scores,
    randomisable,
    randomise,
    randomised_scores,
    reseeded_scores,
    shuffled_label_scores,
    shuffled_labels,
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
        ("label_randomisation", "shuffled", OTHERS[:, 1], [-1, math.nan]),
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


def shares(before, after):
    """Relative change by hand: what is divided by is at least a hundredth of the largest."""
    least = 0.01 * max(map(abs, before))
    return math.sqrt(sum(((b - a) / max(abs(a), least)) ** 2 for a, b in zip(before, after, strict=True)))


@pytest.mark.parametrize(
    ("metric", "change"),
    [
        ("relative_input_stability", "input_change"),
        ("relative_output_stability", "output_change"),
        ("relative_representation_stability", "representation_change"),
    ],
)
def test_relative_stability_by_hand(metric, change):
    given = {"scores": SCORES, "neighbours": OTHERS, "tokens": TOKENS, change: torch.tensor([[0.5, 4.0], [0.0, 1.0]])}
    first, second = (shares([3, 0, 4, 1], other) for other in ([3, 0, 4, 1], [-3, 0, -4, -1]))
    assert (first, second) == (0, math.sqrt(12))
    every, left = torch.ones(2, 2).bool(), torch.tensor([[True, False], [True, True]])
    assert evaluate(metric, same_class=every, **given).tolist() == pytest.approx([second / 4, math.nan], nan_ok=True)
    assert evaluate(metric, same_class=left, **given)[0] == 0  # the other is classified otherwise
    assert evaluate(metric, same_class=~every, **given).isnan().all()
    scaled = {**given, "scores": 1e-9 * SCORES, "neighbours": 1e-9 * OTHERS}
    assert evaluate(metric, same_class=every, **scaled)[0] == pytest.approx(second / 4)


def test_local_lipschitz_by_hand():
    distances = torch.tensor([[0.5, 2.0], [1.0, 1.0]])
    given = {"scores": SCORES, "neighbours": OTHERS, "tokens": TOKENS, "input_distance": distances}
    moved = [math.dist([3, 0, 4, 1], other) for other in ([3, 0, 4, 1], [-3, 0, -4, -1])]
    alone = math.dist([0, 0, 0], [1, 2, 3])
    assert evaluate("local_lipschitz", **given).tolist() == pytest.approx([moved[1] / 2, alone])
    assert evaluate("local_lipschitz", **{**given, "tokens": ~TOKENS & False}).isnan().all()
    tenfold = {**given, "scores": 10 * SCORES, "neighbours": 10 * OTHERS}
    assert float(evaluate("local_lipschitz", **tenfold)[0]) == pytest.approx(5 * moved[1])


def test_scores_near_nothing_do_not_decide_alone():
    """Quantus divides by a score of 1e-12 as it is, and by 1e-6 where it is 0."""
    given = {"tokens": torch.ones(1, 2), "same_class": torch.ones(1, 1), "input_change": torch.ones(1, 1)}
    for small in (0.0, 1e-12):
        scores, others = torch.tensor([[1.0, small]]), torch.tensor([[[1.0, 0.005]]])
        value = evaluate("relative_input_stability", scores=scores.double(), neighbours=others.double(), **given)
        assert float(value) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt2", "bert_qa"])
def test_what_changes_in_a_neighbourhood_is_what_the_model_says(texts, name):
    explainer = tiny(tiny_model(name, layers=1))
    target = torch.tensor([1, 0]) if name != "bert_qa" else torch.tensor([[1, 2], [3, 4]])
    found = neighbourhood(explainer, texts, "input_x_gradient", target=target, n=2, radius=0.05)
    assert torch.equal(
        found.neighbours, neighbour_scores(explainer, texts, "input_x_gradient", target=target, n=2, radius=0.05)
    )
    row = texts.rows(slice(0, 1))
    weight = explainer.model.get_input_embeddings().weight.detach()
    noise = noise_of(explainer, row, 0.05, 1, evenly)
    assert float(noise.abs().max()) <= 0.05 * float(weight.max() - weight.min())
    length = int(row.attention_mask.sum())
    before = explainer.adapter.logits(row)
    with added(explainer, noise):
        after, states = explainer.adapter.logits(row), explainer.adapter.states(row)[-1]
    own = slice(None) if name != "bert_qa" else slice(length)
    torch.testing.assert_close(found.output_change[0, 1], (after - before)[0, own].norm().double())
    assert bool(found.same_class[0, 1]) == bool((after[0, own].argmax(0) == before[0, own].argmax(0)).all())
    words = weight[row.input_ids[0, :length]].flatten().tolist()
    moved = (weight[row.input_ids[0, :length]] + noise[0, :length]).flatten().tolist()
    assert float(found.input_distance[0, 1]) == pytest.approx(math.dist(words, moved), rel=1e-5)
    assert float(found.input_change[0, 1]) == pytest.approx(shares(words, moved), rel=1e-5)
    plain = explainer.adapter.states(row)[-1][0, :length].flatten().tolist()
    wanted = shares(plain, states[0, :length].flatten().tolist())
    assert float(found.representation_change[0, 1]) == pytest.approx(wanted, rel=1e-4)
    alone = neighbourhood(explainer, texts.rows(slice(1, 2)), "input_x_gradient", target=target[1:], n=2, radius=0.05)
    assert all(torch.equal(value, found.given()[key][1:]) for key, value in alone.given().items())


def test_a_model_linear_in_its_embeddings_has_a_stable_explanation_and_others_are_refused(texts):
    explainer = tiny(tiny_model("bert", layers=1))
    scores = explainer.scores(texts.input_ids, texts.attention_mask, method="raw_attention", target=1)
    near = neighbourhood(explainer, texts, "raw_attention", target=1, n=2, radius=1e-9)
    about = {"scores": scores, "tokens": texts.attention_mask, **near.given()}
    assert bool(near.same_class.all())
    names = ("relative_input_stability", "relative_output_stability", "relative_representation_stability")
    assert all(bool(evaluate(name, **_needed(name, about)).isfinite().all()) for name in names)
    with pytest.raises(InputError, match="take one that reads a single pass"):
        neighbourhood(explainer, texts, "lime", target=1)
    with pytest.raises(InputError, match="for classification and answers, not for next_token"):
        neighbourhood(tiny(tiny_model("gpt2_lm")), texts, "saliency", target=None)


def _needed(name, about):
    return {need: about[need] for need in METRICS[name].needs}


def trained(labels, ids):
    """A tiny BERT trained on labels until it knows them."""
    model = tiny_model("bert", torch.float32, layers=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(ids).logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return tiny(model)


def test_explanations_change_where_a_model_is_trained_on_shuffled_labels():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 40, (24, 8), generator=generator)
    ids[:, 0] = 2
    labels = (ids == 12).any(1).long()
    ids[::2, 3], labels[::2] = 12, 1
    right, wrong = trained(labels, ids), trained(torch.tensor(shuffled_labels(labels.tolist(), seed=1)), ids)
    inputs, tokens = Inputs.of(ids), torch.ones_like(ids)
    tokens[:, 0] = 0
    scores = right.scores(ids, method="input_x_gradient", target=labels)
    other = shuffled_label_scores(right, inputs, "input_x_gradient", target=labels, other=wrong)
    value = evaluate("label_randomisation", scores=scores, shuffled=other, tokens=tokens)
    assert torch.equal(other, wrong.scores(ids, method="input_x_gradient", target=labels))
    assert float(value.mean()) < 0.6
    same = shuffled_label_scores(right, inputs, "input_x_gradient", target=labels, other=right)
    assert evaluate("label_randomisation", scores=scores, shuffled=same, tokens=tokens).tolist() == pytest.approx(
        [1] * 24
    )


def test_labels_are_shuffled_whole_and_other_vocabularies_are_refused(texts):
    labels = [0] * 5 + [1] * 7 + [2]
    found = shuffled_labels(labels, seed=3)
    assert sorted(found) == labels
    assert found != labels
    assert found == shuffled_labels(labels, seed=3)
    small = tiny_model("bert", layers=1)
    small.config.num_labels = 5
    with pytest.raises(InputError, match="num_labels=5, the one explained"):
        shuffled_label_scores(tiny(tiny_model("bert", layers=1)), texts, "gradcam", target=1, other=tiny(small))
