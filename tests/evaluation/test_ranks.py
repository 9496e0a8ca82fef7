"""Places of methods against scipy, published constants and enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from value_tables import table_of

from attribution.errors import InputError
from evaluation.statistics import (
    compare_methods,
    critical_difference_across,
    critical_difference_within,
    rank_intervals,
    win_matrix,
    wins_across,
)
from evaluation.statistics.ranks import critical_difference

# q_0.05 for 2 to 10 methods: Demsar 2006, table 5 (a)
NEMENYI = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("size", range(2, 11))
def test_the_critical_difference_is_that_of_demsars_table(size):
    n = 14
    found = critical_difference(draw(0, n, size), [f"m{i}" for i in range(size)], higher_is_better=True)
    assert found.difference == pytest.approx(NEMENYI[size - 2] * np.sqrt(size * (size + 1) / (6 * n)), abs=2e-3)


@pytest.mark.parametrize("ties", [False, True])
def test_friedmans_test_is_that_of_scipy(ties):
    blocks = draw(1, 30, 5) + np.arange(5) * 0.3
    blocks = blocks.round() if ties else blocks
    theirs = stats.friedmanchisquare(*blocks.T)
    found = critical_difference(blocks, list("abcde"), higher_is_better=True)
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_mean_ranks_and_groups_by_hand():
    """Two methods always ahead of two others: with 100 blocks the critical difference is 0.469."""
    blocks = np.array([[4.0, 3, 2, 1], [3, 4, 1, 2]] * 50)
    found = critical_difference(blocks, ["a", "b", "c", "d"], higher_is_better=True)
    assert found.methods == ("a", "b", "c", "d")
    assert found.mean_ranks == (1.5, 1.5, 3.5, 3.5)
    assert found.groups == (("a", "b"), ("c", "d"))
    down = critical_difference(blocks, ["a", "b", "c", "d"], higher_is_better=False)
    assert down.methods == ("c", "d", "a", "b")


def test_groups_are_the_longest_runs_within_the_difference():
    blocks = draw(2, 60, 7) + np.arange(7) * 0.35
    found = critical_difference(blocks, list("abcdefg"), higher_is_better=True)
    runs = [
        found.methods[i:j]
        for i, j in itertools.combinations(range(8), 2)
        if j - i > 1 and found.mean_ranks[j - 1] - found.mean_ranks[i] < found.difference
    ]
    longest = [run for run in runs if not any(set(run) < set(other) for other in runs)]
    assert list(found.groups) == longest
    assert len(longest) > 1


def test_blocks_without_all_methods_and_methods_without_values_are_told():
    values = draw(3, 20, 4)
    values[:, 2] = np.nan
    values[:5, 0] = np.nan
    found = critical_difference_within(table_of(values), "k0")
    assert (found.n, found.n_undefined, found.left_out) == (15, 5, ("m2",))
    assert sorted(found.methods) == ["m0", "m1", "m3"]
    with pytest.raises(InputError, match="two blocks and two methods"):
        critical_difference_within(table_of(values[:, 1:3]), "k0")


def test_across_data_sets_each_ranks_by_its_means():
    tables = [table_of(draw(seed, 30, 3) + np.array([0, 2, 1]), higher=False) for seed in range(6)]
    found = critical_difference_across(tables, "k0")
    expected = np.mean([stats.rankdata(np.mean(table.values[0], axis=0)) for table in tables], axis=0)
    assert dict(zip(found.methods, found.mean_ranks, strict=True)) == pytest.approx(
        dict(zip(["m0", "m1", "m2"], expected, strict=True))
    )
    assert found.n == 6
    incomplete = critical_difference_across([*tables, table_of(draw(9, 30, 2))], "k0")
    assert (incomplete.n, incomplete.n_undefined) == (6, 1)


def test_the_means_of_a_data_set_are_over_the_examples_that_all_methods_have():
    values = np.array([[1.0, 2.0], [3.0, 0.0], [9.0, np.nan]])
    weights = np.array([[1.0, 3.0, 1.0]])
    found = critical_difference_across([table_of(values, weights=weights)] * 2, "k0")
    assert found.methods == ("m0", "m1")  # 10 / 4 against 2 / 4


def test_wins_are_counted():
    values = draw(4, 40, 3).round(1)
    values[np.random.default_rng(0).uniform(size=values.shape) < 0.1] = np.nan
    for higher in (True, False):
        found = win_matrix(table_of(values, higher), "k0")
        for i, j in itertools.permutations(range(3), 2):
            a, b = values[:, i] * (1 if higher else -1), values[:, j] * (1 if higher else -1)
            assert found.wins[i, j] == sum(x > y for x, y in zip(a, b, strict=True))
            assert found.ties[i, j] == sum(x == y for x, y in zip(a, b, strict=True))
            assert found.n[i, j] == sum(not np.isnan(x + y) for x, y in zip(a, b, strict=True))
            assert found.share[i, j] + found.share[j, i] == pytest.approx(1)
    assert np.isnan(np.diag(found.share)).all()


def test_rank_intervals_by_hand():
    """Two that tie ahead of one, and one so noisy that it may be anywhere."""
    rng = np.random.default_rng(5)
    common = rng.normal(0, 0.01, (200, 4))
    values = common + np.array([1.0, 1.0, 0.0, 0.5]) + rng.normal(0, 30, (200, 4)) * [0, 0, 0, 1]
    places = {
        rank.method: (rank.best, rank.worst) for rank in rank_intervals(compare_methods(table_of(values), samples=10))
    }
    assert places["m0"] == places["m1"] == (1, 3)
    assert places["m2"] == (3, 4)
    assert places["m3"] == (1, 4)


def test_rank_intervals_hold_all_true_places():
    """300 data sets with true means 0, 0, 0.3, 0.6: where methods tie, any order of them is true."""
    values = draw(6, 300, 80, 4) + np.array([0.6, 0.3, 0.0, 0.0])
    true = {"m0": (1, 1), "m1": (2, 2), "m2": (3, 4), "m3": (3, 4)}
    wrong = {
        rank.metric
        for rank in rank_intervals(compare_methods(table_of(values), samples=2))
        if not rank.best <= true[rank.method][0] <= true[rank.method][1] <= rank.worst
    }
    assert len(wrong) / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_wins_across_data_sets():
    tables = [table_of(draw(seed, 100, 2) + np.array([0.0, shift])) for seed, shift in enumerate((5, 5, -5, 0))]
    tables.append(table_of(draw(9, 100, 3) + np.array([0.0, 5.0, 0.0])))
    methods, counts = wins_across([compare_methods(table, samples=10) for table in tables], "k0")
    assert methods == ("m0", "m1")
    assert counts.tolist() == [[0, 1], [3, 0]]
