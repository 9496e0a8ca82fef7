"""Tests that hold under stopping, and the number of examples that differences take: integration and simulation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats
from value_tables import table_of

from attribution.errors import InputError
from evaluation.statistics import (
    anytime_boundary,
    anytime_test,
    compare_methods,
    detectable_difference,
    drawn_order,
    examples_needed,
    look_sizes,
    mean_interval,
    paired_difference,
    reason_to_stop,
    t_test,
    until_decided,
)
from evaluation.statistics.p_values import _prior


@pytest.mark.parametrize(("t", "n"), [(2.1, 12), (-3.5, 30)])
def test_the_anytime_p_is_a_bayes_factor_by_integration(t, n):
    g = _prior(500)

    def density(effect):
        return stats.nct.pdf(t, n - 1, effect * np.sqrt(n)) * stats.norm.pdf(effect, scale=np.sqrt(g))

    mixture = integrate.quad(density, -8 * np.sqrt(g), 8 * np.sqrt(g), points=[t / np.sqrt(n)], limit=200)[0]
    expected = min(1, stats.t.pdf(t, n - 1) / mixture)
    assert anytime_test(np.array(t), np.array(n)) == pytest.approx(expected, rel=1e-5)


def test_the_anytime_p_is_a_ratio_of_two_t_densities():
    """With effects ~ N(0, g sd^2) the mean is ~ N(0, (1 + n g) sd^2 / n), so that t is a wider t."""
    t, n = np.array([0.5, 2.0, -4.0, 6.0, 30.0]), np.array([50, 100, 300, 2000, 10000])
    wider = np.sqrt(1 + n * _prior(500))
    expected = np.exp(stats.t.logpdf(t, n - 1) - stats.t.logpdf(t / wider, n - 1)) * wider
    assert anytime_test(t, n) == pytest.approx(np.minimum(1, expected), rel=1e-9)


def test_the_boundary_is_where_p_is_alpha():
    n = np.array([50.0, 200.0, 5000.0])
    for alpha in (0.05, 0.001):
        boundary = anytime_boundary(n, alpha)
        assert anytime_test(boundary, n) == pytest.approx(alpha)
        assert (boundary > stats.t.ppf(1 - alpha / 2, n - 1)).all()
    assert anytime_boundary(np.array([2.0]), 1e-6) == np.inf  # two examples cannot show that much


def test_the_boundary_is_narrow_where_it_was_planned():
    n = np.array([100.0, 1000.0, 10000.0])
    widths = {planned: anytime_boundary(n, 0.05, planned) for planned in (100, 1000, 10000)}
    for place, planned in enumerate(widths):
        assert widths[planned][place] == min(width[place] for width in widths.values())


def test_t_test_is_that_of_scipy():
    n = np.array([2, 5, 100])
    assert t_test(np.array([1.0, -2.5, 3.0]), n) == pytest.approx(2 * stats.t.sf([1.0, 2.5, 3.0], n - 1))
    assert t_test(np.array([np.inf]), np.array([6])) == stats.binomtest(6, 6).pvalue
    assert np.isnan(t_test(np.array([0.0]), np.array([1]))).all()
    assert anytime_test(np.array([np.inf]), np.array([6])) == pytest.approx(7 / 64)  # 1 / (2 ** 6 integral p ** 6)


# --- promises under stopping, by simulation ---------------------------------------------------------------------------

NULLS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "mostly equal": lambda rng, shape: rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, size=shape),
    "skewed shares": lambda rng, shape: rng.beta(0.2, 2, size=shape) - 0.2 / 2.2,
}


def running_t(values):
    """t statistics of the first 1, 2, ... of each row."""
    n = np.arange(1, values.shape[1] + 1)
    total, square = values.cumsum(1), (values**2).cumsum(1)
    spread = (square - total**2 / n) / np.maximum(n - 1, 1)
    return np.divide(total, np.sqrt(n * spread), out=np.zeros_like(total), where=spread > 1e-12), n


@pytest.mark.parametrize("name", NULLS)
def test_looking_again_and_again_finds_nothing_where_there_is_nothing(name):
    """1,000 data sets, looked at 37 times from the 100th example to the 1,000th."""
    t, n = running_t(NULLS[name](np.random.default_rng(1), (1000, 1000)))
    looks = slice(99, None, 25)
    wrong = (anytime_test(t[:, looks], n[looks]) <= 0.05).any(1).mean()
    naive = (t_test(t[:, looks], n[looks]) <= 0.05).any(1).mean()
    assert wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    assert naive > 0.15


@pytest.mark.parametrize("true", [0.05, 0.15])
def test_the_interval_at_a_stop_covers(true):
    """Stopping as soon as 0 is outside: the intervals reported then still hold the true mean."""
    simulations = 1000
    values = np.random.default_rng(2).exponential(size=(simulations, 2000)) - 1 + true
    t, n = running_t(values)
    mean = values.cumsum(1) / n
    error = np.divide(mean, t, out=np.full_like(mean, np.inf), where=t != 0)
    half = anytime_boundary(n.astype(float), 0.05) * error
    looks = np.array(list(look_sizes(2000))) - 1
    stopped = looks[
        np.argmax(np.append((np.abs(mean) > half)[:, looks[:-1]], np.ones((simulations, 1)), axis=1), axis=1)
    ]
    rows = np.arange(simulations)
    missed = np.abs(mean[rows, stopped] - true) > half[rows, stopped]
    naive = np.abs(mean - true) > stats.t.ppf(0.975, n) * error
    early = looks[np.argmax(np.append((np.abs(t) > 1.96)[:, looks[:-1]], np.ones((simulations, 1)), axis=1), axis=1)]
    assert missed.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / simulations)
    assert naive[rows, early].mean() > missed.mean() + 0.01


def test_the_interval_of_a_mean_is_that_of_the_test():
    """Its ends are the means that the test rejects at just alpha; of equal values, and of one, there is no width."""
    values = np.random.default_rng(5).gamma(1.0, size=250)
    found = mean_interval(values, confidence=0.9, anytime=True)
    error = values.std(ddof=1) / np.sqrt(250)
    for end in (found.low, found.high):
        assert anytime_test(np.array((values.mean() - end) / error), np.array(250)) == pytest.approx(0.1)
    assert found.low < mean_interval(values, confidence=0.9).low
    assert found.value == pytest.approx(values.mean())
    assert paired_difference(values, values + 1, anytime=True)[1:3] == pytest.approx((-1, -1))
    with_gaps = mean_interval([*values, np.nan, 5.0], [*np.ones(251), 0.0], confidence=0.9, anytime=True)
    assert with_gaps == (found.value, found.low, found.high, 250, 2)


@pytest.mark.parametrize(("budget", "stopped"), [(200, "spent"), (10**9, "decided")])
def test_the_interval_covers_where_time_or_the_verdict_stops_a_run(budget, stopped):
    """Examples of a long text take longer and have larger values, so that time knows something of what is measured."""
    simulations, n, true = 1000, 1000, 0.2
    rng, sizes = np.random.default_rng(6), [12, 25, 50, *look_sizes(1000)]
    long = rng.exponential(size=(simulations, n))
    values = long + rng.normal(size=(simulations, n)) - 1 + true
    passed = long.cumsum(1)[:, np.array(sizes) - 1]
    missed, reasons = 0, []
    for row in range(simulations):
        for done, size in enumerate(sizes, 1):
            found = mean_interval(values[row, :size], anytime=True)
            decided = size >= 100 and not found.low <= 0 <= found.high
            if reason := reason_to_stop(decided, sizes, passed[row, :done].tolist(), budget):
                break
        missed += not found.low <= true <= found.high
        reasons.append(reason)
    assert reasons.count(stopped) / simulations > 0.5
    assert missed / simulations < 0.05 + 3 * np.sqrt(0.05 * 0.95 / simulations)


def test_holm_holds_under_stopping():
    """Five methods that do not differ, 200 data sets, judged at each look; a false difference at any look counts."""
    simulations, n = 200, 800
    rng = np.random.default_rng(3)
    values = rng.gamma(1.0, size=(simulations, n, 1)) + rng.gamma(1.0, size=(simulations, n, 5))
    wrong = np.zeros(simulations, dtype=bool)
    for size in look_sizes(n, growth=1.6):
        wrong |= compare_methods(table_of(values[:, :size]), anytime=True).better.any((1, 2))
    assert wrong.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / simulations)


# --- power ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_so_many_examples_have_that_power(effect, alpha):
    """By the noncentral t distribution."""
    n = float(examples_needed(effect * 3.0, 3.0, alpha=alpha, power=0.8))
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    assert stats.nct.sf(critical, n - 1, effect * np.sqrt(n)) == pytest.approx(0.8, abs=0.015)


def test_so_many_examples_are_enough_at_a_single_look_of_an_anytime_test():
    n = int(examples_needed(0.2, 1.0, boundary=anytime_boundary))
    values = np.random.default_rng(4).normal(0.2, 1.0, (2000, n))
    t, counts = running_t(values)
    assert (anytime_test(t[:, -1], counts[-1]) <= 0.05).mean() == pytest.approx(0.8, abs=0.03)
    assert n > examples_needed(0.2, 1.0)


def test_no_number_of_examples_shows_no_difference():
    found = examples_needed([0.0, 1.0, np.nan, 1e-9], [1.0, 0.0, 1.0, 1.0])
    assert found[0] == found[3] == np.inf
    assert found[1] <= 3
    assert np.isnan(found[2])


def test_the_detectable_difference_takes_just_those_examples():
    n = examples_needed([0.1, 0.5], 2.0, alpha=0.01, power=0.9)
    assert detectable_difference(2.0, n, alpha=0.01, power=0.9) == pytest.approx([0.1, 0.5], rel=0.02)


# --- adding examples --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    ids: tuple[str, ...]
    decided: bool


ITEMS = [f"x{i}" for i in range(1000)]


def looks(limit=10**9, **options):
    return list(until_decided(ITEMS, lambda ids: Look(tuple(ids), len(ids) >= limit), **options))


def test_examples_are_added_in_a_drawn_order_until_it_is_decided():
    found = looks(limit=300)
    assert [each.decided for each in found] == [False] * (len(found) - 1) + [True]
    assert len(found[-1].ids) < 400
    for few, more in pairwise(found):
        assert more.ids[: len(few.ids)] == few.ids


def test_all_examples_are_the_last_look_and_a_spent_budget_ends_it():
    assert sorted(looks()[-1].ids) == sorted(ITEMS)
    answers = iter([False, False, True])
    assert len(looks(spent=lambda: next(answers))) == 3
    assert list(until_decided([], lambda ids: Look(tuple(ids), False))) == []
    assert [len(each.ids) for each in until_decided(ITEMS[:7], lambda ids: Look(tuple(ids), False))] == [7]


def test_the_order_is_one_of_the_ids_and_the_seed():
    order = drawn_order(ITEMS, 1)
    assert order == drawn_order(reversed(ITEMS), 1) != drawn_order(ITEMS, 2)
    assert sorted(order) == sorted(ITEMS) != order
    kept = [item for item in order if item in set(ITEMS[:500])]
    assert kept == drawn_order(ITEMS[:500], 1)  # more examples change nothing about those that were there


def test_looks_grow():
    sizes = list(look_sizes(2000))
    assert (sizes[0], sizes[-1]) == (100, 2000)
    assert all(1.2 <= b / a <= 1.26 for a, b in pairwise(sizes[:-1]))
    with pytest.raises(InputError, match=r"growth=1 "):
        list(look_sizes(10, growth=1))


@pytest.mark.parametrize(
    ("decided", "seconds", "budget", "reason"),
    [
        (True, [9.0], 1.0, "decided"),
        (True, [1, 2, 3], 100, "decided"),
        (False, [1, 2, 3], 100, "exhausted"),
        (False, [4.0], 8.0, None),  # 10 more like the first 10 end at 8
        (False, [4.0], 7.9, "spent"),
        (False, [1.0, 5.0], 25.0, None),  # 50 more at 0.4 s
        (False, [1.0, 5.0], 24.9, "spent"),
        (False, [9.0], 8.0, "spent"),
    ],
)
def test_no_round_is_begun_that_would_not_fit(decided, seconds, budget, reason):
    assert reason_to_stop(decided, [10, 20, 70], seconds, budget) == reason
