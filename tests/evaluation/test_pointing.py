"""Whether an explanation points at the known cause, against a ranking made one text at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evaluation import METRICS

NAMES = ("pointing_accuracy", "reciprocal_rank", "recall_at_5")


def drawn(n=200, length=12, seed=0):
    """Scores with many ties and either sign, cues, and rows of different length; padding holds rubbish."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, n)
    mask = np.arange(length) < lengths[:, None]
    scores = np.where(mask, rng.integers(-3, 4, (n, length)), 99)
    return scores.astype(float), rng.random((n, length)) < 0.3, mask


def by_hand(scores, cues, mask):
    """Sorted, cues behind others of equal size; nothing without a cue or any score."""
    own = [(-abs(score), cue) for score, cue, there in zip(scores, cues, mask, strict=True) if there]
    if not any(cue for _, cue in own) or not any(size for size, _ in own):
        return [math.nan] * 3
    ranking = [cue for _, cue in sorted(own)]
    best = 1 + ranking.index(True)
    return [float(best == 1), 1 / best, sum(ranking[:5]) / min(5, sum(ranking))]


def test_they_are_those_of_a_sorted_list():
    scores, cues, mask = drawn()
    expected = np.array([by_hand(*row) for row in zip(scores, cues, mask, strict=True)])
    given = [torch.tensor(each) for each in (scores, cues, mask)]
    found = np.stack([METRICS[name](*given).numpy() for name in NAMES], 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert 0 < np.isnan(expected).all(1).sum() < len(scores) / 2
    assert len(np.unique(expected[~np.isnan(expected[:, 2]), 2])) > 4


def test_scores_that_are_all_alike_find_nothing():
    cues = torch.arange(8)[None] == 3
    assert [float(METRICS[name](torch.ones(1, 8), cues)) for name in NAMES] == [0, 1 / 8, 0]


@pytest.mark.parametrize("name", NAMES)
def test_a_score_that_is_not_a_number_is_no_answer(name):
    scores = torch.tensor([[1.0, math.nan, 2.0], [1.0, 0.0, 2.0]])
    assert METRICS[name](scores, torch.tensor([[True, False, False]] * 2)).isnan().tolist() == [True, False]
