"""Why a classifier errs: confusions, words, corrections and labels against values by hand and brute force."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attribution import InputError
from attribution.methods.units import Units
from attribution.model.inputs import Inputs
from evaluation.analytic import CLS, FIRST_WORD, SEP, BagOfTokens
from evaluation.engine import perturbable_tokens, run_requests
from evaluation.errors import (
    NOT_RUN,
    WordRemovals,
    class_thresholds,
    confusions,
    corrected,
    likely_label_errors,
    mean_of_errors,
    proportion,
    top_words,
    word_causes,
)


def test_confusions_are_counted_by_pair_and_an_unlabelled_example_is_no_error():
    found = confusions([0, 0, 0, 0, 1, 1, 2, None], [1, 1, 0, 2, 1, 0, 2, 0])
    assert [(pair.gold, pair.predicted, pair.rows) for pair in found] == [(0, 1, (0, 1)), (0, 2, (3,)), (1, 0, (5,))]
    assert [(pair.share.value, pair.share.n) for pair in found] == [(0.5, 4), (0.25, 4), (0.5, 2)]
    assert all(0 < pair.share.low < pair.share.value < pair.share.high < 1 for pair in found)
    assert confusions([0, 1], [0, 1]) == []
    with pytest.raises(InputError, match="1 labels for 2 predictions"):
        confusions([0], [0, 1])


def test_a_proportion_has_the_interval_that_wilson_gives():
    found = proportion(4, 10)
    z = 1.959963984540054
    ends = [root.real for root in np.roots([1 + z * z / 10, -(2 * 0.4 + z * z / 10), 0.16])]
    assert [found.low, found.high] == pytest.approx(sorted(ends))
    assert math.isnan(proportion(0, 0).value)


def test_too_few_errors_have_no_interval():
    few, enough = mean_of_errors([0.0] * 4 + [1.0] * 5), mean_of_errors([0.0] * 5 + [1.0] * 5)
    assert (few.value, few.n) == (5 / 9, 9)
    assert math.isnan(few.low)
    assert math.isnan(few.high)
    assert enough.low < 0.5 < enough.high


def test_label_errors_by_hand():
    probabilities = [[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.3, 0.7], [0.05, 0.95], [0.95, 0.05], [0.6, 0.4]]
    labels = [0, 0, 0, 1, 1, 1, None]
    assert class_thresholds(probabilities, labels).tolist() == pytest.approx([0.6, 1.7 / 3])
    assert [(row, label, likely) for row, label, likely, _ in likely_label_errors(probabilities, labels)] == [
        (5, 1, 0), (2, 0, 1),
    ]  # fmt: skip
    assert [doubt.margin for doubt in likely_label_errors(probabilities, labels)] == pytest.approx([0.9, 0.6])


def test_classes_without_examples_are_never_likely_and_neither_is_what_the_model_predicts():
    probabilities = [[0.5, 0.1, 0.4], [0.4, 0.1, 0.5]]
    assert class_thresholds(probabilities, [0, 0]).tolist() == pytest.approx([0.45, math.inf, math.inf])
    assert likely_label_errors(probabilities, [0, 0]) == []
    sure = [[0.6, 0.4], [0.99, 0.01], [0.7, 0.3], [0.7, 0.3]]  # 0.3 reaches the threshold of class 1; 0 is predicted
    assert likely_label_errors(sure, [0, 0, 1, 1]) == []
    with pytest.raises(InputError, match="2 is no class of a model of 2 classes"):
        likely_label_errors([[0.5, 0.5]], [2])


def test_flipped_labels_are_found_again():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 400)
    noise = generator.dirichlet([1, 1, 1], 400)
    probabilities = 0.7 * np.eye(3)[truth] + 0.3 * noise
    flipped = generator.choice(400, 20, replace=False)
    labels = truth.copy()
    labels[flipped] = (labels[flipped] + 1) % 3
    found = likely_label_errors(probabilities, labels.tolist())
    assert {doubt.row for doubt in found} <= set(flipped.tolist())
    assert len(found) >= 12
    assert all(doubt.likely == truth[doubt.row] for doubt in found)


def brute_means(words, shares):
    found = {}
    for text, own in zip(words, shares, strict=True):
        for word, share in zip(text, own, strict=True):
            found[word] = found.get(word, 0.0) + share / len(words)
    return found


def test_words_are_added_up_over_errors_in_shares_of_each_text():
    words = [["Not", "good", "not"], ["good", ".", "x"], ["a", "b"]]
    scores = [[2.0, -1.0, 1.0], [-100.0, 300.0, 0.0], [0.0, 0.0]]
    before = [np.array(own) for own in scores]
    found = word_causes(words, before)
    assert [own.tolist() for own in before] == scores
    assert (found.n, found.n_undefined) == (2, 1)
    assert {cause.word: cause.value for cause in found.causes} == pytest.approx({"not": 0.75 / 2, ".": 0.75 / 2})
    assert {cause.word: cause.n for cause in found.causes} == {"not": 1, ".": 1}
    assert {cause.word: cause.shuffled for cause in found.causes} == pytest.approx({"not": 2 / 6 / 2, ".": 1 / 6 / 2})
    assert all(math.isnan(cause.low) and not cause.above_chance for cause in found.causes)
    assert [cause.word for cause in found.causes] == [".", "not"]  # the stronger first


def test_shuffled_is_the_mean_over_all_orders():
    words = [["not", "good", "not"]] + [["x", "not"]] * 9
    scores = [[3.0, 1.0, 0.0]] + [[0.0, 1.0]] * 9
    (not_,) = [cause for cause in word_causes(words, scores).causes if cause.word == "not"]
    totals = [
        brute_means([words[0]], [np.array(order) / 4])["not"] for order in itertools.permutations(scores[0])
    ]  # fmt: skip
    assert not_.shuffled == pytest.approx((np.mean(totals) + 9 * 0.5) / 10)
    deviation = math.sqrt(np.var(totals) + 9 * 0.25) / 10
    assert not_.strength == pytest.approx((not_.value - not_.shuffled) / deviation)


def test_a_planted_word_is_above_chance_and_shuffled_scores_are_not():
    generator = np.random.default_rng(1)
    words = [[f"w{i}" for i in generator.integers(0, 30, 9)] + ["never"] for _ in range(40)]
    scores = [generator.normal(size=10) + np.eye(10)[9] * 6 for _ in words]
    planted = word_causes(words, scores)
    assert planted.causes[0].word == "never"
    assert planted.causes[0].above_chance
    assert planted.causes[0].low < planted.causes[0].value < planted.causes[0].high
    assert not any(cause.above_chance for cause in planted.causes[1:])
    told = 0
    for seed in range(20):
        own = np.random.default_rng(seed)
        told += any(cause.above_chance for cause in word_causes(words, own.normal(size=(40, 10)), samples=300).causes)
    assert told <= 4  # 5 % of them are expected to be


def test_no_words_and_no_scores_are_no_causes():
    assert word_causes([], []).causes == []
    nothing = word_causes([["a"], []], [[math.nan], []])
    assert (nothing.causes, nothing.n, nothing.n_undefined) == ([], 0, 2)
    with pytest.raises(InputError, match="one for each of 2 words"):
        word_causes([["a", "b"]], [[1.0]])


@pytest.fixture
def texts():
    """Three errors: class 1 where the gold class is 0. The last word of the first is made of two tokens."""
    rows = [[CLS, 10, 11, 12, 13, SEP], [CLS, 12, 10, 10, 11, SEP], [CLS, 10, 10, 10, 10, SEP]]
    ids, words = torch.tensor(rows), torch.tensor([[-1, 0, 1, 2, 2, -1], [-1, 0, 1, 2, 3, -1], [-1, 0, 1, 2, 3, -1]])
    return Inputs.of(ids, torch.ones_like(ids), word_ids=words)


@pytest.fixture
def model():
    weights = torch.zeros(FIRST_WORD + 4, dtype=torch.float64)
    weights[CLS], weights[10:14] = 0.45, torch.tensor([0.01, 0.02, 0.06, 0.04])
    return SimpleNamespace(adapter=BagOfTokens(weights), memory=None)


def test_decisions_without_words_are_those_of_running_each_text(model, texts):
    scores = model.adapter.weights[texts.input_ids]
    units = Units.among(texts, perturbable_tokens(model.adapter, texts), "word")
    chosen = top_words(scores, units, (1, 2))
    assert chosen[0].tolist() == [[False, False, True, False], [False, True, True, False]]
    chosen = torch.cat((chosen, torch.zeros_like(chosen[:, :1])), 1)
    request = WordRemovals(chosen, draws=3, operator="mask")
    found = run_requests(model, texts, {"": request}, target=torch.tensor([0, 0, 0]))[""]
    assert found.intact.tolist() == [1, 1, 0]  # 0.45 and 0.13, 0.10, 0.04
    assert found.chosen.tolist() == [[0, 0, NOT_RUN], [0, 0, NOT_RUN], [0, 0, NOT_RUN]]
    assert found.random.shape == (3, 3, 3)
    assert (found.random[:, 2] == NOT_RUN).all()
    assert found.operator == "mask"


def test_random_sets_are_as_large_and_follow_from_the_text_alone(model, texts):
    units = Units.among(texts, perturbable_tokens(model.adapter, texts), "word")
    chosen = top_words(model.adapter.weights[texts.input_ids], units, (1, 2))
    plan = WordRemovals(chosen, draws=40).plan(model.adapter, texts)
    sets = plan.removal.sets.removed.view(3, 2, 41, 4)
    assert torch.equal(sets.sum(3), chosen.sum(2)[..., None].expand(3, 2, 41))
    drawn = sets[:, :, 1:].double().mean(2)
    assert bool((drawn[1, 0] > 0.08).all())  # each of four words in a quarter of the draws
    assert bool((sets[:, 0, 1:] <= sets[:, 1, 1:]).all())  # the smaller ones inside the larger ones
    alone = WordRemovals(chosen[1:2], draws=40).plan(model.adapter, texts.rows(slice(1, 2)))
    assert torch.equal(alone.removal.sets.removed[0], plan.removal.sets.removed[1])


def test_shares_corrected_are_compared_with_random_words():
    gold = [0] * 12
    found = corrected(gold, [0] * 8 + [1] * 3 + [NOT_RUN], [[0, 1]] * 4 + [[1, 1]] * 8)
    assert found.chosen.value == pytest.approx(8 / 12)
    assert found.random.value == pytest.approx(2 / 12)
    assert found.difference.value == pytest.approx(6 / 12)
    assert found.difference.low < 0.5 < found.difference.high
    assert math.isnan(corrected([0], [0], [[1]]).chosen.low)
