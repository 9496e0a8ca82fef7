"""Controls, costs and operators against brute force and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from value_tables import table_of

from attribution.errors import InputError
from evaluation.statistics import (
    best_within,
    compare_methods,
    cost_points,
    forward_equivalents,
    lifts,
    mean_intervals,
    operator_agreement,
)
from evaluation.statistics.operators import kendall


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


# --- controls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("higher", [True, False])
def test_a_lift_is_over_the_strongest_control_and_points_up(higher):
    shifts = np.array([3.0, 0.0, 1.0, -3.0]) * (1 if higher else -1)
    values = draw(0, 100, 4) + shifts
    compared = compare_methods(table_of(values, higher, methods=["good", "random", "position", "bad"]), samples=200)
    good, bad = lifts(compared, ["random", "position", "absent"])
    sign = 1 if higher else -1
    assert (good.method, good.control, bad.control) == ("good", "position", "position")
    assert good.value == pytest.approx(sign * (values[:, 0] - values[:, 2]).mean())
    assert good.low < good.value < good.high
    assert (good.above, good.below, bad.above, bad.below) == (True, False, False, True)


def test_methods_have_controls_of_their_own():
    compared = compare_methods(
        table_of(draw(1, 50, 4), methods=["heads", "whole", "random_heads", "random"]), samples=50
    )
    own = {"heads": ["random_heads"], "whole": ["random"]}
    assert {lift.method: lift.control for lift in lifts(compared, own)} == {"heads": "random_heads", "whole": "random"}
    assert lifts(compared, {"heads": ["absent"]}) == []


def test_a_control_without_values_is_not_the_strongest():
    values = draw(2, 50, 3)
    values[:, 1] = np.nan
    compared = compare_methods(table_of(values, methods=["a", "empty", "random"]), samples=50)
    (lift,) = lifts(compared, ["empty", "random"])
    assert lift.control == "random"
    lift = lifts(compared, ["empty"])[0]
    assert (lift.n, lift.above, lift.below) == (0, False, False)


# --- costs ------------------------------------------------------------------------------------------------------------


def test_a_backward_counts_as_two_forwards():
    assert forward_equivalents(3, 2) == 7
    assert forward_equivalents(1, 1, backward=1.5) == 2.5


@pytest.mark.parametrize("higher", [True, False])
def test_the_front_is_what_nothing_dominates(higher):
    rng = np.random.default_rng(3)
    table = table_of(draw(3, 200, 12) + rng.normal(size=12), higher)
    costs = {name: float(rng.integers(1, 6)) for name in table.methods[:11]}
    points = cost_points(table, costs, samples=300)["k0"]
    sign = 1 if higher else -1
    score = {name: sign * table.values[0, :, i].mean() for i, name in enumerate(table.methods)}
    assert [p.cost for p in points] == sorted(costs.values())
    for point in points:
        dominating = {
            name
            for name in costs
            if costs[name] <= costs[point.method]
            and score[name] >= score[point.method]
            and (costs[name] < costs[point.method] or score[name] > score[point.method])
        }
        assert set(point.dominated_by) == dominating
        assert point.on_front == (not dominating)
        interval = mean_intervals(table, samples=300)[point.method, "k0"]
        assert (point.value, point.low, point.high) == pytest.approx(interval[:3])


def test_support_is_how_often_a_resample_has_it_on_the_front():
    """A dear method that is better by one standard error beats the cheap one in about Phi(1) of the resamples."""
    difference = draw(4, 400)
    difference += 1 / 20 - difference.mean()
    difference /= difference.std()
    difference += 1 / 20 - difference.mean()
    table = table_of(np.stack([np.zeros(400), difference], axis=1), methods=["cheap", "dear"])
    cheap, dear = cost_points(table, {"cheap": 1, "dear": 9}, samples=20000)["k0"]
    assert (cheap.support, cheap.on_front, dear.on_front) == (1, True, True)
    assert dear.support == pytest.approx(stats.norm.cdf(1), abs=0.02)


def test_what_a_budget_buys():
    values = draw(5, 300, 4) + np.array([0.0, 1.0, 0.5, 2.0])
    values[:, 2] = np.nan
    points = cost_points(table_of(values), {"m0": 1, "m1": 3, "m2": 3, "m3": 50}, samples=50)["k0"]
    assert [best_within(points, budget) and best_within(points, budget).method for budget in (0.5, 1, 10, 99)] == [
        None,
        "m0",
        "m1",
        "m3",
    ]
    assert not next(point for point in points if point.method == "m2").on_front


# --- operators --------------------------------------------------------------------------------------------------------


def test_kendall_is_that_of_scipy():
    first, second = draw(6, 20, 7).round(), draw(7, 20, 7).round()
    expected = [stats.kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)]
    assert kendall(first, second) == pytest.approx(expected, nan_ok=True)
    assert np.isnan(kendall(np.zeros((1, 3)), draw(8, 1, 3))).all()
    with_gap = np.array([[3.0, np.nan, 1.0, 2.0]])
    expected = stats.kendalltau([3, 1, 2], [1, 2, 3]).statistic
    assert kendall(with_gap, np.array([[1.0, 9.0, 2.0, 3.0]])) == pytest.approx(expected)


def agreement(mask, delete, **options):
    tables = {"mask": table_of(mask), "delete": table_of(delete)}
    compared = {name: compare_methods(table, samples=10) for name, table in tables.items()}
    (found,) = operator_agreement(tables, compared, samples=500, **options)
    return found


def test_a_ranking_that_turns_round_is_found():
    shifts = np.array([0.0, 1.0, 2.0, 3.0])
    found = agreement(draw(9, 200, 4) + shifts, draw(10, 200, 4) + shifts[[0, 1, 3, 2]])
    assert found.tau == pytest.approx(stats.kendalltau(shifts, shifts[[0, 1, 3, 2]]).statistic)
    assert (found.best, found.best_other) == ("m3", "m2")
    assert found.reversals == (("m3", "m2"),)
    assert found.ceiling == pytest.approx(1, abs=0.02)


def test_agreement_falls_with_noise_alone_and_the_ceiling_says_so():
    found = agreement(draw(11, 50, 8) * 3, draw(12, 50, 8) * 3)
    assert found.low <= found.tau <= found.high
    assert found.ceiling < 0.9
    assert found.reversals == ()


def test_operators_meet_on_the_examples_and_methods_that_both_have():
    values = draw(13, 40, 3)
    found = agreement(values, values[:30])
    assert (found.n, found.n_undefined) == (30, 0)
    values[3, 1] = np.nan
    assert (agreement(values, values[:30]).n, agreement(values, values[:30]).n_undefined) == (29, 1)
    tables = {"mask": table_of(values), "delete": table_of(values[:, :1], methods=["m0"])}
    with pytest.raises(InputError, match="1 methods in common"):
        operator_agreement(tables, {})
