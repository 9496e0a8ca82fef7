"""Intervals against scipy, the normal approximation, and enumeration."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from attribution.errors import InputError
from evaluation import Interval, bootstrap_columns, mean_interval, paired_difference
from evaluation.statistics.bootstrap import bca_interval, sorted_quantiles
from evaluation.statistics.moments import moments

DRAWN = np.random.default_rng(7)


def test_agrees_with_the_bca_bootstrap_of_scipy():
    values = DRAWN.gamma(2.0, size=80)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, confidence_level=0.9, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = mean_interval(values, samples=20000, confidence=0.9, seed=1)
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_agrees_with_the_normal_approximation():
    values = DRAWN.normal(1.0, 2.0, size=2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    interval = mean_interval(values, samples=5000)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_weighted_mean_is_a_ratio_of_sums():
    hits, sizes = DRAWN.integers(0, 3, 60), DRAWN.integers(2, 9, 60)
    ours = mean_interval(hits / sizes, sizes, samples=20000, confidence=0.9)
    theirs = stats.bootstrap(
        (hits, sizes),
        lambda h, s, axis: h.sum(axis) / s.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20000,
        confidence_level=0.9,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.value == pytest.approx(hits.sum() / sizes.sum())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_the_interval_of_given_resamples_is_that_of_scipy():
    """No chance is left: scipy turns the very same resampled means into its interval."""
    values = (8 * DRAWN.gamma(1.0, size=(32, 4))).round() / 8  # resampled means tie with the mean, exactly
    means = bootstrap_columns(values, np.ones_like(values), samples=3000, seed=0)
    results = [SimpleNamespace(bootstrap_distribution=column) for column in means.T.copy()]
    theirs = [
        stats.bootstrap((v,), np.mean, n_resamples=0, bootstrap_result=r, confidence_level=0.9).confidence_interval
        for v, r in zip(values.T, results, strict=True)
    ]
    ours = bca_interval(means, moments(values, np.ones_like(values)), 0.9)
    assert np.transpose(ours) == pytest.approx(np.array(theirs), abs=1e-9)


def test_quantiles_of_columns_leave_out_what_is_undefined():
    columns = DRAWN.normal(size=(51, 3))
    columns[::7, 1] = np.nan
    levels = np.array([[0.1, 0.2, 0.3], [0.9, 0.8, 0.0]])
    expected = [[np.nanquantile(c, q) for c, q in zip(columns.T, row, strict=True)] for row in levels]
    assert sorted_quantiles(columns.copy(), levels) == pytest.approx(np.array(expected))


def test_all_resamples_of_three_values():
    values = np.array([0.0, 1.0, 5.0])
    every = sorted(values[[i, j, k]].mean() for i in range(3) for j in range(3) for k in range(3))
    drawn = bootstrap_columns(values[:, None], np.ones((3, 1)), samples=50000, seed=0)[:, 0]
    shares = [np.isclose(drawn, mean).mean() for mean in sorted(set(every))]
    assert shares == pytest.approx([every.count(mean) / 27 for mean in sorted(set(every))], abs=0.01)


def test_seeded_and_the_same_however_it_is_cut(monkeypatch):
    values = DRAWN.normal(size=50)
    once = mean_interval(values, seed=3)
    assert mean_interval(torch.tensor(values), seed=3) == once
    assert mean_interval(values, seed=4) != once
    monkeypatch.setattr("evaluation.statistics.bootstrap.DRAWS_AT_ONCE", 50 * 7)
    assert mean_interval(values, seed=3) == pytest.approx(once, abs=1e-14)


def test_undefined_values_are_counted_and_left_out():
    values = DRAWN.normal(size=40)
    with_gaps = np.insert(values, [0, 5, 40], np.nan)
    assert mean_interval(with_gaps) == mean_interval(values)._replace(n_undefined=3)
    assert mean_interval([1.0, 2.0, 4.0], [1, 0, 1])[3:] == (2, 1)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_nothing_defined(values):
    interval = mean_interval(values)
    assert np.isnan(interval[:3]).all()
    assert interval[3:] == (0, len(values))


@pytest.mark.parametrize("values", [[0.1], [0.1] * 7])
def test_equal_values_have_no_width(values):
    assert mean_interval(values) == Interval(0.1, 0.1, 0.1, len(values), 0)


def test_pairing_removes_what_examples_have_in_common():
    difficulty = DRAWN.normal(0, 10, size=300)
    a, b = difficulty + DRAWN.normal(0.5, 0.1, size=300), difficulty.copy()
    paired = paired_difference(a, b)
    assert paired.value == pytest.approx((a - b).mean())
    assert 0.4 < paired.low < paired.value < paired.high < 0.6
    assert paired == mean_interval(a - b)
    assert paired.value == pytest.approx(-paired_difference(b, a).value)


def test_a_pair_needs_both():
    interval = paired_difference([1.0, np.nan, 3.0, 9.0], [0.0, 1.0, np.nan, 6.0], [1, 1, 1, 3])
    assert interval.value == pytest.approx((1 + 3 * 3) / 4)
    assert interval[3:] == (2, 2)


def test_different_examples_are_refused():
    with pytest.raises(InputError, match="3 and 2"):
        paired_difference([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="weights"):
        mean_interval([1, 2, 3], [1, 2])
