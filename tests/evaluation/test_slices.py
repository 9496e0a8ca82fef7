"""Slices against scipy's Welch test, by hand, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from value_tables import table_of

from attribution.errors import InputError
from evaluation.statistics import ExampleFacts, slice_findings, standard_slices, worst_slice
from evaluation.statistics.slices import SMALLEST, category_slices, has_negation, quantile_slices


def draw(seed, *shape):
    return np.random.default_rng(seed).gamma(1.0, size=shape)


def findings(values, slices, **options):
    table = table_of(values[:, None], options.pop("higher", True))
    named = {name: [table.items[i] for i in np.flatnonzero(rows)] for name, rows in slices.items()}
    return {found.slice: found for found in slice_findings(table, named, **options)["m0", "k0"]}


def test_each_slice_is_held_against_the_rest_by_welchs_test():
    values = draw(0, 200)
    values[::11] = np.nan
    slices = {"first": np.arange(200) < 50, "odd": np.arange(200) % 2 == 1, "late": np.arange(200) > 150}
    found = findings(values, slices)
    for name, rows in slices.items():
        theirs = stats.ttest_ind(values[rows], values[~rows], equal_var=False, nan_policy="omit")
        simultaneous = theirs.confidence_interval(1 - 0.05 / 3)
        assert found[name].p == pytest.approx(theirs.pvalue)
        assert (found[name].low, found[name].high) == pytest.approx((simultaneous.low, simultaneous.high))
        assert found[name].n == (~np.isnan(values[rows])).sum() == rows.sum() - found[name].n_undefined
        assert found[name].n + found[name].n_outside == (~np.isnan(values)).sum()


@pytest.mark.parametrize("higher", [True, False])
def test_the_worst_slice_is_named(higher):
    values = draw(1, 300)
    weak, weaker = np.arange(300) < 80, np.arange(300) > 240
    sign = 1 if higher else -1
    values[weak] -= 1.5 * sign
    values[weaker] -= 3 * sign
    found = findings(values, {"weak": weak, "weaker": weaker, "any": np.arange(300) % 3 == 0}, higher=higher)
    assert list(found)[:2] == ["weaker", "weak"]
    assert worst_slice(list(found.values())).slice == "weaker"
    assert (found["weak"].worse, found["any"].worse) == (True, False)


def test_small_slices_are_listed_but_not_judged():
    values = draw(2, 60)
    rows = np.arange(60) < SMALLEST - 1
    values[rows] -= 100
    found = findings(values, {"small": rows, "most": ~rows})
    for each in found.values():
        assert np.isnan([each.p, each.adjusted, each.difference, each.low]).all()
        assert not each.worse
    assert found["small"].inside == pytest.approx(values[rows].mean())
    assert worst_slice(list(found.values())) is None


def test_looking_at_many_slices_names_none_where_all_are_alike():
    """20 slices of 300 data sets without any structure: a worst slice in at most 5 % of them."""
    rng = np.random.default_rng(3)
    named = 0
    for _ in range(300):
        slices = {f"s{i}": rng.uniform(size=150) < 0.3 for i in range(20)}
        named += worst_slice(list(findings(rng.gamma(1.0, size=150), slices).values())) is not None
    assert named / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_no_slices_are_refused():
    with pytest.raises(InputError, match="slices"):
        findings(draw(4, 20), {})


def test_quantiles_cut_into_parts_and_leave_nothing_out():
    numbers = {f"i{i}": float(i % 40) for i in range(400)} | {"unknown": float("nan")}
    slices = quantile_slices("length", numbers)
    assert sorted(map(len, slices.values())) == [1, 100, 100, 100, 100]
    assert sorted(item for members in slices.values() for item in members) == sorted(numbers)
    assert next(iter(slices)) == "length [0, 9.75]"
    assert slices["length unknown"] == {"unknown"}
    assert list(map(len, quantile_slices("x", dict.fromkeys("abc", 2.0)).values())) == [3]
    assert quantile_slices("x", {}) == {}


def test_equal_numbers_stay_together():
    slices = quantile_slices("confidence", {f"i{i}": 1.0 if i < 90 else 0.5 for i in range(100)})
    values = [{1.0 if int(item[1:]) < 90 else 0.5 for item in members} for members in slices.values()]
    assert values == [{0.5}, {1.0}] or values == [{0.5, 1.0}]


@pytest.mark.parametrize(
    ("text", "negates"),
    [
        ("not a good film", True),
        ("I don't like it", True),
        ("it isn’t", True),
        ("Nothing works .", True),
        ("no, never", True),
        ("a notable knot", False),
        ("another nosy gnome", False),
        ("did n't work", True),
        ("", False),
    ],
)
def test_negation(text, negates):
    assert has_negation(text) == negates


def test_the_standard_slices_cover_every_example_once_a_family():
    def facts(i):
        return ExampleFacts(
            f"{'not' if i % 3 == 0 else ''} text", i, i / 100, "pos", [None, "pos", "neg"][i % 3], i > 90
        )

    examples = {f"i{i}": facts(i) for i in range(100)}
    slices = standard_slices(examples)
    families = {}
    for label, members in slices.items():
        families.setdefault(label.split()[0], []).extend(members)
    assert set(families) == {"length", "confidence", "prediction", "class", "truncated", "negation"}
    assert all(sorted(members) == sorted(examples) for members in families.values())
    assert slices["prediction wrong"] == slices["class neg"] == {f"i{i}" for i in range(100) if i % 3 == 2}
    assert slices["prediction unknown"] == slices["negation yes"]
    assert slices["truncated yes"] == {f"i{i}" for i in range(91, 100)}
    assert list(category_slices("x", {"a": "q", "b": "p"})) == ["x p", "x q"]
