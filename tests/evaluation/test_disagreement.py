"""Explanations that differ: correlations against scipy's, and which examples come first."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from evaluation.disagreement import Disagreement, disagreements, rank_correlations, spread_out


def test_correlations_are_scipys():
    scores = np.random.default_rng(0).normal(size=(5, 12)).round(1)  # ties among them
    np.testing.assert_allclose(rank_correlations(scores), spearmanr(scores, axis=1).statistic, atol=1e-12)


def test_a_constant_explanation_has_none():
    found = rank_correlations(np.array([[1.0, 2, 3], [4, 4, 4]]))
    assert np.isnan(found[0, 1])
    assert found[0, 0] == pytest.approx(1)


def test_opposite_orders_come_first_and_short_or_undefined_ones_not_at_all():
    up = np.arange(6.0)
    tokens = {name: np.ones(6, dtype=bool) for name in ("alike", "opposed", "undefined")} | {"short": np.ones(2, bool)}
    tokens["specials"] = np.array([False, True, True, True, True, True])
    apart = np.array([99.0, 0, 1, 2, 3, 4])  # differs from `up` only where no token is ranked
    scores = {
        "a": {"alike": up, "opposed": up, "undefined": up, "short": up[:2], "specials": up},
        "b": {"alike": up * 2, "opposed": -up, "undefined": up * np.nan, "short": -up[:2], "specials": apart},
    }
    found = disagreements(scores, tokens)
    assert [each.item for each in found] == ["opposed", "alike", "specials"]
    assert (found[0].first, found[0].second) == ("a", "b")
    assert (found[0].agreement, found[0].correlation) == pytest.approx((-1, -1))
    assert found[2].agreement == pytest.approx(1)


def test_the_two_that_agree_least_are_named():
    rng = np.random.default_rng(1)
    scores = {name: {"x": rng.normal(size=8)} for name in "abcd"}
    (found,) = disagreements(scores, {"x": np.ones(8, dtype=bool)})
    table = spearmanr(np.stack([scores[name]["x"] for name in "abcd"]), axis=1).statistic
    pairs = {(a, b): table["abcd".index(a), "abcd".index(b)] for a in "abcd" for b in "abcd" if a < b}
    assert (found.first, found.second) == min(pairs, key=pairs.get)
    assert found.agreement == pytest.approx(np.mean(list(pairs.values())))


def test_pairs_take_turns():
    found = [Disagreement(str(i), i / 10, "a", "b", -1.0) for i in range(4)] + [Disagreement("4", 0.9, "a", "c", 0.1)]
    assert [each.item for each in spread_out(found, 3)] == ["0", "4", "1"]
    assert [each.item for each in spread_out(found, 9)] == ["0", "4", "1", "2", "3"]
