"""Cue alignment and blank-out against scikit-learn, scipy, enumeration and closed forms."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from evaluation import METRICS
from evaluation.context_mixing import (
    average_precision,
    blank_out_agreement,
    chance_average_precision,
    chance_dot_product,
    dot_product,
)


def drawn(n=60, length=9, seed=0, ties=True):
    """Scores with ties, cues, and rows of different length; padding holds rubbish."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (n, length)) / 4.0 if ties else rng.normal(size=(n, length))
    cues = rng.random((n, length)) < 0.3
    lengths = rng.integers(3, length + 1, n)
    mask = np.arange(length) < lengths[:, None]
    cues[:, 1] = True
    scores[:, 0] += 0.1
    return (torch.tensor(a) for a in (np.where(mask, scores, 99.0), cues, mask))


@pytest.mark.parametrize("ties", [True, False])
def test_average_precision_is_that_of_scikit_learn(ties):
    scores, cues, mask = drawn(ties=ties)
    found = average_precision(scores, cues, mask)
    for row in range(len(scores)):
        own = mask[row]
        expected = average_precision_score(cues[row][own].numpy(), scores[row][own].abs().numpy())
        assert float(found[row]) == pytest.approx(expected, abs=1e-12)


def test_dot_product_is_a_share_of_the_sizes():
    scores = torch.tensor([[0.5, -0.25, 0.25, 7.0], [0.0, 0.0, 2.0, 2.0]])
    cues = torch.tensor([[False, True, False, True], [True, False, True, False]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert dot_product(scores, cues, mask).tolist() == [0.25, 0.5]
    assert torch.equal(dot_product(3 * scores, cues, mask), dot_product(scores, cues, mask))


def test_equal_scores_and_random_rankings_reach_chance():
    for n, k in ((5, 1), (5, 2), (6, 3), (4, 4), (1, 1)):
        cues = torch.arange(n)[None] < k
        sizes = torch.tensor([k]), torch.tensor([n])
        assert float(dot_product(torch.ones(1, n), cues)[0]) == float(chance_dot_product(*sizes)[0])
        orders = torch.tensor(list(permutations(range(1, n + 1))), dtype=torch.float64)
        mean = average_precision(orders, cues.expand(len(orders), -1)).mean()
        assert float(chance_average_precision(*sizes)[0]) == pytest.approx(float(mean), abs=1e-12)


def test_perfect_and_reversed_rankings():
    cues = torch.tensor([[True, False, False, False]])
    assert float(average_precision(torch.tensor([[9.0, 1, 2, 3]]), cues)[0]) == 1
    assert float(average_precision(torch.tensor([[0.5, 1, 2, 3]]), cues)[0]) == 0.25
    assert float(dot_product(torch.tensor([[2.0, 0, 0, 0]]), cues)[0]) == 1


@pytest.mark.parametrize("ties", [True, False])
def test_blank_out_is_the_rank_correlation_of_scipy(ties):
    scores, _, words = drawn(ties=ties)
    importance, _, _ = drawn(seed=4, ties=ties)
    found = blank_out_agreement(scores, -importance, words)
    for row in range(len(scores)):
        own = words[row]
        with np.errstate(all="ignore"):
            expected = spearmanr(scores[row][own].abs(), importance[row][own].abs()).statistic
        assert float(found[row]) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_undefined_values_are_nan():
    cues, none = torch.tensor([[True, False]]), torch.zeros(1, 2, dtype=torch.bool)
    for metric in (dot_product, average_precision):
        assert metric(torch.zeros(1, 2), cues).isnan().all()
        assert metric(torch.ones(1, 2), none).isnan().all()
        assert metric(torch.tensor([[torch.nan, 1.0]]), cues).isnan().all()
        assert metric(torch.ones(1, 2), cues, torch.tensor([[0, 1]])).isnan().all()
    scores, both = torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool)
    assert blank_out_agreement(scores, scores, both).tolist() == [1]
    for other, words in ((torch.ones(1, 2), both), (scores, none), (torch.tensor([[torch.nan, 1.0]]), both)):
        assert blank_out_agreement(scores, other, words).isnan().all()


@pytest.mark.parametrize("metric", ["dot_product", "average_precision", "blank_out"])
def test_other_rows_and_longer_padding_change_no_digit(metric):
    scores, cues, mask = drawn(seed=2)
    importance, _, _ = drawn(seed=5)
    second = (cues, mask) if metric != "blank_out" else (importance, mask)
    compute = METRICS[metric].compute
    together = compute(scores, *second)
    wide = [torch.nn.functional.pad(each, (0, 5)) for each in (scores, *second)]
    assert torch.equal(compute(*wide).nan_to_num(-9), together.nan_to_num(-9))
    for row in (0, 7, 33):
        alone = compute(*(each[row : row + 1, : int(mask[row].sum())] for each in (scores, *second)))
        assert torch.equal(alone.nan_to_num(-9), together[row : row + 1].nan_to_num(-9))
