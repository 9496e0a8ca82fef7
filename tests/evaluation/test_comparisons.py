"""Paired differences against scipy, and the promises of intervals and corrections by simulation.

In the simulations every metric is a data set of its own, so that one call judges hundreds of them.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from value_tables import table_of

from attribution.errors import InputError
from evaluation.statistics import compare_methods, mean_intervals, paired_difference
from evaluation.statistics.bootstrap import Resamples, bca_interval, quotients
from evaluation.statistics.moments import moments


def draw(seed, *shape):
    return np.random.default_rng(seed).gamma(1.0, size=shape)


def with_gaps(values, seed=1, share=0.1):
    gaps = np.random.default_rng(seed).uniform(size=values.shape) < share
    return np.where(gaps, np.nan, values)


def test_moments_are_those_of_scipy():
    values = with_gaps(draw(0, 40, 5))
    of = moments(values, ~np.isnan(values) * 1.0)
    assert of.mean == pytest.approx(np.nanmean(values, axis=0))
    assert of.error == pytest.approx(stats.sem(values, axis=0, nan_policy="omit"))
    assert of.acceleration == pytest.approx(stats.skew(values, axis=0, nan_policy="omit") / 6 / np.sqrt(of.n))
    assert of.n.tolist() == (~np.isnan(values)).sum(0).tolist()


def test_the_acceleration_of_a_weighted_mean_is_its_jackknife():
    values, weights = draw(0, 20), np.random.default_rng(1).integers(0, 4, 20).astype(float)
    left_out = [np.average(np.delete(values, i), weights=np.delete(weights, i)) for i in np.flatnonzero(weights)]
    influence = np.mean(left_out) - left_out
    expected = (influence**3).sum() / 6 / (influence**2).sum() ** 1.5
    assert moments(values[:, None], weights[:, None]).acceleration == pytest.approx(expected)


def test_every_pair_is_the_paired_t_test_of_scipy():
    values = with_gaps(draw(0, 2, 50, 4))
    compared = compare_methods(table_of(values), samples=100)
    for k, i, j in np.ndindex(2, 4, 4):
        if i != j:
            theirs = stats.ttest_rel(values[k, :, i], values[k, :, j], nan_policy="omit")
            found = compared.difference(f"m{i}", f"m{j}", f"k{k}")
            assert found.value == pytest.approx(np.nanmean(values[k, :, i] - values[k, :, j]))
            assert found.p == pytest.approx(theirs.pvalue)
            assert found.n == theirs.df + 1 == 50 - found.n_undefined


def test_p_values_are_adjusted_among_the_pairs_of_a_metric():
    values = draw(0, 2, 60, 4) + np.arange(4) * 0.3
    compared = compare_methods(table_of(values), samples=100)
    for k in range(2):
        pairs = list(compared.differences(f"k{k}"))
        order = sorted(pairs, key=lambda pair: pair.p)
        expected = [max(min(1, (6 - j) * order[j].p) for j in range(rank + 1)) for rank in range(6)]
        assert len(pairs) == 6
        assert [pair.adjusted for pair in order] == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_intervals_are_those_of_the_differences(share):
    """Where all values are there, they come from the means of the methods; where not, from resampled differences."""
    values = with_gaps(draw(0, 40, 3), share=share)
    compared = compare_methods(table_of(values), samples=4000, seed=3)
    for i, j in ((0, 1), (2, 0)):
        found = compared.difference(f"m{i}", f"m{j}", "k0")
        alone = paired_difference(values[:, i], values[:, j], samples=4000, seed=3)
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=1e-12 if not share else 0.03)
        assert (found.n, found.n_undefined) == (alone.n, alone.n_undefined)
        mirrored = compared.difference(f"m{j}", f"m{i}", "k0")
        assert (mirrored.low, mirrored.high) == (-found.high, -found.low)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_intervals_of_pairs_with_gaps_are_those_of_a_loop(monkeypatch, share):
    """Some examples lack all methods, some a few, and one method has no value at all; weights differ."""
    monkeypatch.setattr("evaluation.statistics.comparisons.COLUMNS_AT_ONCE", 4)
    monkeypatch.setattr("evaluation.statistics.bootstrap.DRAWS_AT_ONCE", 30 * 7)
    values, weights = with_gaps(draw(0, 2, 30, 5), share=share), np.random.default_rng(1).integers(0, 4, (2, 30)) / 2
    values[:, 3:5], values[1, :, 2] = np.nan, np.nan
    compared = compare_methods(table_of(values, weights=weights), samples=300, seed=3)
    resamples = Resamples(30, 300, 3).sums(np.eye(30))  # how often each example is drawn
    for k, i, j in np.ndindex(2, 5, 5):
        difference = values[k, :, i] - values[k, :, j]
        there = ~np.isnan(difference) & (weights[k] > 0)
        found = compared.difference(f"m{i}", f"m{j}", f"k{k}") if i < j else None
        if found is None or not there.any():
            assert found is None or np.isnan([found.low, found.high]).all()
            continue
        counted = resamples[:, there] * weights[k, there]
        drawn = quotients((counted * difference[there]).sum(1), counted.sum(1))[:, None]
        of = moments(difference[there, None], weights[k, there, None])
        assert (found.low, found.high) == pytest.approx(np.ravel(bca_interval(drawn, of, 0.95)), abs=1e-12)
        assert found.n_undefined == 30 - there.sum()


def test_counts_of_resamples_are_kept_or_drawn_again(monkeypatch):
    values = draw(0, 50, 3)
    kept = Resamples(50, 20, 1)
    once, again = kept.sums(values), kept.sums(values)
    monkeypatch.setattr("evaluation.statistics.bootstrap.KEPT", 0)
    assert np.array_equal(once, again)
    assert np.array_equal(once, Resamples(50, 20, 1).sums(values))
    rows = np.array([3, 4, 40])
    assert kept.sums(values[rows], rows) == pytest.approx(
        kept.sums(np.where(np.isin(range(50), rows)[:, None], values, 0))
    )


def test_weights_count():
    values, weights = draw(0, 30, 2), np.random.default_rng(1).integers(0, 4, 30).astype(float)
    found = compare_methods(table_of(values, weights=weights[None]), samples=4000).difference("m0", "m1", "k0")
    alone = paired_difference(values[:, 0], values[:, 1], weights, samples=4000)
    assert found.value == pytest.approx(np.average(values[:, 0] - values[:, 1], weights=weights))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.03)
    assert found.n_undefined == (weights == 0).sum()


@pytest.mark.parametrize("anytime", [False, True])
def test_a_method_without_values_is_compared_with_none(anytime):
    values = draw(0, 30, 3)
    values[:, 1] = np.nan
    compared = compare_methods(table_of(values), samples=50, anytime=anytime)
    found = compared.difference("m0", "m1", "k0")
    assert np.isnan([found.value, found.low, found.high, found.p, found.adjusted]).all()
    assert (found.n, found.n_undefined, found.better) == (0, 30, None)
    assert compared.difference("m0", "m2", "k0").adjusted == compared.difference("m0", "m2", "k0").p


def test_methods_that_are_the_same_do_not_differ_and_a_constant_difference_is_as_sure_as_a_sign_test():
    values = np.repeat(draw(0, 20, 1), 3, axis=1)
    values[:, 2] = 8 * np.round(values[:, 2]) - 1
    values[:, 1] = values[:, 2] + 1
    compared = compare_methods(table_of(values[:, [1, 1, 2]]), samples=50)
    same, constant = compared.difference("m0", "m1", "k0"), compared.difference("m0", "m2", "k0")
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert (constant.value, constant.low, constant.high) == (1, 1, 1)
    assert constant.p == stats.binomtest(20, 20).pvalue


def test_lower_is_better_where_the_metric_says_so():
    values = draw(0, 50, 2) + np.array([0.0, 3.0])
    up, down = (
        compare_methods(table_of(values, higher), samples=50).difference("m1", "m0", "k0") for higher in (True, False)
    )
    assert (up.better, down.better) == (True, False)
    assert up.value == down.value


def test_one_method_cannot_be_compared():
    with pytest.raises(InputError, match="two methods, not 1"):
        compare_methods(table_of(draw(0, 5, 1)))


def test_skewed_differences_are_marked_by_cochrans_rule():
    rng = np.random.default_rng(0)
    for n, rare in ((400, 0.03), (4000, 0.03), (400, 0.5)):
        values = np.zeros((n, 2))
        values[: int(rare * n), 0] = 1
        skewness = (1 - 2 * rare) / np.sqrt(rare * (1 - rare))
        found = compare_methods(table_of(rng.permutation(values)), samples=10).difference("m0", "m1", "k0")
        assert found.skewed == (n < 25 * skewness**2)


# --- promises, by simulation ----------------------------------------------------------------------------------------


def test_bca_intervals_cover_and_miss_on_both_sides():
    """Of means of 40 exponential values. The percentile interval misses nearly always on one side."""
    simulations, n = 800, 40
    values = draw(5, n, simulations)
    found = mean_intervals(table_of(values), samples=1000).values()
    above, below = (np.mean([side]) for side in ([f.low > 1 for f in found], [f.high < 1 for f in found]))
    assert 0.04 < above + below < 0.09  # nominal 0.05; scipy's BCa has 0.065 here
    means = np.sort(values[np.random.default_rng(0).integers(0, n, (1000, n))].mean(1), axis=0)
    percentile_below = (means[974] < 1).mean()
    assert below < percentile_below


def test_holm_keeps_the_chance_of_any_false_difference():
    """Six methods that do not differ, skewed and correlated through their examples; 800 data sets of 60."""
    simulations, n, methods = 800, 60, 6
    values = draw(6, simulations, n, 1) + draw(7, simulations, n, methods)
    compared = compare_methods(table_of(values), samples=2)
    wrong = compared.better.any((1, 2)).mean()
    unadjusted = (compared.p < 0.05).any((1, 2)).mean()
    assert wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / simulations)
    assert unadjusted > 0.3


def test_holm_finds_what_differs():
    values = draw(8, 300, 200, 4)
    values[:, :, 0] += 1
    better = compare_methods(table_of(values), samples=2).better
    assert better[:, 0, 1:].mean() > 0.99
