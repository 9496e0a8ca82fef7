"""Correlations against scipy and scikit-learn, and what has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import average_precision_score

from evaluation import METRICS, evaluate
from evaluation.agreement import ALIASES, MEASURES, agreement, agreement_matrix
from evaluation.association import ASSOCIATIONS
from evaluation.plausibility import rationale_length, rationale_tokens
from evaluation.token_mass import token_groups, token_mass, token_share

REFERENCES = {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr, "kendall": scipy.stats.kendalltau}


@pytest.mark.parametrize("name", ASSOCIATIONS)
@pytest.mark.parametrize("values", [3, 1000])
def test_equals_scipy_with_and_without_ties(name, values):
    generator = np.random.default_rng(values)
    for n in (2, 3, 12, 40):
        x, y = generator.integers(0, values, (2, n)).astype(float)
        if np.ptp(x) and np.ptp(y):
            assert ASSOCIATIONS[name](x, y) == pytest.approx(REFERENCES[name](x, y)[0], abs=1e-12)


@pytest.mark.parametrize("name", ASSOCIATIONS)
@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0], [2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])])
def test_nothing_to_go_together(name, x, y):
    assert math.isnan(ASSOCIATIONS[name](np.array(x), np.array(y)))


def test_small_numbers_correlate_like_large_ones():
    x = np.array([1.0, 2.0, 4.0])
    assert ASSOCIATIONS["pearson"](x * 1e-200, x**2 * 1e-170) == pytest.approx(ASSOCIATIONS["pearson"](x, x**2))


def drawn(seed=0, b=30, n=14):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-4, 5, (b, n), generator=generator).double()
    tokens = torch.rand(b, n, generator=generator) < 0.8
    marked = (torch.rand(b, n, generator=generator) < 0.3) & tokens
    return scores, marked, tokens


def test_average_precision_is_that_of_scikit_learn():
    scores, marked, tokens = drawn()
    found = evaluate("auprc", scores=scores, rationale=marked, tokens=tokens)
    for b in range(len(scores)):
        own, goal = scores[b][tokens[b]], marked[b][tokens[b]]
        if goal.any():
            assert float(found[b]) == pytest.approx(average_precision_score(goal.numpy(), own.numpy()), abs=1e-12)
        else:
            assert math.isnan(float(found[b]))


def test_top_tokens_against_sets():
    scores, marked, tokens = drawn(1)
    for b in range(len(scores)):
        own = [i for i in range(14) if tokens[b, i]]
        goal = {i for i in own if marked[b, i]}
        top = set(sorted(own, key=lambda i: (-float(scores[b, i]), i))[:3])
        given = {"scores": scores[b : b + 1], "rationale": marked[b : b + 1], "tokens": tokens[b : b + 1]}
        if goal:
            f1 = 2 * len(top & goal) / (len(top) + len(goal))
            assert float(evaluate("token_f1", **given, rationale_length=3)) == pytest.approx(f1)
            iou = len(top & goal) / len(top | goal)
            assert float(evaluate("token_iou", **given, rationale_length=3)) == pytest.approx(iou)


def test_runs_match_that_share_half_of_their_union():
    #                          gold runs: 0-1, 4-6, 9;   found: 0-2 (2 of 3), 5 (1 of 3), 8-9 (1 of 2)
    gold, found = [1, 1, 0, 0, 1, 1, 1, 0, 0, 1], [1, 1, 1, 0, 0, 1, 0, 0, 1, 1]
    scores, marked = torch.tensor([found]).double(), torch.tensor([gold]).bool()
    value = evaluate(
        "iou_f1", scores=scores, rationale=marked, tokens=torch.ones_like(marked), rationale_length=sum(found)
    )
    assert float(value) == pytest.approx(2 / 3)  # two of three runs on either side


def test_a_token_is_marked_by_half_of_its_characters():
    offsets = [(0, 0), (0, 4), (5, 9), (9, 12), (12, 14), (0, 0)]
    assert rationale_tokens(offsets, [(2, 6), (9, 11), (10, 13)]) == [False, True, False, True, True, False]
    assert rationale_tokens(offsets, [(2, 6)], share=0.25) == [False, True, True, False, False, False]
    assert rationale_length([[True, False], [True, True, True], [False]]) == 2


def test_complexity_of_one_hot_even_and_empty_explanations():
    scores = torch.tensor([[0, -2.0, 0, 0], [1, 1, -1, 1], [0, 0, 0, 0], [5, 1, 1, 1]]).double()
    tokens = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]]).bool()
    expected = {
        "gini": [0.75, 0, math.nan, 0],
        "entropy": [0, 1, math.nan, math.nan],
        "effective_complexity": [0.25, 1, math.nan, 1],
        "top_1_mass": [1, 0.25, math.nan, 1],
        "mass_90": [0.25, 1, math.nan, 1],
    }
    for metric, values in expected.items():
        found = evaluate(metric, scores=scores, tokens=tokens)
        assert found.tolist() == pytest.approx(values, nan_ok=True), metric
    assert {m for m in METRICS if METRICS[m].category == "complexity"} == set(expected)


def test_agreement_of_two_orders():
    a = torch.tensor([[4.0, -3.0, 2.0, 1.0, 9.0]])
    b = torch.tensor([[4.0, 3.0, 1.0, 2.0, -9.0]])
    tokens = torch.tensor([[1, 1, 1, 1, 0]]).bool()
    expected = {
        "FA": 2 / 3, "RA": 2 / 3, "SA": 1 / 3, "SRA": 1 / 3, "PRA": 5 / 6, "RC": 0.2, "top_k_jaccard": 2 / 4,
        "kendall": 0.0, "rank_biased_overlap": (1 + 0.9 + 0.81 * 2 / 3 + 0.729) / (1 + 0.9 + 0.81 + 0.729),
    }  # fmt: skip
    assert {ALIASES.get(name, name) for name in expected} == set(MEASURES)
    for measure, value in expected.items():
        assert float(agreement(a, b, tokens, measure=measure, k=3)) == pytest.approx(value), measure
        assert float(agreement(b, a, tokens, measure=measure, k=3)) == pytest.approx(value), measure
    pairs = agreement_matrix({"a": a, "b": b, "c": torch.full_like(a, torch.nan)}, tokens, measure="RC")
    assert list(pairs) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs["a", "c"].isnan().all()


def test_token_mass():
    tokens = [["[CLS]", "the", "play", "##ing", "!", "7", "[SEP]"], ["[CLS]", "Ġfine", "[SEP]"]]
    mask = torch.tensor([[1] * 7, [1] * 3 + [0] * 4])
    special = torch.zeros(2, 7).bool()
    special[0, [0, 6]] = special[1, [0, 2]] = True
    groups = token_groups(tokens, mask, special)
    scores = torch.tensor([[1.0, -2, 3, 4, 5, 6, 4], [0.0] * 7])
    shares = {name: float(share[0]) for name, share in token_mass(scores, groups, mask).items()}
    assert shares == pytest.approx(
        {"special": 0.2, "first": 0.08, "last": 0.24, "punctuation": 0.2, "function_words": 0.08, "numbers": 0.24,
         "word_pieces": 0.16}
    )  # fmt: skip
    assert all(share[1].isnan() for share in token_mass(scores, groups, mask).values())
    assert token_share(groups, mask)["special"].tolist() == pytest.approx([2 / 7, 2 / 3])
